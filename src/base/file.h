/* Files by directory descriptor and name. Leaf functions: they return plain -errno, the caller names the object. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

/* Reads a whole file, at most @limit bytes. Errors: -EFBIG above the limit, errno of open/read. @out is appended to. */
int file_read_at(int dirfd, const char *name, size_t limit, struct buf *out);
int file_read_fd(int fd, size_t limit, struct buf *out);
/* Writes or reads all @n bytes, retrying short transfers and EINTR. read_full: -ENODATA at an early end. */
int write_full(int fd, const void *p, size_t n);
int read_full(int fd, void *p, size_t n);
int pwrite_full(int fd, const void *p, size_t n, uint64_t offset);
int pread_full(int fd, void *p, size_t n, uint64_t offset);

enum file_write_flags {
	FILE_DURABLE = 1 << 0,   /* fsync the file before, the directory after the rename */
	FILE_EXCLUSIVE = 1 << 1, /* -EEXIST instead of replacing (linkat) */
};
/* Writes @name whole, with @mode whatever the umask is: random O_EXCL temporary name in the same directory, rename. A reader never sees half a file, and a crash
 * leaves at most a name that begins with ".tmp-" (file_remove_temporaries). */
int file_write_at(int dirfd, const char *name, const void *p, size_t n, mode_t mode, unsigned flags);
/* Removes ".tmp-*" names in a directory that nobody else writes to (the caller holds its lock). */
int file_remove_temporaries(int dirfd);

/* mkdir -p below @dirfd, mode 0700 for what is new. Existing directories are fine. */
int mkdir_parents_at(int dirfd, const char *path, mode_t mode);
/* Opens a directory, creating it and its parents when missing. Returns the descriptor. */
int dir_open_create(const char *path, mode_t mode);
/* Adds the names in directory @path below @dirfd to @ret, in no order, without "." and "..". A symbolic link is not followed. */
struct strv;
int dir_list_at(int dirfd, const char *path, struct strv *ret);
/* rm -rf of @name below @dirfd; never follows a symbolic link, never leaves the file system's tree. -ENOENT is success. */
int remove_tree_at(int dirfd, const char *name);
int fsync_dir(int dirfd);
/* Same bytes at the same place: FICLONE, else copy_file_range, else read/write; holes are kept. */
int file_copy_fd(int from, int to);
/* A piece of it, without a look at holes: copy_file_range, else read/write. */
int file_copy_range(int from, int to, uint64_t offset, uint64_t n_bytes);
/* Bytes really allocated (st_blocks * 512). */
int file_allocated_fd(int fd, uint64_t *ret_bytes);

/* Opens an untrusted relative path below @dirfd: openat2 with RESOLVE_BENEATH|RESOLVE_NO_MAGICLINKS, no fallback. */
int open_beneath(int dirfd, const char *path, int flags, mode_t mode);
/* The same with @dirfd for its root directory, as chroot(2) would have it: "/", ".." and symbolic links lead to nothing outside. */
int open_in_root(int dirfd, const char *path, int flags);
/* Opens a path, which may be absolute, none of whose parts is a symbolic link: -ELOOP. */
int open_no_symlinks(int dirfd, const char *path, int flags);
/* unix(7) addresses end at 108 bytes: binds or connects through /proc/self/fd/@dirfd/NAME, whatever the directory's path is.
 * Returns a CLOEXEC descriptor. unix_listen_at replaces a stale socket and makes it mode 0600. */
int unix_listen_at(int dirfd, const char *name, int backlog);
int unix_connect_at(int dirfd, const char *name);
/* For loops: who listens and does not accept is not waited for. The descriptor is O_NONBLOCK. Errors: -EAGAIN its queue is full. */
int unix_connect_now_at(int dirfd, const char *name);
