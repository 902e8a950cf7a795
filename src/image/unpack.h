/* From blobs to a bootable image: the layers of a manifest that is in the store are applied, straight from their compressed streams, into a
 * disk; the disk is sealed. Every source of images ends here. Linked into skerry-image only. */
#pragma once

#include <stdbool.h>

#include "image/arrivals.h"
#include "image/oci.h"
#include "image/tree.h"
#include "store/store.h"

/* Makes @dirfd/@name, a qcow2 that refers to no other file, of the disk image @fd, whatever its format; *ret_bytes is its virtual size.
 * @scratch_path: a directory for what that takes. Errors: kind DATA for what is no disk or refers elsewhere. */
typedef int (*unpack_disk_fn)(int fd, int dirfd, const char *name, const char *scratch_path, uint64_t *ret_bytes,
			      struct error *err);

struct unpack_request {
	const struct oci_descriptor *manifest; /* it, its config and its layers are blobs of ours */
	const char *name;                      /* to seal it under; NULL = none */
	const char *source;                    /* for people: "registry docker.io/library/debian:12" */
	const char *base_source;               /* as in struct image_meta; NULL = none */
	const char *format;                    /* what create_tree makes: "ext4" (NULL), "erofs" */
	bool any_format;                       /* nobody asked for it: a whole disk is fine, too */
	uint64_t disk_bytes;                   /* virtual size; 0 = chosen by the content */
	tree_create_fn create_tree;
	unpack_disk_fn
		make_disk; /* for images that hold a whole disk (container_disk.h); NULL = they are taken for trees */
	int progress_fd;   /* -1 = silent */
	const struct strv *fresh;  /* digests of blobs that this process has just written and verified; NULL = none */
	struct arrivals *arrivals; /* config and layers are still coming: each is waited for; NULL = all are there */
};
/* The caller holds blob_lock() shared. *ret_digest (may be NULL) is owned by the caller. Errors: -EBADMSG (kind DATA) naming layer and entry;
 * -ECANCELED when a blob does not come. */
int image_unpack(const struct store *s, const struct unpack_request *r, char **ret_digest, struct error *err);
/* The disk alone, in @fd, an empty file open for reading and writing: what is in it is what image_unpack() would seal. name, source and
 * make_disk do not count. Lock and errors as there. */
int image_unpack_file(const struct store *s, const struct unpack_request *r, int fd, struct error *err);
