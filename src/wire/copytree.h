/* A copystream's two ends on real files. Both block: run them in a child process, or where nothing else waits. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* Of directories in one another; each level holds a descriptor while it is sent. */
enum { COPYTREE_DEPTH_MAX = 128 };

/* The writer of either side: walks @path (file or directory, relative to @dirfd; the base name becomes the first entry's path) and writes
 * records to @fd up to the end record. A symbolic link is sent as one; only a trailing slash follows it. Device nodes and sockets, and what
 * cannot be read, are skipped with an error record; a file that becomes shorter meanwhile gets one (-EAGAIN), and so does one of more than 64 MiB that
 * says to have none (procfs; -EFBIG). Returns 0, the first -errno of the tree (an error record told which), or the -errno of
 * writing to @fd (the stream is then cut). */
int copytree_send(int fd, int dirfd, const char *path);

/* The reader of either side: creates what arrives below @dirfd, the first entry named @rename when not NULL. Everything is resolved beneath
 * @dirfd (openat2); absolute names, "..", and writing below a symbolic link are -EBADMSG. The data bytes of all files together are bounded
 * by @limit_bytes (0 = none; above it -EFBIG). @keep_owner: chown to the recorded ids (needs root). Set-id bits
 * are dropped always. An existing file is overwritten, or replaced where it
 * may not be written to or is being executed; an existing link is replaced by what is none, and -ENOTDIR in the way of a directory. Reads @fd up to the end record, and stops at an error of its own;
 * what the sender could not read (its first error record) is returned after all else was received.
 * *ret_path names the entry that failed (owned by the caller, may be NULL). Errors: -ENODATA when the stream ends early. */
int copytree_receive(int fd, int dirfd, const char *rename, uint64_t limit_bytes, bool keep_owner, char **ret_path);
