/* A ttrpc connection in an event loop: client calls and server requests on one socket. Used towards the guest's agent, between commands and
 * monitors, and by the containerd shim. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "wire/ttrpc.h"

struct rpc;

/* Exactly once per call. @err NULL: @payload is the response's (borrowed). A status from the peer arrives as @err with its message, fit
 * for a terminal and at most some 2 KiB, and the errno of ttrpc_code_to_errno(). */
typedef void (*rpc_done_fn)(const struct error *err, const uint8_t *payload, size_t len, void *data);
/* A request came in; answer now or later with rpc_reply(). */
typedef void (*rpc_request_fn)(struct rpc *r, uint32_t stream_id, const struct ttrpc_request *req, void *data);
/* The connection ended (once); every pending call was answered before. */
typedef void (*rpc_closed_fn)(struct rpc *r, int num, void *data);

/* Owns @fd. @on_request NULL: whatever is no answer to calls of ours ends the connection, requests too. Otherwise
 * what is against the rules of ttrpc's PROTOCOL.md (stream ids even, 0 or used before, more than 4 MiB, data without a stream) is answered with
 * an error on its stream, and the connection goes on. */
int rpc_new(struct loop *l, int fd, rpc_request_fn on_request, rpc_closed_fn on_closed, void *data, struct rpc **ret);
struct rpc *
rpc_free(struct rpc *r); /* pending calls are answered -ECONNRESET; accepts NULL; may be called in any callback */

/* False once the connection has ended, in the answers that its end gives to pending calls already. */
bool rpc_is_open(const struct rpc *r);
/* Returns the stream id, or <0 when it could not be queued (then @done is not called). @deadline_ns CLOCK_MONOTONIC, UINT64_MAX = none:
 * -ETIMEDOUT to @done, a late answer is dropped. */
int rpc_call(struct rpc *r, const char *service, const char *method, const void *payload, size_t len,
	     uint64_t deadline_ns, rpc_done_fn done, void *data, struct error *err);
/* Forgets the caller's interest: @done will not be called. */
void rpc_cancel(struct rpc *r, int stream_id);
void rpc_reply(struct rpc *r, uint32_t stream_id, const void *payload, size_t len);
void rpc_reply_error(struct rpc *r, uint32_t stream_id, int num, const char *message);
/* Bytes that belong to the connection but were read before it was made. */
void rpc_feed(struct rpc *r, const void *p, size_t n);
/* Bytes queued to be written. */
size_t rpc_backlog(const struct rpc *r);
