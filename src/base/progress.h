/* A progress bar on a terminal, lines at the start and the end elsewhere. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct progress;
/* @fd borrowed, usually 2. @total 0 = unknown. Draws at most ten times a second. */
struct progress *progress_new(int fd, const char *label, uint64_t total_bytes);
void progress_update(struct progress *p, uint64_t done_bytes);
/* Ends the line: "label: done, 12 MiB in 3 s" or "label: failed". Frees; accepts NULL; returns NULL. */
struct progress *progress_finish(struct progress *p, bool ok);

/* The text of a bar, as much of it as @width columns hold, as a line that wraps cannot be redrawn:
 * "label  [####    ]  42%  12 MiB / 30 MiB". @label is shown as it is and takes @label_width columns. */
void progress_line(struct buf *out, const char *label, size_t label_width, uint64_t done_bytes, uint64_t total_bytes,
		   size_t width);
