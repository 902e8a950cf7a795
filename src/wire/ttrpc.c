#include "wire/ttrpc.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "ttrpc.pb-c.h"
#include "wire/cursor.h"
#include "wire/message.h"

int ttrpc_decode(const struct buf *in, struct ttrpc_frame *ret, size_t *ret_used)
{
	struct cursor c = cursor_of(in->p, in->len);
	uint32_t len, stream_id;
	uint8_t type, flags;

	if (in->len < TTRPC_HEADER_SIZE)
		return 0;
	len = cursor_u32be(&c);
	stream_id = cursor_u32be(&c);
	type = cursor_u8(&c);
	flags = cursor_u8(&c);
	*ret = (struct ttrpc_frame){ .stream_id = stream_id, .type = type, .flags = flags, .len = len };
	if (len > TTRPC_DATA_MAX)
		return -EMSGSIZE;
	if (stream_id == 0 || type < TTRPC_REQUEST || type > TTRPC_DATA)
		return -EPROTO;
	if (cursor_left(&c) < len)
		return 0;
	ret->data = c.p;
	*ret_used = TTRPC_HEADER_SIZE + (size_t)len;
	return 1;
}

static void header_write(uint8_t *p, uint32_t len, uint32_t stream_id, uint8_t type, uint8_t flags)
{
	p[0] = (uint8_t)(len >> 24);
	p[1] = (uint8_t)(len >> 16);
	p[2] = (uint8_t)(len >> 8);
	p[3] = (uint8_t)len;
	p[4] = (uint8_t)(stream_id >> 24);
	p[5] = (uint8_t)(stream_id >> 16);
	p[6] = (uint8_t)(stream_id >> 8);
	p[7] = (uint8_t)stream_id;
	p[8] = type;
	p[9] = flags;
}

int ttrpc_encode(struct buf *out, uint32_t stream_id, uint8_t type, uint8_t flags, const void *data, size_t len)
{
	if (len > TTRPC_DATA_MAX)
		return -EMSGSIZE;
	header_write(buf_reserve(out, TTRPC_HEADER_SIZE), (uint32_t)len, stream_id, type, flags);
	buf_commit(out, TTRPC_HEADER_SIZE);
	if (len > 0)
		buf_add(out, data, len);
	return 0;
}

/* Packs an envelope straight behind its header: a response may carry a MiB, which is not copied twice. */
static int encode_message(struct buf *out, uint32_t stream_id, uint8_t type, const ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);

	if (n > TTRPC_DATA_MAX)
		return -EMSGSIZE;
	header_write(buf_reserve(out, TTRPC_HEADER_SIZE + n), (uint32_t)n, stream_id, type, 0);
	buf_commit(out, TTRPC_HEADER_SIZE);
	message_pack(out, m);
	return 0;
}

/* protobuf-c never writes through the pointers of a message that it packs; its structs just lack the const. */
static char *unconst(const char *s)
{
	union {
		const char *c;
		char *p;
	} u = { .c = s };

	return u.p;
}

static uint8_t *unconst_bytes(const void *s)
{
	union {
		const void *c;
		uint8_t *p;
	} u = { .c = s };

	return u.p;
}

int ttrpc_request_decode(const struct ttrpc_frame *f, struct ttrpc_request *ret)
{
	Ttrpc__Request *m;

	if (f->type != TTRPC_REQUEST)
		return -EBADMSG;
	m = message_unpack(&ttrpc__request__descriptor, f->data, f->len);
	if (!m)
		return -EBADMSG;
	*ret = (struct ttrpc_request){
		.service = m->service,
		.method = m->method,
		.payload = m->payload.data,
		.payload_len = m->payload.len,
		.timeout_ns = m->timeout_nano > 0 ? (uint64_t)m->timeout_nano : 0,
		.unpacked = m,
	};
	return 0;
}

void ttrpc_request_done(struct ttrpc_request *r)
{
	message_free(r->unpacked);
	*r = (struct ttrpc_request){ 0 };
}

int ttrpc_request_encode(struct buf *out, uint32_t stream_id, const char *service, const char *method,
			 const void *payload, size_t len, uint64_t timeout_ns)
{
	Ttrpc__Request m;

	ttrpc__request__init(&m);
	m.service = unconst(service);
	m.method = unconst(method);
	m.payload = (ProtobufCBinaryData){ .len = len, .data = unconst_bytes(payload) };
	m.timeout_nano = timeout_ns > INT64_MAX ? INT64_MAX : (int64_t)timeout_ns;
	return encode_message(out, stream_id, TTRPC_REQUEST, &m.base);
}

