/* A layer's blob as the stream of its tar: unpacked while it is read, in whatever way its content says that it is packed (gzip, zstd, xz, bzip2,
 * not at all), and verified: the blob against its digest once more (it may have been damaged on disk), what it unpacks to against the
 * configuration's diff_id. Linked into skerry-image only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "image/oci.h"
#include "store/store.h"

struct layer;
/* @diff_id: "sha256:…". @fresh: this process has just written and verified the blob, which is not done once more. Errors: -ENOENT, -EBADMSG (kind DATA): another size than the descriptor's, a media type that is no layer's. */
int layer_open(const struct store *s, const struct oci_descriptor *d, const char *diff_id, bool fresh,
	       struct layer **ret, struct error *err);
/* A tar_read_fn. Errors: -EBADMSG (kind DATA) for what is damaged, or unpacks to more than it could honestly hold. */
int layer_read(void *layer, const void **ret, size_t *ret_n, struct error *err);
/* How much of the blob has been used. */
uint64_t layer_progress(const struct layer *l);
/* Reads what is left and compares the digests. Errors: -EBADMSG (kind DATA). */
int layer_finish(struct layer *l, struct error *err);
struct layer *layer_free(struct layer *l); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct layer *, layer_free);
