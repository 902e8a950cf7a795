/* Files of the image's root file system: every path is resolved inside it (openat2, RESOLVE_IN_ROOT), whatever links it holds. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "base/buf.h"

/* Descriptor or -errno. Parents must exist. */
int root_open(int root, const char *path, int flags, mode_t mode);
/* Appends the whole file, at most @limit bytes (-EFBIG). */
int root_read(int root, const char *path, size_t limit, struct buf *out);
/* Makes the file at the very path have this content, owner and mode (a link there is replaced, not followed; its directories may be links). Whole
 * or not at all; one that is so already is left alone. The second form takes the directory. */
int root_write(int root, const char *path, const void *p, size_t n, mode_t mode, uid_t uid, gid_t gid);
int root_write_at(int dir, const char *name, const void *p, size_t n, mode_t mode, uid_t uid, gid_t gid);
/* mkdir -p, 0755 root. What is there stays as it is. */
int root_mkdir_parents(int root, const char *path);
/* mkdir; an existing directory is fine and left as it is. Descriptor (O_PATH) of it or -errno. */
int root_mkdir(int root, const char *path, mode_t mode, uid_t uid, gid_t gid);
