/* qcow2 deltas made in-process (qcow2 version 3, docs/interop/qcow2.txt of QEMU). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

/* Makes an empty qcow2 of @virtual_bytes (rounded up to 64 KiB) at @dirfd/@name, 0600, not replacing (-EEXIST). @backing_path may be NULL; else
 * it is recorded with @backing_format ("raw", "qcow2"); whoever opens the delta names the backing file again, so the recorded path is for
 * people and other tools. @durable: fsync file and directory. */
int qcow2_create(int dirfd, const char *name, uint64_t virtual_bytes, const char *backing_path,
		 const char *backing_format, bool durable, struct error *err);

struct qcow2_info {
	uint64_t virtual_bytes;
	char backing_format[16];
	char *backing_path; /* owned, NULL = none */
};
/* Reads the header only, every field checked. Errors: -EBADMSG. */
int qcow2_read_info(int fd, const char *what, struct qcow2_info *ret, struct error *err);
void qcow2_info_done(struct qcow2_info *i);
/* Grows the virtual size in place (never shrinks: -EINVAL): rewrites header and, where it must move, the L1 table. The image must not be
 * in use. */
int qcow2_grow(int fd, const char *what, uint64_t virtual_bytes, struct error *err);
