/* An image out of a registry: its documents, chosen by platform, and its blobs. Sources: the OCI distribution specification ("Pulling manifests",
 * "Pulling blobs"), the image specification. Linked into skerry-image only. */
#pragma once

#include "base/progress_board.h"
#include "image/arrivals.h"
#include "image/oci.h"
#include "image/reference.h"
#include "image/registry.h"

/* Finds the manifest of @ref for @platform ("linux/arm64"; NULL = this machine's). It and the indexes that lead to it are blobs of ours
 * afterwards; what is one already is not fetched. The caller holds blob_lock() shared. *ret is owned by the caller.
 * Errors: kind NOT_FOUND; kind DATA for documents that are none, or not what their digest says. */
int pull_resolve(struct registry *r, const struct store *s, const struct reference *ref, const char *platform,
		 struct oci_descriptor *ret, struct error *err);
/* Brings in the configuration and the layers of a manifest of ours. @elsewhere: layers whose descriptor names other addresses than the
 * registry's are fetched from there; without it such an image is refused. @arrivals (may be NULL) is told of each. */
int pull_layers(struct registry *r, const struct store *s, const struct oci_descriptor *manifest, bool elsewhere,
		struct arrivals *arrivals, struct progress_board *board, struct error *err);
