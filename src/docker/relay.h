/* Every port that is published to the container leads to the guest, with no capability at all.
 *
 * Nothing inside a container tells which of its ports are published, and without NET_ADMIN nothing but a socket that listens there takes
 * what comes in. So the relay listens on all ports that are free, TCP and UDP, or on those of a list; a connection to one of them is joined
 * to a port on the loopback from which the engine's user networking leads to the guest. That port is asked for when a port of the guest is
 * wanted for the first time: @resolve, which the monitor's Forward call answers. It all runs in the caller's loop, without threads.
 *
 *   relay.c        the whole
 *   relay_listen.c what it listens on, and how far descriptors and memory go
 *   relay_ports.c  port lists as docker writes them
 *   relay_target.c ports of the guest, and the loopback ports that lead to them
 *   relay_tcp.c    connections
 *   relay_udp.c    sessions of datagrams
 *   relay_peer.c   whether the engine has dropped a connection, or only ended its half */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "base/memory.h"

/* Kernel memory of one port that is listened on, as measured (Linux 6.18, IPv4 and IPv6 alike, whatever the backlog): socket, inode, file,
 * epoll's entry. All ports outside of the default net.ipv4.ip_local_port_range: 37303 of each kind, 149 and 103 MB. */
#define RELAY_TCP_PORT_BYTES 4096
#define RELAY_UDP_PORT_BYTES 2816

/* Ports first to last of the container lead to as many of the guest, from guest_first on. */
struct relay_range {
	char ip[46]; /* an address of the container; "" = every one */
	bool udp;
	uint16_t first, last; /* 1 to 65535 */
	uint16_t guest_first;
};

struct relay_ports {
	struct relay_range *items; /* owned */
	size_t n;
};

/* Reads PORTS: docker's port specs "[IP:][PORT:]GUEST[/tcp|/udp]", with ranges "8000-8010", between commas or white space. A spec that is there
 * twice counts once. @except (may be NULL): ports that the container itself uses and nobody may ask for. Every spec that is wrong is one line in
 * @ret_wrong, with what to write instead; @ret holds the others. Returns how many are wrong. */
int relay_ports_parse(const char *text, const struct relay_ports *except, struct relay_ports *ret,
		      struct strv *ret_wrong);
/* One port of every address, led to the same port of the guest. */
void relay_ports_add(struct relay_ports *p, bool udp, uint16_t port);
bool relay_ports_has(const struct relay_ports *p, bool udp, uint16_t port);
void relay_ports_done(struct relay_ports *p);
#define _cleanup_relay_ports_ _cleanup_(relay_ports_done)

struct relay;

/* Port @guest_port of the guest is wanted: relay_resolved() with @ticket, now or later, once and in any case; never relay_free() from here. Until the
 * answer nobody asks for that port again; who waits for it is reset in time. */
typedef void (*relay_resolve_fn)(struct relay *r, uint64_t ticket, bool udp, uint16_t guest_port, void *data);
/* A port that was resolved is not needed any more: what leads to it may be given up. It may be resolved again later. */
typedef void (*relay_release_fn)(bool udp, uint16_t guest_port, void *data);

struct relay_options {
	const struct relay_ports
		*ports; /* only these; NULL = all that are free outside of net.ipv4.ip_local_port_range */
	const struct relay_ports *except; /* never these; may be NULL */
	uint64_t kernel_memory_max;       /* bytes for sockets that listen, 0 = no bound of ours; not with @ports */
	relay_resolve_fn resolve;
	relay_release_fn release; /* NULL = what was resolved stays */
	/* Everything is listened on, relay_notice() is there; not with @ports. NULL = relay_new() does not return before. */
	void (*listening)(struct relay *r, void *data);
	void *data;
	/* 0 = what is said here */
	uint64_t wait_ns;      /* a connection waits this long for relay_resolved(): 10 s */
	uint64_t udp_idle_ns;  /* a session without datagrams ends: 60 s */
	unsigned connections;  /* at a time, 4096; fewer where descriptors are few */
	unsigned udp_sessions; /* at a time, 1024; fewer likewise; the stalest makes room */
	unsigned targets;      /* ports of the guest that are resolved at a time, 512 */
};

/* Listens from now on. Raises RLIMIT_NOFILE's soft limit to the hard one, for this process and those it starts. Where descriptors (an eighth of
 * the limit, at least 512, stay free for work) or memory end, ports are taken in this order: TCP 1 to 1023, UDP 1 to 1023, TCP from 1024 up, UDP
 * from 1024 up. The last two take about a second of processor time for 75000 sockets, and with @listening they are opened a few at a time
 * in the loop. Where the host has no more sockets or watches to give, the last eighth, at least 512, is closed again: for work. Nothing
 * that @ports and @except point to is needed after the call.
 * Errors: kind CONFIG when a port of the list cannot be had, all of them named; errno of the loop. */
int relay_new(struct loop *loop, const struct relay_options *options, struct relay **ret, struct error *err);
/* Connections are reset. Accepts NULL; returns NULL. */
struct relay *relay_free(struct relay *r);
DEFINE_CLEANUP(struct relay *, relay_free);

/* 127.0.0.1:@loopback_port leads there; 0 = nothing does, and who waits is reset. A @ticket that is answered or made up is ignored. */
void relay_resolved(struct relay *r, uint64_t ticket, uint16_t loopback_port);
/* The engine was started anew: nothing that was resolved leads anywhere. Connections end by themselves. */
void relay_forget(struct relay *r);

/* One line for the log: which ports do not reach the guest, why, and what helps. NULL when all of them do, or before
 * @listening. Borrowed. */
const char *relay_notice(const struct relay *r);

struct relay_counts {
	unsigned tcp_ports, udp_ports; /* listened on */
	unsigned connections, udp_sessions, targets;
	uint64_t
		refused; /* connections that were reset before the guest said anything, or because there were too many */
};
void relay_count(const struct relay *r, struct relay_counts *ret);
