/* Calls of gRPC (doc/PROTOCOL-HTTP2.md of grpc): one message there, one back, over a unix socket. */
#pragma once

struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

/* How a call ended. grpc_answer_done() releases it. */
struct grpc_answer {
	int status; /* gRPC's: 0 = OK, 5 = NOT_FOUND; -1 = there was no such answer, which @text tells */
	char *text; /* grpc-message, percent-decoded; never NULL */
	void *m;    /* with status 0 */
};
void grpc_answer_done(struct grpc_answer *a);
#define _cleanup_grpc_ __attribute__((cleanup(grpc_answer_done)))

/* Calls @method ("/runtime.v1.RuntimeService/Version") at the socket @path with @request, which is answered by a message of @type. */
struct grpc_answer grpc_call(const char *path, const char *method, const struct ProtobufCMessage *request,
			     const struct ProtobufCMessageDescriptor *type, unsigned timeout_s);
