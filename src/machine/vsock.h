/* The agent's way to the monitor over vsock (vsock(7), linux/vhost.h), the host's side of it.
 *
 * vhost gives an address (CID) to one machine of the host only, whoever runs it, and takes it back when the engine ends. So nobody keeps a list:
 * candidates are tried until one is free. The monitor listens on the port with the same number, so machines do not meet there either.
 *
 * Who calls there may be anybody on the host or in a guest. The agent is who has the machine's CID and a port below 1024, which a guest's kernel
 * gives to privileged processes only; and it has to know the token (wire/sync.h), as the host has. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"

struct sockaddr_vm;
struct vsock_listener;

/* Can this process give a machine a CID and listen? Tried, not looked up; *ret_why (static, may be NULL) is what failed. */
bool vsock_usable(const char **ret_why);
/* The @n-th CID to try for a machine: the same ones each time, so that a machine mostly keeps its own. Never a reserved one. */
uint32_t vsock_candidate(const char *machine_id, unsigned n);
/* A descriptor of /dev/vhost-vsock that holds @cid, owned by the caller and meant for the engine. Errors: -EADDRINUSE. */
int vsock_take(uint32_t cid);
/* A listening socket at the host's own address. Owned by the caller. Errors: -EADDRINUSE. */
int vsock_listen(uint32_t port);
bool vsock_is_agent(const struct sockaddr_vm *peer, uint32_t cid);

/* Owns @listen_fd. @connected gets each connection of the machine's agent (owned by the callee, non-blocking); others are closed unread. */
int vsock_listener_new(struct loop *l, int listen_fd, uint32_t cid, void (*connected)(int fd, void *data), void *data,
		       struct vsock_listener **ret);
struct vsock_listener *vsock_listener_free(struct vsock_listener *v);
