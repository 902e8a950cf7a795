/* ttrpc framing without I/O (containerd/ttrpc PROTOCOL.md): a 10-byte header (length, stream id, type, flags; big endian) and at most
 * 4 MiB of data. Bytes in, messages out. One codec serves the agent, the monitor's control socket and the containerd shim. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define TTRPC_HEADER_SIZE 10
#define TTRPC_DATA_MAX    (4U << 20)

enum ttrpc_type { TTRPC_REQUEST = 1, TTRPC_RESPONSE = 2, TTRPC_DATA = 3 };
enum ttrpc_flag { TTRPC_REMOTE_CLOSED = 1, TTRPC_REMOTE_OPEN = 2, TTRPC_NO_DATA = 4 };

/* gRPC status codes, as carried in responses. */
enum ttrpc_code {
	TTRPC_OK = 0,
	TTRPC_CANCELLED = 1,
	TTRPC_UNKNOWN = 2,
	TTRPC_INVALID_ARGUMENT = 3,
	TTRPC_DEADLINE_EXCEEDED = 4,
	TTRPC_NOT_FOUND = 5,
	TTRPC_ALREADY_EXISTS = 6,
	TTRPC_PERMISSION_DENIED = 7,
	TTRPC_RESOURCE_EXHAUSTED = 8,
	TTRPC_FAILED_PRECONDITION = 9,
	TTRPC_ABORTED = 10,
	TTRPC_OUT_OF_RANGE = 11,
	TTRPC_UNIMPLEMENTED = 12,
	TTRPC_INTERNAL = 13,
	TTRPC_UNAVAILABLE = 14,
	TTRPC_DATA_LOSS = 15,
};

struct ttrpc_frame {
	uint32_t stream_id;
	uint8_t type;
	uint8_t flags;
	const uint8_t *data; /* borrowed from the decoder's buffer until the next call on it */
	size_t len;
};

/* Takes one frame from the front of @in. Returns 1 and fills @ret (the caller buf_consume()s *ret_used bytes when done with the data),
 * 0 when more bytes are needed, -EMSGSIZE for a length above TTRPC_DATA_MAX, -EPROTO for an unknown type or stream id 0. With these two errors
 * @ret is what the header says, without data, for those who answer and go on behind the frame. */
int ttrpc_decode(const struct buf *in, struct ttrpc_frame *ret, size_t *ret_used);
/* Appends a frame. Errors: -EMSGSIZE. */
int ttrpc_encode(struct buf *out, uint32_t stream_id, uint8_t type, uint8_t flags, const void *data, size_t len);

/* The request envelope. Strings are borrowed from the unpacked message, which ttrpc_request_free() releases. */
struct ttrpc_request {
	const char *service; /* "skerry.agent.v1.Agent" */
	const char *method;
	const uint8_t *payload;
	size_t payload_len;
	uint64_t timeout_ns; /* 0 = none */
	void *unpacked;      /* owned */
};
/* Errors: -EBADMSG. */
int ttrpc_request_decode(const struct ttrpc_frame *f, struct ttrpc_request *ret);
void ttrpc_request_done(struct ttrpc_request *r);
int ttrpc_request_encode(struct buf *out, uint32_t stream_id, const char *service, const char *method,
			 const void *payload, size_t len, uint64_t timeout_ns);

struct ttrpc_response {
	int32_t code;        /* enum ttrpc_code */
	const char *message; /* never NULL */
	const uint8_t *payload;
	size_t payload_len;
	void *unpacked; /* owned */
};
int ttrpc_response_decode(const struct ttrpc_frame *f, struct ttrpc_response *ret);
void ttrpc_response_done(struct ttrpc_response *r);
int ttrpc_response_encode(struct buf *out, uint32_t stream_id, int32_t code, const char *message, const void *payload,
			  size_t len);

/* -errno <-> status code, one table. */
int32_t ttrpc_code_from_errno(int num);
int ttrpc_code_to_errno(int32_t code); /* negative */
