/* Taking over the interfaces of a network namespace (a container's) for a guest.
 *
 * Beside an interface a TAP is made, and traffic control redirects whatever arrives at the one to the other, both ways:
 *
 *     outside ── eth0 ─┬─ ingress ──> sktap2 ── guest      guest ── sktap2 ── ingress ──> eth0 ── outside
 *                      └─ (the namespace's own stack gets nothing any more)
 *
 * The guest has the interface's hardware address, addresses, MTU and routes, so that for everybody else nothing has changed. The interface
 * keeps its addresses all the time: multicast groups, and ipvlan's way of telling its interfaces apart, hang on them.
 *
 * Needs CAP_NET_ADMIN in the namespace (and CAP_SYS_ADMIN to enter one), /dev/net/tun, and a kernel with the ingress queueing discipline, the
 * u32 classifier and the mirred action (as sold by every distribution). Routes of other tables than main, and rules, are not carried over.
 *
 * Everywhere @netns_fd is a borrowed descriptor of the namespace, -1 = the own one. All calls are synchronous and end at once. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

struct net_route {
	char destination[64]; /* CIDR; "0.0.0.0/0" and "::/0" for everything */
	char gateway
		[46]; /* "" = on the link; need not be in the interface's own network, nor of the destination's family */
	char source[46]; /* preferred source address, "" = none */
	uint32_t metric; /* 0 = the kernel's default */
	uint32_t mtu;    /* 0 = the interface's; a tunnel further on may take less */
};

struct net_neighbour {
	char address[46];
	char mac[18];
};

struct net_takeover_nic {
	char name[16];
	char kind[16]; /* of the driver: "veth"; "" = it has none */
	unsigned index;
	char mac[18];
	struct strv addresses; /* CIDR, IPv4 and IPv6, no IPv6 link-local ones */
	uint32_t mtu;
	struct net_route
		*routes; /* owned; those of table main beside what an address brings by itself; on-link ones first */
	size_t n_routes;
	struct net_neighbour *neighbours; /* owned; permanent entries: some plugins answer for a gateway only by them */
	size_t n_neighbours;
	/* Of the default route with the lowest metric, "" = none: for what can be told no more. It is among the routes too. */
	char gateway[46], gateway6[46];
	char tap[16]; /* the TAP's name: "sktap" and the index */
};

struct net_takeover {
	struct net_takeover_nic *nics; /* owned; in the order of their indexes */
	size_t n;
};
void net_takeover_done(struct net_takeover *t);

/* Reads what the namespace holds, without a side effect: the interfaces in @names, or (NULL or empty) every one but lo that is up and has an
 * address. None at all is no error.
 * Errors: kind CONFIG naming the interface that cannot be handed to a guest and why (no Ethernet, ipvlan in another mode than l2, two with one
 * hardware address, down); NOT_FOUND a name of @names; DENIED. */
int net_takeover_inspect(int netns_fd, const struct strv *names, struct net_takeover *ret, struct error *err);

/* What stays with the namespace's own stack, which gets nothing otherwise. It keeps the interface's addresses, so that it can ask others; what it
 * does not get is their answers. */
struct net_takeover_keep {
	const char *
		control; /* IPv4 address with its network, "169.254.255.1/30", that the stack has on the TAP: there the guest reaches it, and it
				the guest, by another address of that network, and nobody else takes part. NULL = none */
	bool names; /* answers from port 53, and what resolves neighbours, come to both: the stack may ask name servers */
	const uint16_t *ports; /* TCP: connections from outside to these are the stack's */
	size_t n_ports;
};

/* Makes the TAP of @nic and joins the two; what @keep says (NULL = nothing) stays. *ret_tap_fd: TAP without packet information, with virtio-net headers, for the engine; owned, CLOEXEC.
 * What is made outlives the process that made it, so the namespace should be on record before. Leftovers of a call that was broken off are
 * replaced; on failure nothing is left.
 * Errors: kind BUSY the TAP is in use, or the interface has filters of somebody else; NOT_FOUND the interface has gone; UNAVAILABLE the
 * kernel cannot do it, or there is no /dev/net/tun. */
int net_takeover_attach(int netns_fd, const struct net_takeover_nic *nic, const struct net_takeover_keep *keep,
			int *ret_tap_fd, struct error *err);

/* A way to the guest behind @nic that nobody else is on, in the own namespace: a TAP ("skask2") by which net_takeover_attach(), called later, leads aside
 * what the guest asks about its configuration (DHCP of both families, router solicitations, and whatever is for NET_CONTROL_SIX and
 * NET_CONTROL_ROUTER), and, where it keeps a control address, what is for that from another than the guest's there. What is written to it goes to the
 * guest; what others on the network answer such questions goes to the stack, not to the guest. *ret_fd: plain frames; owned, CLOEXEC, not blocking. The
 * TAP goes with its descriptor. Errors: kind BUSY somebody has it; UNAVAILABLE no /dev/net/tun. */
int net_takeover_aside(const struct net_takeover_nic *nic, int *ret_fd, struct error *err);
/* A TUN ("sktun") by which the own namespace's stack, as NET_CONTROL_HOST, speaks with NET_CONTROL_LEASED and NET_CONTROL_LEASED6. *ret_fd: plain IPv4
 * packets; as above. @mtu: of the interface that the guest has. */
int net_takeover_control(uint32_t mtu, int *ret_fd, struct error *err);

/* Whether nobody has one of the namespace's interfaces. Errors: kind BUSY, naming the TAP that an engine has. */
int net_takeover_free(int netns_fd, struct error *err);
/* Undoes every attach in that namespace, from the names alone: filters, queueing disciplines that were not there before, TAPs (also one that is
 * in use). Idempotent; nothing to do is success. Goes on after a failure and returns the first. */
int net_takeover_release(int netns_fd, struct error *err);
