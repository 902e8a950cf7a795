/* Standard output of the container, where the guest's console goes. Its reader may be slow, or gone for good (an attached terminal that nobody looks at):
 * it is written to when it takes something and never waited for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/loop.h"

struct output;
/* @fd is borrowed. @on_room: some of what waited was taken; may be NULL. */
int output_new(struct loop *l, int fd, void (*on_room)(void *data), void *data, struct output **ret);
/* What is to be written: the caller appends to it and then calls output_added(). */
struct buf *output_buf(struct output *o);
void output_added(struct output *o);
/* False: so much waits that no more should be appended for now. */
bool output_has_room(const struct output *o);
/* Writes what is left as long as somebody takes it, until @deadline_ns (CLOCK_MONOTONIC) at most. The loop is not needed any more. */
void output_finish(struct output *o, uint64_t deadline_ns);
struct output *output_free(struct output *o); /* accepts NULL; returns NULL */
