/* protobuf-c messages into buffers and back, with a bound on what a hostile peer can make us allocate. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

/* Appends the packed message. Pass &request.base of a generated struct. */
void message_pack(struct buf *out, const struct ProtobufCMessage *m);

/* Unpacks @len bytes that came from outside. Memory is bounded by 1 MiB + 8 * @len, however many tiny fields the bytes hold.
 * Returns NULL when they are no such message or need more. Owned by the caller: message_free(). */
void *message_unpack(const struct ProtobufCMessageDescriptor *d, const void *p, size_t len);
void message_free(void *m); /* accepts NULL */

static inline void message_freep(void *m)
{
	message_free(*(void **)m);
}
#define _cleanup_message_ _cleanup_(message_freep)
