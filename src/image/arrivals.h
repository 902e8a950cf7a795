/* Blobs that are still coming: one thread brings them in, whoever wants them waits for each by its digest. They share nothing else. Linked into
 * skerry-image only. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "base/cleanup.h"
#include "base/error.h"

struct arrivals;

/* Brings everything in, in a thread of its own; tells of each with arrivals_add(), and ends when arrivals_stop_flag() is up. */
typedef int (*arrivals_bring_fn)(struct arrivals *a, void *data, struct error *err);

/* @data is the thread's until the end. Errors: of starting a thread. */
int arrivals_start(arrivals_bring_fn bring, void *data, struct arrivals **ret, struct error *err);
/* Ends the thread, wherever it is. Accepts NULL; returns NULL. */
struct arrivals *arrivals_free(struct arrivals *a);
DEFINE_CLEANUP(struct arrivals *, arrivals_free);

/* The thread's: this blob is in the store. @fresh: it has just been written and verified. Accepts NULL. */
void arrivals_add(struct arrivals *a, const char *digest, bool fresh);
/* Up when nobody wants more; borrowed. NULL for NULL. */
const atomic_bool *arrivals_stop_flag(const struct arrivals *a);

/* Waits for a blob. *ret_fresh as above. Errors: -ECANCELED when it will not come; why, arrivals_finish() tells. */
int arrivals_wait(struct arrivals *a, const char *digest, bool *ret_fresh, struct error *err);
/* Has the thread done what it can, well or badly? */
bool arrivals_have_ended(const struct arrivals *a);
/* Waits until it has, with @stop after the blob that it is at. Returns what it returned, and its error. */
int arrivals_finish(struct arrivals *a, bool stop, struct error *err);