int ttrpc_response_decode(const struct ttrpc_frame *f, struct ttrpc_response *ret)
{
	Ttrpc__Response *m;

	if (f->type != TTRPC_RESPONSE)
		return -EBADMSG;
	m = message_unpack(&ttrpc__response__descriptor, f->data, f->len);
	if (!m)
		return -EBADMSG;
	*ret = (struct ttrpc_response){
		.code = m->status ? m->status->code : TTRPC_OK,
		.message = m->status && m->status->message ? m->status->message : "",
		.payload = m->payload.data,
		.payload_len = m->payload.len,
		.unpacked = m,
	};
	return 0;
}

void ttrpc_response_done(struct ttrpc_response *r)
{
	message_free(r->unpacked);
	*r = (struct ttrpc_response){ .message = "" };
}

int ttrpc_response_encode(struct buf *out, uint32_t stream_id, int32_t code, const char *message, const void *payload,
			  size_t len)
{
	Ttrpc__Response m;
	Ttrpc__Status status;

	ttrpc__response__init(&m);
	ttrpc__status__init(&status);
	if (code != TTRPC_OK) {
		status.code = code;
		status.message = unconst(message ? message : "");
		m.status = &status;
	}
	m.payload = (ProtobufCBinaryData){ .len = len, .data = unconst_bytes(payload) };
	return encode_message(out, stream_id, TTRPC_RESPONSE, &m.base);
}

/* The first row of a code is the errno that it becomes; the first row of an errno is its code. */
static const struct {
	int num;
	int32_t code;
} errno_codes[] = {
	{ 0, TTRPC_OK },
	{ ECANCELED, TTRPC_CANCELLED },
	{ EIO, TTRPC_UNKNOWN },
	{ EINVAL, TTRPC_INVALID_ARGUMENT },
	{ ENAMETOOLONG, TTRPC_INVALID_ARGUMENT },
	{ EBADMSG, TTRPC_INVALID_ARGUMENT },
	{ ETIMEDOUT, TTRPC_DEADLINE_EXCEEDED },
	{ ENOENT, TTRPC_NOT_FOUND },
	{ ESRCH, TTRPC_NOT_FOUND },
	{ EEXIST, TTRPC_ALREADY_EXISTS },
	{ EACCES, TTRPC_PERMISSION_DENIED },
	{ EPERM, TTRPC_PERMISSION_DENIED },
	{ ENOSPC, TTRPC_RESOURCE_EXHAUSTED },
	{ EMSGSIZE, TTRPC_RESOURCE_EXHAUSTED },
	{ EMFILE, TTRPC_RESOURCE_EXHAUSTED },
	{ ENFILE, TTRPC_RESOURCE_EXHAUSTED },
	{ ENOMEM, TTRPC_RESOURCE_EXHAUSTED },
	{ EDQUOT, TTRPC_RESOURCE_EXHAUSTED },
	{ E2BIG, TTRPC_RESOURCE_EXHAUSTED },
	{ EBUSY, TTRPC_FAILED_PRECONDITION },
	{ ENOTDIR, TTRPC_FAILED_PRECONDITION },
	{ EISDIR, TTRPC_FAILED_PRECONDITION },
	{ EROFS, TTRPC_FAILED_PRECONDITION },
	{ EAGAIN, TTRPC_ABORTED },
	{ ERANGE, TTRPC_OUT_OF_RANGE },
	{ ENOSYS, TTRPC_UNIMPLEMENTED },
	{ EOPNOTSUPP, TTRPC_UNIMPLEMENTED },
	{ EPROTO, TTRPC_INTERNAL },
	{ ECONNREFUSED, TTRPC_UNAVAILABLE },
	{ ECONNRESET, TTRPC_UNAVAILABLE },
	{ ENOTCONN, TTRPC_UNAVAILABLE },
	{ EHOSTUNREACH, TTRPC_UNAVAILABLE },
	{ EPIPE, TTRPC_DATA_LOSS },
};

int32_t ttrpc_code_from_errno(int num)
{
	num = num < 0 ? -num : num;
	for (size_t i = 0; i < ARRAY_SIZE(errno_codes); i++)
		if (errno_codes[i].num == num)
			return errno_codes[i].code;
	return TTRPC_UNKNOWN;
}

int ttrpc_code_to_errno(int32_t code)
{
	for (size_t i = 0; i < ARRAY_SIZE(errno_codes); i++)
		if (errno_codes[i].code == code)
			return -errno_codes[i].num;
	return -EIO;
}
