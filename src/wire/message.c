#include "wire/message.h"

#include <protobuf-c/protobuf-c.h>
#include <stdlib.h>

enum {
	ALLOCATION_FLOOR = 1 << 20, /* any small message may have this much */
	ALLOCATION_FACTOR = 8,
	ALLOCATION_OVERHEAD = 32, /* malloc's own, per piece */
};

void message_pack(struct buf *out, const struct ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);

	if (n == 0)
		return;
	protobuf_c_message_pack(m, buf_reserve(out, n));
	buf_commit(out, n);
}

static void *bounded_alloc(void *data, size_t n)
{
	size_t *left = data;

	if (n >= SIZE_MAX - ALLOCATION_OVERHEAD || n + ALLOCATION_OVERHEAD > *left)
		return NULL;
	*left -= n + ALLOCATION_OVERHEAD;
	return malloc(n ? n : 1);
}

static void bounded_free(void *data, void *p)
{
	(void)data;
	free(p);
}

void *message_unpack(const struct ProtobufCMessageDescriptor *d, const void *p, size_t len)
{
	size_t left;
	ProtobufCAllocator allocator = { .alloc = bounded_alloc, .free = bounded_free, .allocator_data = &left };

	if (__builtin_mul_overflow(len, (size_t)ALLOCATION_FACTOR, &left) ||
	    __builtin_add_overflow(left, (size_t)ALLOCATION_FLOOR, &left))
		return NULL;
	return protobuf_c_message_unpack(d, &allocator, len, p);
}

void message_free(void *m)
{
	/* What bounded_alloc() gave came from malloc, which the default allocator releases. */
	if (m)
		protobuf_c_message_free_unpacked(m, NULL);
}
