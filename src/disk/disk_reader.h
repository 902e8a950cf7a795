/* What a machine sees on its disk, read in-process: a raw file, or a qcow2 delta over another reader. The guest's engine wrote the delta, and
 * a guest that has broken out of it could have written anything: every field is checked, nothing is asserted. (qcow2 version 3,
 * docs/interop/qcow2.txt of QEMU; no compressed clusters, extended L2 entries, external data or encryption, which our deltas never have.) */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

struct disk_reader;

/* @fd is borrowed, and so is @base (NULL = nothing below: zeros), which lives at least as long. @what is for messages ("disk 'system'"); copied.
 * Nobody may write to the files meanwhile. Errors: -EBADMSG (kind DATA) for a damaged file. */
int disk_reader_raw(int fd, const char *what, struct disk_reader **ret, struct error *err);
int disk_reader_qcow2(int fd, const char *what, struct disk_reader *base, struct disk_reader **ret, struct error *err);
struct disk_reader *disk_reader_free(struct disk_reader *d); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct disk_reader *, disk_reader_free);

/* The size that the machine sees. */
uint64_t disk_reader_bytes(const struct disk_reader *d);
/* All @n bytes at @offset. Errors: -ERANGE (kind DATA) past the end; -EBADMSG. */
int disk_reader_read(struct disk_reader *d, uint64_t offset, void *p, size_t n, struct error *err);
/* Are the bytes at @offset the base's own, without this file having a copy of them? Returns 1 or 0, and for how many bytes from there on the
 * answer holds (at most @n, at least 1). A reader without a base says 0. */
int disk_reader_is_base(struct disk_reader *d, uint64_t offset, uint64_t n, uint64_t *ret_n, struct error *err);
/* Does what is seen in the range differ from what the base has there? Compares bytes where the file has a copy. Returns 1, 0 or <0. */
int disk_reader_differs(struct disk_reader *d, uint64_t offset, uint64_t n, struct error *err);
