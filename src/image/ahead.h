/* A stream that is made in a thread of its own, a few pieces ahead of whoever reads it: two things that take time, unpacking and writing, are
 * done at once. Only skerry-image has threads; they share nothing but the pieces. */
#pragma once

#include <stddef.h>

#include "base/cleanup.h"
#include "base/error.h"

/* Fills up to @n bytes, as many as it can; *ret_n 0 at the end. Called in the thread only. */
typedef int (*ahead_fill_fn)(void *data, void *p, size_t n, size_t *ret_n, struct error *err);

struct ahead;
/* @data is the thread's until ahead_stop(). Errors: of starting a thread. */
int ahead_start(ahead_fill_fn fill, void *data, struct ahead **ret, struct error *err);
/* The next piece, borrowed until the next call; *ret_n 0 at the end. An error of @fill comes in its place, and again with each call. */
int ahead_read(struct ahead *a, const void **ret, size_t *ret_n, struct error *err);
/* Ends the thread, wherever it is. Accepts NULL; returns NULL. */
struct ahead *ahead_free(struct ahead *a);
DEFINE_CLEANUP(struct ahead *, ahead_free);
