/* The other side of a shim's socket, as containerd is one, or as it never would: any number of calls under way, answered in any order. Whatever cannot
 * be sent or does not come in time fails the test. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct ProtobufCMessage;
struct ProtobufCMessageDescriptor;

#define TASK_SERVICE    "containerd.task.v2.Task"
#define SANDBOX_SERVICE "containerd.runtime.sandbox.v1.Sandbox"

struct shim_peer {
	int fd;
	uint32_t last;
	struct buf in;
	struct early *early; /* owned; answers that nobody has asked for yet */
};
void shim_peer_open(struct shim_peer *p, const char *socket_path);
void shim_peer_close(struct shim_peer *p);
#define _cleanup_peer_ __attribute__((cleanup(shim_peer_close)))

/* Sends a request: its stream. @m NULL: an empty message. */
uint32_t shim_ask(struct shim_peer *p, const char *service, const char *method, const struct ProtobufCMessage *m);
/* Bytes as they are. */
void shim_send(struct shim_peer *p, const void *bytes, size_t n);

struct shim_answer {
	int code;   /* gRPC's; 0 = OK */
	char *text; /* of the status; owned, never NULL */
	void *m;    /* with code 0, where a type was given; owned */
};
void shim_answer_done(struct shim_answer *a);
#define _cleanup_answer_ __attribute__((cleanup(shim_answer_done)))

/* Waits for the answer on @stream, which may be one that nothing was sent on. */
struct shim_answer shim_answer(struct shim_peer *p, uint32_t stream, const struct ProtobufCMessageDescriptor *type);
struct shim_answer shim_call(struct shim_peer *p, const char *service, const char *method,
			     const struct ProtobufCMessage *m, const struct ProtobufCMessageDescriptor *type);
/* Nothing has come for @stream yet. */
bool shim_unanswered(struct shim_peer *p, uint32_t stream);
/* The shim has ended the connection, or does so now. */
void shim_expect_end(struct shim_peer *p);
