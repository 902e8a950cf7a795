/* The engine's log: what the engine and its monitor have to say, in a file that a guest which makes the engine talk cannot fill a disk with. */
#pragma once

#include "base/cleanup.h"
#include "base/error.h"
#include "base/loop.h"

#define ENGINE_LOG   "engine.log"
#define ENGINE_LOG_1 "engine.log.1" /* what was in it before */

struct engine_log;
/* Opens the log below @dir_fd for appending, as all do who write to it: it may become empty at any time. Returns the descriptor. */
int engine_log_open(int dir_fd);
/* From now on a log of more than a MiB is moved to ENGINE_LOG_1, in the place of what is there. @dir_fd and @log_fd are borrowed until
 * engine_log_free(). */
int engine_log_watch(struct loop *l, int dir_fd, int log_fd, struct engine_log **ret);
/* Accepts NULL; returns NULL. */
struct engine_log *engine_log_free(struct engine_log *e);
