/* What a file system has that another one has not: the changes that turn one tree into the other, as a layer of an image says them. Both are read
 * through disk_reader, in-process and without mounting; see ext4_reader.h for what is checked. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "disk/disk_reader.h"
#include "disk/ext4.h"

/* In the order of paths; what is removed comes before what is there, directories before what is in them, and every directory on the way to a
 * change is told as well. @path is relative; "." is the root. A negative return ends the walk. */
struct ext4_diff_ops {
	/* New or changed, whole. A regular file's content follows, @segments in order: all else of it is holes. */
	int (*entry)(const struct fs_entry *e, const struct fs_segment *segments, size_t n_segments, void *data,
		     struct error *err);
	int (*content)(uint64_t offset, const void *p, size_t n, void *data, struct error *err);
	int (*end)(void *data, struct error *err);
	/* Another name of what was told before. */
	int (*hard_link)(const char *path, const char *target, void *data, struct error *err);
	/* Removed. */
	int (*whiteout)(const char *path, void *data, struct error *err);
	/* Directory @path, told just before, has nothing of what was in it. */
	int (*opaque)(const char *path, void *data, struct error *err);
	/* Is @path to be left as the base has it, or out? May be NULL. */
	bool (*skip)(const char *path, void *data);
};

struct ext4_diff_request {
	struct disk_reader *disk; /* borrowed */
	struct disk_reader *base; /* borrowed; NULL = everything is new. @disk may be a delta over it */
	/* @disk is what an overlay writes to (Documentation/filesystems/overlayfs.rst): its directory "upper" is what has changed, and says
	 * itself what was removed. Then there is no @base, whiteouts come among the entries, and directories are told that hold a change or
	 * did once. */
	bool overlay;
	const char *what; /* "machine 'web'" */
	const struct ext4_diff_ops *ops;
	void *data;
};
/* *ret_clean (may be NULL): whether @disk was unmounted cleanly; only file systems without a journal can be otherwise here.
 * Errors: kind BUSY when the journal is not empty, with what to do; -EBADMSG (kind DATA) naming the path. */
int ext4_diff(const struct ext4_diff_request *r, bool *ret_clean, struct error *err);
