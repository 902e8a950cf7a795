/* The agent's connection to the host: bytes on a virtio-serial port, a vsock or a socket; requests out of them, responses into them.
 *
 * A virtio-serial port reads end-of-file until the host's end is open and again after it closed, and poll(2) says so without end: it is
 * watched edge triggered, so that a wait costs nothing, and an end-of-file only means "not now". A vsock that ends is dialled again with a
 * growing pause. A plain descriptor that ends is the end of the agent (that is the mode of its tests).
 *
 * A host process may die in the middle of a frame. wire/sync.h tells how the next one starts afresh: at any moment TOKEN NONCE may come,
 * and all that was begun is forgotten (on_reset). On a port and on a vsock nothing is believed before the first sync: where the monitor
 * listened, some other process of the host may by now. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/loop.h"
#include "wire/sync.h"
#include "wire/ttrpc.h"

struct ProtobufCMessage;
struct link;

struct link_target {
	int fd;               /* LINK over this descriptor, owned; -1: see below */
	uint32_t vsock_port;  /* dial the host there; 0: the virtio-serial port PORT_NAME */
	const uint8_t *token; /* SYNC_TOKEN_SIZE bytes, copied; NULL: no sync (plain descriptor only) */
};

#define LINK_PORT_NAME "skerry.agent"

/* @req is borrowed for the call; answer now or later, once, with link_reply() or link_error(). */
typedef void (*link_request_fn)(uint32_t stream_id, const struct ttrpc_request *req, void *data);
/* The host started afresh or went away: no request that came before may be answered any more. */
typedef void (*link_reset_fn)(void *data);

int link_new(struct loop *l, const struct link_target *t, link_request_fn on_request, link_reset_fn on_reset,
	     void *data, struct link **ret);
/* Looks for the host. Callbacks come from here on. */
int link_start(struct link *k);
struct link *link_free(struct link *k);

void link_reply(struct link *k, uint32_t stream_id, const struct ProtobufCMessage *m);
/* @num is an errno of either sign; @fmt the text for a person. */
void link_error(struct link *k, uint32_t stream_id, int num, const char *fmt, ...) _printf_(4, 5);
/* Blocks until what is queued was written, at most until @deadline_ns: for the last words before reboot(2). */
void link_flush(struct link *k, uint64_t deadline_ns);
