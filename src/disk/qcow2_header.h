/* The header of a qcow2 file between the files of this room. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
	QCOW2_HEADER_V2 = 72,
	QCOW2_HEADER_V3 = 104,
	QCOW2_HEADER_MAX = 4096, /* header, extensions and backing name must end here, or the file is none of ours */
};
#define QCOW2_INCOMPAT_DIRTY       (UINT64_C(1) << 0)
#define QCOW2_INCOMPAT_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_INCOMPAT_EXTENDED_L2 (UINT64_C(1) << 4)

struct qcow2_header {
	uint32_t magic, version;
	uint64_t backing_offset;
	uint32_t backing_size, cluster_bits;
	uint64_t size;
	uint32_t crypt_method, l1_size;
	uint64_t l1_offset, refcount_offset;
	uint32_t refcount_clusters, n_snapshots;
	uint64_t snapshots_offset;
	/* version 3 */
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order, header_length;
} __attribute__((packed));
_Static_assert(sizeof(struct qcow2_header) == QCOW2_HEADER_V3, "the header has no holes");

/* Reads and checks it, host order; @page gets the first *ret_n bytes of the file. Errors: -EBADMSG. */
int qcow2_header_read(int fd, const char *what, struct qcow2_header *ret, char page[static QCOW2_HEADER_MAX],
		      size_t *ret_n, struct error *err);
