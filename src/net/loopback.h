/* What is said to the loopback of a network namespace, when whoever should hear it is elsewhere.
 *
 * Somebody in the namespace connects to 127.0.0.1 or ::1, by TCP, and means a program of the pod; a guest has that. Two sockets listen in its place,
 * for every port at once: a program of type sk_lookup (Linux 5.9; bpf(2)) leads what finds no connection of its own to them, and getsockname(2) of
 * what was accepted tells which port was meant. Whoever holds the descriptors holds all of it; nothing is left in the namespace without them. */
#pragma once

#include "base/error.h"

struct net_loopback {
	int listeners[2]; /* owned, CLOEXEC, not blocking: IPv4, IPv6 (-1: the namespace has none) */
	int link;         /* owned: while it is open, connections are led */
};

/* Needs CAP_NET_ADMIN and CAP_BPF. @netns_fd is borrowed. Errors: UNAVAILABLE the kernel cannot do it; DENIED. Nothing is held then. */
int net_loopback_open(int netns_fd, struct net_loopback *ret, struct error *err);
/* Connections that were accepted stay. Idempotent. */
void net_loopback_close(struct net_loopback *l);
