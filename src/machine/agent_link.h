/* The monitor's connection to the guest's agent: finds its place in the byte pipe (wire/sync.h), says hello, then carries calls. */
#pragma once

#include <stdint.h>

#include "base/loop.h"
#include "machine/rpc.h"
#include "wire/sync.h"

struct agent_link;

enum agent_ending { AGENT_ENDING_POWER_OFF, AGENT_ENDING_REBOOT };

struct agent_link_events {
	/* The agent answered. @error: what of the boot configuration could not be applied, "" = nothing. Both are fit for a terminal and
	 * bounded. */
	void (*ready)(const char *version, const char *error, void *data);
	/* The guest is about to end itself in an orderly way. */
	void (*ending)(enum agent_ending how, void *data);
	/* The pipe broke, or the guest does not keep to the protocol. */
	void (*lost)(void *data);
};

/* Owns @fd (a connected stream). @events is borrowed. */
int agent_link_new(struct loop *l, int fd, const uint8_t token[SYNC_TOKEN_SIZE], const struct agent_link_events *events,
		   void *data, struct agent_link **ret);
/* For calls; NULL until ready. Borrowed. */
struct rpc *agent_link_rpc(struct agent_link *a);
/* rpc_cancel() that may also come when the connection has ended and its calls are being answered. Accepts NULL. */
void agent_link_cancel(struct agent_link *a, int stream_id);
struct agent_link *agent_link_free(struct agent_link *a);
