/* The socket that containerd calls: ttrpc connections, each with any number of calls under way, answered in any order. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"

struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;
struct server;

/* One call that came in, to be answered exactly once with call_reply() or call_fail(), whenever that is: the caller may be gone by then. */
struct call;

struct server_method {
	const char *service, *name;
	const struct ProtobufCMessageDescriptor *request;
	/* @request: unpacked, borrowed for the duration of the call. */
	void (*handle)(void *data, struct call *c, const void *request);
};

/* @listen_fd is owned; @methods ends with a zeroed entry and is borrowed, as @data. */
int server_new(struct loop *l, int listen_fd, const struct server_method *methods, void *data, struct server **ret);
/* Bytes of answers that are still on their way. */
size_t server_backlog(const struct server *s);
struct server *
server_free(struct server *s); /* calls that are not answered yet stay valid; accepts NULL; returns NULL */

/* @m NULL: an empty message. Both free @c. */
void call_reply(struct call *c, const struct ProtobufCMessage *m);
void call_fail(struct call *c, const struct error *err);
void call_failf(struct call *c, int num, const char *fmt, ...) _printf_(3, 4);
