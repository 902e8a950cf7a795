/* run/NAME/control.sock: what commands ask of a monitor. Requests for the agent's service are passed on to the guest. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "machine/rpc.h"

struct control;
struct control_peer; /* one connected command */

struct control_handler {
	/* A call of the monitor's service; answer with control_reply*(), now or later (the peer may be gone by then: @ticket knows). */
	void (*request)(uint64_t ticket, const char *method, const uint8_t *payload, size_t len, void *data);
	/* The guest's agent, NULL while there is none. */
	struct rpc *(*agent)(void *data);
	/* Nobody reads process @id any more (its command went away); or a waiting call for it was answered. */
	void (*released)(const char *id, void *data);
	/* A command's connection has ended, for whatever reason; @peer as control_peer_of() tells. May be NULL. */
	void (*gone)(uint64_t peer, void *data);
};

/* @run_fd and @handler are borrowed. */
int control_new(struct loop *l, int run_fd, const struct control_handler *handler, void *data, struct control **ret);
void control_reply(struct control *c, uint64_t ticket, const void *payload, size_t len);
void control_reply_error(struct control *c, uint64_t ticket, int num, const char *message);
/* Which connection a request came over, 0 when that is gone; never the same number twice. */
uint64_t control_peer_of(const struct control *c, uint64_t ticket);
/* Calls about process "main" that wait for the guest's answer. */
unsigned control_pending_main(const struct control *c);
/* Is a command attached to process "main"? */
bool control_main_attached(const struct control *c);
/* Commands that are connected. */
unsigned control_peers(const struct control *c);
struct control *control_free(struct control *c);
