/* A file tree as a byte stream, for copying into and out of a guest: a sequence of records, each a big-endian u32 length and a
 * CopyRecord message (proto/agent.proto): entry, data at an offset (holes are skipped, so sparse files stay sparse), end, error. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define COPYSTREAM_RECORD_MAX (256U << 10)
#define COPYSTREAM_DATA_MAX   (128U << 10)

/* Takes one record's bytes from the front: 1 with borrowed message bytes, 0 more needed, -EMSGSIZE. */
int copystream_next(const struct buf *in, const uint8_t **ret_msg, size_t *ret_len, size_t *ret_used);

/* The writer of either side: walks @path (file or directory; the base name becomes the first entry's path) and writes records to @fd.
 * Blocks. Device nodes and sockets are skipped with an error record. Returns 0 or the first -errno; an error record tells which. */
int copystream_send(int fd, int dirfd, const char *path);

/* The reader of either side: creates what arrives below @dirfd, the first entry named @rename when not NULL. Everything is resolved beneath
 * @dirfd (openat2); absolute names, "..", and writing through a symbolic link are -EBADMSG. Sizes are bounded by @limit_bytes in all
 * (0 = none). @keep_owner: chown to the recorded ids (needs root). *ret_path names the entry that failed (owned by the caller, may be
 * NULL). Reads @fd to the end record. */
int copystream_receive(int fd, int dirfd, const char *rename, uint64_t limit_bytes, int keep_owner, char **ret_path);
