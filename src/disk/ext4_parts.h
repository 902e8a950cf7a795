/* Between the files of the ext4 builder only. */
#pragma once

#include <ext2fs/ext2fs.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/flusher.h"
#include "disk/ext4.h"
#include "disk/fs_names.h"

enum { EXT4_BLOCK = 4096, EXT4_INODE = 256 };

union ext4_inode {
	struct ext2_inode_large large;
	struct ext2_inode small;
	uint8_t raw[EXT4_INODE];
};

/* Blocks in a row: of the file, on the disk. */
struct ext4_run {
	uint64_t logical, physical;
	uint32_t n;
};

struct ext4_runs {
	struct ext4_run *items; /* owned */
	size_t n;
	uint64_t blocks;
};

struct ext4 {
	ext2_filsys fs; /* owned */
	struct fs_names names;
	uint64_t time_s;
	uint32_t next_ino;
	uint64_t goal;           /* where to look for free blocks */
	uint64_t unused;         /* from this block on the file has never been written: holes, which read as zeros */
	struct flusher *flusher; /* owned */
	int fd;                  /* borrowed */

	/* the regular file that is being written */
	uint32_t file_ino;
	union ext4_inode inode;
	uint64_t size, end; /* declared; so far */
	uint8_t *pending;   /* owned; PENDING bytes from block-aligned @pending_at on */
	uint64_t pending_at;
	size_t pending_n;
	struct ext4_runs runs;
	struct fs_xattr *xattrs; /* owned with what they point at */
	size_t n_xattrs;
};

/* libext2fs' code as an error. A full file system is -EXFULL, to tell it from a full disk of the host. */
int ext4_error(struct error *err, long code, const char *what);
/* Allocates and writes @n whole blocks as the file's next from @logical on. */
int ext4_append_blocks(struct ext4 *x, struct ext4_runs *runs, uint64_t logical, const void *p, uint64_t n,
		       struct error *err);
/* Reserves without writing. */
int ext4_append_reserved(struct ext4 *x, struct ext4_runs *runs, uint64_t logical, uint64_t n, struct error *err);
/* Puts the runs into the inode's extent tree (and the inode's block count). The inode is written by it when the tree needs blocks. */
int ext4_set_runs(struct ext4 *x, uint32_t ino, union ext4_inode *inode, const struct ext4_runs *runs,
		  struct error *err);
void ext4_runs_clear(struct ext4_runs *runs);
int ext4_read_inode(struct ext4 *x, uint32_t ino, union ext4_inode *ret, struct error *err);
int ext4_write_inode(struct ext4 *x, uint32_t ino, const union ext4_inode *inode, struct error *err);

/* Writes one directory's blocks and completes its inode. */
int ext4_write_directory(struct ext4 *x, const struct node *dir, struct error *err);
