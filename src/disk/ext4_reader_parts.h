/* Between the files of the ext4 reader only.
 *
 * Bounds. A walk over a sound file system meets every block at most once, or a few times when the walk is repeated; a hostile one can let
 * each file have the same blocks, or an extent tree name one node a million times. So all mapping is charged against a budget that is a small
 * multiple of the file system's size, and ends with an error when it is used up. Directories are kept from cycles by who walks them. */
#pragma once

#include "disk/ext4_reader.h"

struct ext4_reader {
	struct disk_reader *disk; /* borrowed */
	char *what;
	ext2_filsys fs;
	struct struct_io_manager manager;
	uint64_t blocks;
	uint64_t budget;      /* blocks and steps that may still be mapped */
	struct error trouble; /* what reading the disk failed with; libext2fs knows only numbers */
};

/* -EBADMSG: what it says about itself cannot be. */
int ext4_reader_bad(const struct ext4_reader *x, struct error *err, const char *fmt, ...) _printf_(3, 4);
/* What libext2fs says of @of ("content") of an inode, or what the disk said before. */
int ext4_reader_failed(struct ext4_reader *x, struct error *err, long code, const char *of, uint32_t ino);
/* @n steps more of mapping. Errors: -EBADMSG when there were too many. */
int ext4_reader_charge(struct ext4_reader *x, uint64_t n, uint32_t ino, struct error *err);
