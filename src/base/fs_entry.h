/* One entry of a file system, as those who read layers and disks tell of it and those who build disks and layers are told. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct fs_xattr {
	const char *name; /* "security.capability" */
	const void *value;
	size_t len;
};

struct fs_entry {
	/* Relative: no "..", no empty component; "." alone is the root. Who builds checks it, makes parents that are missing (0755 root), and
	 * follows symbolic links among them inside the root, at most 40. */
	const char *path;
	mode_t mode; /* with type */
	uint32_t uid, gid;
	uint64_t mtime_ns;
	uint64_t size;    /* regular files */
	const char *link; /* symbolic link's target */
	uint32_t rdev_major, rdev_minor;
	const struct fs_xattr *xattrs;
	size_t n_xattrs;
};

/* Where a regular file has data: all else of it is holes. */
struct fs_segment {
	uint64_t offset, n;
};
