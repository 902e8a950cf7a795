/* Reading an ext4 that somebody else wrote, through a disk_reader and libext2fs: nothing is mounted, nothing is written, the journal is not
 * replayed. Between the files of this room; others see a file system through ext4_diff.h. What is read is hostile: checksums are verified
 * where there are any, and everything that could make a walk endless or large is bounded. */
#pragma once

#include <ext2fs/ext2fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "disk/disk_reader.h"
#include "disk/ext4.h"
#include "disk/ext4_parts.h"

enum { EXT4_READER_INODE_MAX = 512 };

struct ext4_reader;

/* @disk is borrowed. @what is for messages; copied. Errors: -EBADMSG (kind DATA), and with a hint what to do when the file system was not
 * unmounted cleanly. */
int ext4_reader_open(struct disk_reader *disk, const char *what, struct ext4_reader **ret, struct error *err);
struct ext4_reader *ext4_reader_free(struct ext4_reader *x); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct ext4_reader *, ext4_reader_free);
/* Without a journal nothing tells what a crash left half done: was it unmounted cleanly? */
bool ext4_reader_is_clean(const struct ext4_reader *x);
struct disk_reader *ext4_reader_disk(const struct ext4_reader *x);
uint32_t ext4_reader_block_bytes(const struct ext4_reader *x);
uint64_t ext4_reader_inodes(const struct ext4_reader *x);

struct ext4_node {
	uint32_t ino;
	mode_t mode;
	uint32_t uid, gid, nlink;
	uint64_t size, mtime_ns, crtime_ns;
	uint32_t rdev_major, rdev_minor;
	uint32_t generation;
	bool has_xattrs;
	uint64_t acl_block; /* 0 = none */
	size_t inode_bytes;
	union {
		struct ext2_inode small;
		struct ext2_inode_large large;
		uint8_t raw[EXT4_READER_INODE_MAX];
	};
};
/* Errors: -EBADMSG, also for what is in use by the file system itself or not at all. */
int ext4_reader_node(struct ext4_reader *x, uint32_t ino, struct ext4_node *ret, struct error *err);

struct ext4_name {
	uint32_t ino;
	char *name; /* owned; no '/', no NUL, not "." or ".." */
};
struct ext4_names {
	struct ext4_name *items; /* owned; sorted by strcmp(3) */
	size_t n;
};
void ext4_names_done(struct ext4_names *n);
/* Errors: also for a name that occurs twice. */
int ext4_reader_list(struct ext4_reader *x, const struct ext4_node *dir, struct ext4_names *ret, struct error *err);

/* Where the content is, in order, without holes, unwritten extents and what lies past the end. @blocks (may be NULL) gets the blocks that say so. */
int ext4_reader_runs(struct ext4_reader *x, const struct ext4_node *n, struct ext4_runs *ret, struct ext4_runs *blocks,
		     struct error *err);
/* Content of a file with these runs; the caller keeps to its size. */
int ext4_reader_read(struct ext4_reader *x, const struct ext4_runs *runs, uint64_t offset, void *p, size_t n,
		     struct error *err);
/* Where the first byte at or after @offset is that is in no hole; UINT64_MAX = nowhere. */
uint64_t ext4_reader_next_data(const struct ext4_reader *x, const struct ext4_runs *runs, uint64_t offset);
/* A symbolic link's target, owned by the caller. */
int ext4_reader_link(struct ext4_reader *x, const struct ext4_node *n, char **ret, struct error *err);

struct ext4_xattrs {
	struct fs_xattr *items; /* owned with what they point at; sorted by name */
	size_t n;
};
void ext4_xattrs_done(struct ext4_xattrs *a);
int ext4_reader_xattrs(struct ext4_reader *x, const struct ext4_node *n, struct ext4_xattrs *ret, struct error *err);
