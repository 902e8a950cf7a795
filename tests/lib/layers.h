/* An image of layers that a test made, put into a store as blobs. Links what the image room's builders link. */
#pragma once

#include "base/buf.h"
#include "image/image.h"
#include "image/oci.h"
#include "store/store.h"

struct test_layer {
	struct buf tar;         /* owned */
	const char *packer;     /* "gzip", "zstd", "xz", "bzip2"; NULL = plain */
	const char *media_type; /* NULL = by the packer */
	const char *diff_id;    /* NULL = the right one */
	const char *digest;     /* NULL = the right one */
	uint64_t size;          /* 0 = the right one */
	size_t cut;             /* bytes that the packed layer is to have, 0 = all */
	struct buf blob;        /* owned; the packed layer where it is not to be made from tar */
};
/* Fills @ret with the manifest's descriptor. @config: the configuration's "config" object as text, or NULL. Fails the test when a packer
 * fails, skips it where there is none. */
void layers_put(const struct store *s, const struct test_layer *layers, size_t n, const char *config,
		struct oci_descriptor *ret);
void test_layer_done(struct test_layer *l);
/* A store of its own, empty. */
void layers_store(struct store *ret, const char *name);
/* Unpacks a disk of the format, "ext4" (NULL) or "erofs", under blob_lock(). @disk_bytes as in struct unpack_request. */
int layers_unpack_as(const struct store *s, const struct oci_descriptor *manifest, const char *name, const char *format,
		     uint64_t disk_bytes, struct image_meta *ret, struct error *err);
/* Unpacks an ext4 disk under blob_lock(). @disk_bytes as in struct unpack_request. */
int layers_unpack(const struct store *s, const struct oci_descriptor *manifest, const char *name, uint64_t disk_bytes,
		  struct image_meta *ret, struct error *err);
/* The disk is sound, or the test fails. */
void layers_check_disk(const struct store *s, const struct image_meta *m);
/* Two images' trees are the same, or the test fails; each in its store. */
void layers_same_tree(const struct store *s, const struct image_meta *m, const struct store *other_s,
		      const struct image_meta *other);
/* What debugfs answers; owned by the caller. */
char *layers_debugfs(const struct store *s, const struct image_meta *m, const char *request);
