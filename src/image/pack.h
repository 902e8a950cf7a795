/* Archives read entry by entry: tar streams and Debian packages. Names come out normalised and checked; sizes are bounded. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "image/tree.h"

struct archive;
struct archive_item {
	struct fs_entry entry; /* borrowed until the callback returns */
	const char *hard_link; /* normalised target, or NULL */
	struct archive *archive;
	const char *what;
};
/* A positive return ends the walk early and is passed on. */
typedef int (*archive_item_fn)(const struct archive_item *item, void *data, struct error *err);

struct archive_limits {
	uint64_t bytes; /* of content in all */
	uint64_t entries;
};
/* @fd: a tar of any kind, compressed or not, file or pipe. Errors: -EBADMSG (kind DATA) for a damaged one or a hostile name. */
int archive_walk(int fd, const char *what, const struct archive_limits *limits, archive_item_fn fn, void *data,
		 struct error *err);
/* The data part of a Debian package. */
int archive_walk_deb(int fd, const char *what, const struct archive_limits *limits, archive_item_fn fn, void *data,
		     struct error *err);

/* Inside a callback, once: adds the item with its content to a tree, or reads its content (at most @limit bytes). */
int archive_item_copy(const struct archive_item *item, struct tree *t, struct error *err);
int archive_item_read(const struct archive_item *item, size_t limit, struct buf *out, struct error *err);

/* Unpacks one compressed piece of memory (gzip, xz, lzma, bzip2, zstd, lz4). Bytes after its end are ignored. Errors: -EBADMSG, -EFBIG. */
int archive_unpack(const void *p, size_t n, const char *what, size_t limit, struct buf *out, struct error *err);
