/* Talking to a running machine's monitor and, through it, to the guest's agent. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "machine/rpc.h"
#include "store/store.h"

#define MONITOR_SERVICE "skerry.monitor.v1.Monitor"
#define AGENT_SERVICE   "skerry.agent.v1.Agent"

struct client {
	struct loop *loop; /* owned, unless it was given */
	bool loop_given;
	struct rpc *rpc; /* owned; NULL after the connection ended */
	char *name;      /* owned: the machine's */
};

/* Connects to the monitor; where it died and the machine still runs, starts one that adopts it. Errors: kind NOT_FOUND; "machine 'x' is not
 * running" (-ESRCH, hint `skerry start x`). */
int client_connect(const struct store *s, const struct name *name, struct client *ret, struct error *err);
/* The same in a loop of the caller's, which lives longer. */
int client_connect_in(struct loop *l, const struct store *s, const struct name *name, struct client *ret,
		      struct error *err);
void client_done(struct client *c);
#define _cleanup_client_ _cleanup_(client_done)

/* One call, waited for. The response's payload is appended to @out (may be NULL).
 * @message: a packed protobuf-c message, NULL for Empty. @timeout_ns: 0 = none. */
struct ProtobufCMessage;
int client_call(struct client *c, const char *service, const char *method, const struct ProtobufCMessage *message,
		uint64_t timeout_ns, struct buf *out, struct error *err);
/* Waits for the machine's end (Monitor.Wait EXIT), whose WaitResponse is appended to @out. A monitor that dies is no end: what runs on is adopted,
 * and waited for in the same loop. Nothing in @out: it has ended, and its record tells how (with --rm nobody does). @timeout_ns: 0 = none. Errors: -ESRCH it did
 * not run; -ETIMEDOUT; -ECONNRESET when its monitors do not stay. */
int client_wait_end(const struct store *s, const struct name *name, struct client *c, uint64_t timeout_ns,
		    struct buf *out, struct error *err);
/* Waits for the agent (Monitor.Wait AGENT); @timeout_ns: 0 = none. Errors: -ETIMEDOUT with the last console lines in the message's hint; -ESRCH when the machine ended
 * meanwhile, with the reason. */
int client_wait_agent(struct client *c, uint64_t timeout_ns, struct error *err);
