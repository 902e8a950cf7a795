/* Throwing images' leftovers away: what no name, no machine and nobody who is at work needs. Links nothing heavy.
 *
 * Safe at any time, beside pulls, commits and the making of machines, as long as the caller holds the names lock (store_names_lock()), which
 * machine_create() holds from finding an image to naming the machine: an image is used by then, or not yet looked for. Blobs are touched
 * only while nobody brings any in (blob_lock()). What a crash leaves here is found by the next one. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "store/store.h"

/* As for image_delete(): 1 with the user's name, 0, or -errno, which counts as used. */
typedef int (*image_in_use_t)(const char *digest, char **ret_by, void *data);

struct prune_request {
	/* Also images that have a name, when no machine uses them; and without before_ns what is kept for the next try of a pull. */
	bool all;
	uint64_t before_ns; /* only images sealed before this (CLOCK_REALTIME); 0 = whenever */
	image_in_use_t in_use;
	void *data;
};

struct prune_result {
	struct strv names;   /* of images that are gone */
	struct strv digests; /* of disks that are gone */
	size_t n_blobs, n_partial, n_leftovers;
	uint64_t freed_bytes; /* really allocated; a disk that another image shares frees nothing */
	bool blobs_kept;      /* somebody brings images in: blobs were left alone */
};
void prune_result_done(struct prune_result *r);

int image_prune(const struct store *s, const struct prune_request *req, struct prune_result *ret, struct error *err);

/* Blobs that a name, a sealed disk or what these lead to needs: digests, sorted. With @in_use only images that it says are used count; NULL: all.
 * Errors: -EBADMSG (kind DATA) when a manifest cannot be read, and so what it needs is not known. */
int image_needed_blobs(const struct store *s, image_in_use_t in_use, void *data, struct strv *ret, struct error *err);
