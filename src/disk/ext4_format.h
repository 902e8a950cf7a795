/* Making an empty ext4 in a file; the rest of the builder fills it. */
#pragma once

#include "disk/ext4_parts.h"

/* As ext4_create(), without a root directory. *ret is owned by the caller (ext2fs_free or ext2fs_close_free). */
int ext4_format(int fd, uint64_t bytes, const char *label, const uint8_t uuid[16], const uint8_t hash_seed[16],
		uint64_t time_s, bool journal, ext2_filsys *ret, struct error *err);
