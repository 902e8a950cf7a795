/* Streams of bytes unpacked as they come: gzip, zstd, xz, bzip2, or not packed at all, told by their first bytes. All input is hostile. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

/* The packed stream's next piece, borrowed until the next call; *ret_n 0 at its end. */
typedef int (*unpacker_read_fn)(void *data, const void **ret, size_t *ret_n, struct error *err);

enum packing { PACKING_NONE, PACKING_GZIP, PACKING_ZSTD, PACKING_XZ, PACKING_BZIP2, PACKING_MAX };

struct unpacker;
/* @head: its first bytes, six or all there are. @read will give them again. */
struct unpacker *unpacker_new(const void *head, size_t n, unpacker_read_fn read, void *data);
enum packing unpacker_packing(const struct unpacker *u);
/* Fills @p with @n bytes, less only at the end. Errors: -EBADMSG (kind DATA) for what is damaged, cut off or followed by something else;
 * what @read returns. */
int unpacker_fill(struct unpacker *u, void *p, size_t n, size_t *ret_n, struct error *err);
/* May so much come out of so much? What is packed more than plain zeros would be, and more than any files are, is meant to fill a disk. Errors:
 * -EFBIG (kind DATA). */
int unpacker_check_ratio(enum packing packing, uint64_t packed_bytes, uint64_t bytes, struct error *err);
struct unpacker *unpacker_free(struct unpacker *u); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct unpacker *, unpacker_free);
