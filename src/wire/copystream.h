/* A file tree as a byte stream, for copying into and out of a guest: a sequence of records, each a big-endian u32 length and a
 * CopyRecord message (proto/agent.proto): entry, data at an offset (holes are skipped, so sparse files stay sparse), end, error.
 * This is the codec; wire/copytree.h walks and writes real trees with it. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define COPYSTREAM_HEADER_SIZE 4
#define COPYSTREAM_RECORD_MAX  (256U << 10)
#define COPYSTREAM_DATA_MAX    (128U << 10)
#define COPYSTREAM_PATH_MAX    4095

/* Takes one record's bytes from the front: 1 with borrowed message bytes, 0 more needed, -EMSGSIZE. */
int copystream_next(const struct buf *in, const uint8_t **ret_msg, size_t *ret_len, size_t *ret_used);

enum copystream_type { COPYSTREAM_ENTRY, COPYSTREAM_DATA, COPYSTREAM_ERROR, COPYSTREAM_END };

/* One record, decoded and checked: a path is relative, without empty, "." and ".." components, at most 4095 bytes, each component at
 * most 255; data is at most COPYSTREAM_DATA_MAX and does not pass 2^63; an error's number is 1..4095. */
struct copystream_record {
	enum copystream_type type;
	const char *path; /* ENTRY, ERROR: never NULL */
	uint32_t mode;    /* ENTRY from here */
	uint32_t uid;
	uint32_t gid;
	uint64_t size;
	uint64_t mtime_ns;
	const char *link;
	uint64_t offset; /* DATA from here */
	const uint8_t *data;
	size_t data_len;
	int num;        /* ERROR: positive errno */
	void *unpacked; /* owned */
};

/* Errors: -EBADMSG. Released with copystream_record_done(), which also takes a zeroed one. */
int copystream_decode(const uint8_t *msg, size_t len, struct copystream_record *ret);
void copystream_record_done(struct copystream_record *r);
/* Appends header and message. Errors: -EMSGSIZE. */
int copystream_encode(struct buf *out, const struct copystream_record *r);
