/* Blobs out of a registry, several at once, into our store: what is there is not fetched, what is half there is gone on with, what breaks is
 * tried again. Linked into skerry-image only. */
#pragma once

#include "base/progress_board.h"
#include "image/arrivals.h"
#include "image/oci.h"
#include "image/registry.h"

struct fetch_source {
	const struct oci_descriptor *blob; /* borrowed */
	const char *url; /* borrowed; elsewhere than in the registry: it gets no credentials; NULL = in the registry */
};
/* Brings all of them in. The caller holds blob_lock() shared. Each gets a line on @board (may be NULL) and is told to @arrivals (may be NULL). When one fails the others are given up;
 * what was fetched of them stays for the next try. Errors: -EBADMSG (kind DATA) for a blob that is not what its digest and size say. */
int fetch_blobs(struct registry *r, const struct store *s, const struct fetch_source *blobs, size_t n,
		struct arrivals *arrivals, struct progress_board *board, struct error *err);
