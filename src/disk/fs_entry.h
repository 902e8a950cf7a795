/* What the builders of file systems are told of one entry, and what those who read a file system tell of it. */
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
	/* Relative, checked: no "." or "..", no empty component; "." alone is the root. Parents are made (0755 root) when missing; symbolic
	 * links among them are followed inside the root, at most 40. */
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
