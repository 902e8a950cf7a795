/* Writing a layer as the tar stream that image tools read: PAX where ustar cannot say it, whiteouts as the OCI image specification has them
 * (layer.md). The same entries give the same bytes: nothing of this host, of its time or of its users gets in. Linked into skerry-image only. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "image/tree.h"

struct layer_tar;

/* Writes to @fd (borrowed). */
int layer_tar_new(int fd, struct layer_tar **ret, struct error *err);
struct layer_tar *layer_tar_free(struct layer_tar *t); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct layer_tar *, layer_tar_free);

/* An entry; a regular file's content follows, piece by piece in ascending order, then layer_tar_end_file(). @segments: where data is, in order;
 * pieces are given for them only. A hole is written as zeros, as not every reader knows sparse files, but for a file with holes of
 * 64 MiB and more in all: that one is written sparse (GNU's form 1.0 in PAX, which tar, libarchive and Go read).
 * Errors: -EBADMSG (kind DATA) for a name that means something else in a layer (".wh.…"). */
int layer_tar_add(struct layer_tar *t, const struct fs_entry *e, const struct fs_segment *segments, size_t n,
		  struct error *err);
int layer_tar_write(struct layer_tar *t, uint64_t offset, const void *p, size_t n, struct error *err);
int layer_tar_end_file(struct layer_tar *t, struct error *err);
int layer_tar_link(struct layer_tar *t, const char *path, const char *target, struct error *err);
int layer_tar_whiteout(struct layer_tar *t, const char *path, struct error *err);
int layer_tar_opaque(struct layer_tar *t, const char *path, struct error *err);
/* The end of the stream. */
int layer_tar_finish(struct layer_tar *t, struct error *err);
