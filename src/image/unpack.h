/* From blobs to a bootable image: the layers of a manifest that is in the store are applied, straight from their compressed streams, into a
 * disk; the disk is sealed. Every source of images ends here. Linked into skerry-image only. */
#pragma once

#include "image/oci.h"
#include "image/tree.h"
#include "store/store.h"

struct unpack_request {
	const struct oci_descriptor *manifest; /* it, its config and its layers are blobs of ours */
	const char *name;                      /* to seal it under; NULL = none */
	const char *source;                    /* for people: "registry docker.io/library/debian:12" */
	const char *format;                    /* "ext4" (NULL), "erofs" */
	uint64_t disk_bytes;                   /* virtual size; 0 = chosen by the content */
	tree_create_fn create_tree;
	int progress_fd; /* -1 = silent */
};
/* The caller holds blob_lock() shared. *ret_digest (may be NULL) is owned by the caller. Errors: -EBADMSG (kind DATA) naming layer and entry. */
int image_unpack(const struct store *s, const struct unpack_request *r, char **ret_digest, struct error *err);
