/* Where a disk is made: a ".tmp-…" directory below images/disks, locked while its maker lives. Sealing gives it its name; whatever
 * fails, the directory goes; after a crash the next one that is opened removes it. Linked into skerry-image only. */
#pragma once

#include <errno.h>

#include "image/image.h"
#include "image/oci.h"
#include "image/tree.h"

struct workshop {
	const struct store *store;
	int disks_fd, dir_fd; /* owned; dir_fd is where disk.raw or disk.qcow2 is to be made */
	char *name;           /* owned; the directory's */
	char *scratch_path;   /* owned; an empty directory in it, absolute; removed at the end */
};
#define WORKSHOP_INIT                                \
	{                                            \
		.disks_fd = -EBADF, .dir_fd = -EBADF \
	}
/* What there can be beside disk.qcow2: the second disk that it was installed with, and the firmware's variables. */
#define IMAGE_HOME  "home.qcow2"
#define IMAGE_NVRAM "nvram"

int workshop_open(const struct store *s, struct workshop *ret, struct error *err);
void workshop_done(struct workshop *w);
#define _cleanup_workshop_ _cleanup_(workshop_done)
/* Removes what makers that died have left. */
int workshop_remove_leftovers(const struct store *s, struct error *err);

/* UUID and hash seed of a file system, from a text that stands for its content: equal input gives equal bytes. */
void workshop_fill_format(struct tree_format *f, const char *text);

/* The digest of the disk.qcow2 in the workshop; where there is more beside it, one over all of them. The files as they are: each was made in one go,
 * so that equal input gives equal files. @name: the image's, for messages. *ret is owned by the caller. */
int workshop_digest(const struct workshop *w, const char *name, char **ret, struct error *err);

/* The disk of an image that was made from the same @chain, and what is beside it, as hard links in the workshop: returns 1, and *ret is what is
 * known of that image, released by the caller; 0 when there is none. */
int workshop_share(struct workshop *w, const char *chain, struct image_meta *ret, struct error *err);

/* Seals: the disk in the workshop, synced by the caller, becomes images/disks/HEX, 0444, and @name points at it with the next generation.
 * @manifest: the image's (it, its config and its layers are blobs of ours); NULL: one without layers is written from @meta. @meta: disk
 * and what is known; digest, format and time of making are filled in. @name NULL: no name is given. The caller holds blob_lock() shared.
 * An image of files that has a disk of another kind of file system already has both from then on. Errors: -EEXIST when it is there with
 * another disk of this kind. */
int image_seal(struct workshop *w, const char *name, const struct oci_descriptor *manifest, struct image_meta *meta,
	       struct error *err);
