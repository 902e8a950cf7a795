/* A progress bar on a terminal, lines at the start and the end elsewhere. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress;
/* @fd borrowed, usually 2. @total 0 = unknown. Draws at most ten times a second. */
struct progress *progress_new(int fd, const char *label, uint64_t total_bytes);
void progress_update(struct progress *p, uint64_t done_bytes);
/* Ends the line: "label: done, 12 MiB in 3 s" or "label: failed". Frees; accepts NULL; returns NULL. */
struct progress *progress_finish(struct progress *p, bool ok);
