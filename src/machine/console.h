/* The guest's console: one connection to the engine, any number of people, a bounded log. */
#pragma once

#include <stddef.h>

#include "base/loop.h"

struct console;

/* @engine_fd: connected to the engine's console socket, owned from now on; -1 = none (then only console_log() feeds the log).
 * @machine_fd (console.log) and @run_fd (console.sock) are borrowed. */
int console_new(struct loop *l, int engine_fd, int machine_fd, int run_fd, struct console **ret);
/* Adds output that did not come through the console (a detached main process): log and watchers get it. */
void console_log(struct console *c, const void *p, size_t n);
struct console *console_free(struct console *c);
