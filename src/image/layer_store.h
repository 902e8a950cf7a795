/* A layer's tar stream becomes a blob. Linked into skerry-image only. */
#pragma once

#include <stdint.h>

#include "image/oci.h"
#include "store/store.h"

struct progress;

/* gzip is what every registry and tool takes; zstd is faster and smaller, for those that know it (Docker from version 23 on). */
enum layer_compression { LAYER_GZIP, LAYER_ZSTD, LAYER_PLAIN };
/* "gzip", "zstd", "none". Errors: -EINVAL (kind USAGE). */
int layer_compression_parse(const char *s, enum layer_compression *ret, struct error *err);

/* Reads @fd, a pipe, to its end, at most @limit bytes. The same stream gives the same blob. *ret is its descriptor, released by the caller;
 * *ret_diff_id (owned by the caller) the digest of the stream itself. A stream without an entry is not stored: returns 0 and leaves
 * both alone; else 1. The caller holds blob_lock() shared. @whole is asked at the end of the stream, before there is a blob: was that all
 * of it? @progress (borrowed, may be NULL) is told how much of the stream has come. Errors: -EFBIG (kind DATA) above the limit; what @whole returns. */
int layer_store(const struct store *s, int fd, uint64_t limit, enum layer_compression c,
		int (*whole)(void *data, struct error *err), void *data, struct progress *progress,
		struct oci_descriptor *ret, char **ret_diff_id, struct error *err);
