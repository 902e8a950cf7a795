/* What was fetched from the web for machines (image_fetch.c): downloads/ of the store. An image that was made of such a file without a copy is a link to it, and
 * a machine that is being installed has it in its drive: what is used so stays. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "store/store.h"

struct downloads {
	uint64_t n, n_used;
	uint64_t bytes, gain_bytes; /* really allocated; what would be given back */
};
/* Looks at all of them; with @gone what nobody uses is removed, gain_bytes being what that gave back, and whoever makes machines waits. What was
 * fetched or asked for within the last hour is about to be used, and while something is fetched nothing is removed. Errors: -ENOENT when there has
 * never been one. */
int downloads_look(struct store *s, bool gone, struct downloads *ret, struct error *err);
