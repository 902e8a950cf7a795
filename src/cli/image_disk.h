/* Makes images' trees ext4 disks: the rooms of images and disks do not know each other, this door knows both. */
#pragma once

#include "image/tree.h"

int ext4_tree_create(int fd, const struct tree_format *f, struct tree **ret, struct error *err);
/* An unpack_disk_fn: any format that is known, by qemu-img. */
int image_disk_make(int fd, int dirfd, const char *name, const char *scratch_path, uint64_t *ret_bytes,
		    struct error *err);
