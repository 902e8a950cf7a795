/* Makes images' trees disks: the rooms of images and disks do not know each other, this door knows both. */
#pragma once

#include "image/tree.h"
#include "store/store.h"

int ext4_tree_create(int fd, const struct tree_format *f, struct tree **ret, struct error *err);
/* As long as its content; f->bytes is only its limit. */
int erofs_tree_create(int fd, const struct tree_format *f, struct tree **ret, struct error *err);
/* By the format's name; NULL is "ext4". Errors: kind USAGE. */
int image_disk_format(const char *name, tree_create_fn *ret, struct error *err);
/* The format of an image's disk when nobody asked for one: that of the image as it is there already, by @name and digest or by digest, else of
 * what has the @name that it is to take the place of. A static string; NULL = any. */
const char *image_disk_usual(const struct store *s, const char *digest, const char *name);
/* An unpack_disk_fn: any format that is known, by qemu-img. */
int image_disk_make(int fd, int dirfd, const char *name, const char *scratch_path, uint64_t *ret_bytes,
		    struct error *err);
