/* The initrd's format: cpio "newc" (Documentation/driver-api/early-userspace/buffer-format.rst), written reproducibly: fixed inode numbers in
 * order, mtime 0, owner root. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct cpio {
	struct buf *out; /* borrowed */
	uint32_t next_inode;
};
void cpio_begin(struct cpio *c, struct buf *out);
/* @data: content of a regular file or target of a symbolic link. Parents are the caller's to add first. */
int cpio_add(struct cpio *c, const char *path, mode_t mode, const void *data, size_t n);
int cpio_add_device(struct cpio *c, const char *path, mode_t mode, uint32_t major, uint32_t minor);
void cpio_end(struct cpio *c);
