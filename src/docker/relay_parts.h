/* What the files of the relay share; nobody else includes this. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>

#include "docker/relay.h"

/* A socket that listens. There are up to 130000: small. */
struct listener {
	int fd; /* owned */
	uint16_t port, guest_port;
	bool udp;
};

/* Somebody who waits for a target; part of a connection or session. */
struct waiter {
	/* 0 = nothing leads there */
	void (*fn)(struct waiter *w, uint16_t loopback_port);
	struct waiter *next, **link; /* link NULL = does not wait */
};

/* A port of the guest that was wanted. */
struct target {
	struct relay *relay; /* borrowed: owns us */
	bool udp;
	uint16_t guest_port;
	uint16_t loopback_port; /* 0 = not known */
	uint64_t ticket;        /* asked for, 0 = not */
	unsigned users;
	struct waiter *waiters;
	struct target *next; /* most recently used first */
};

/* The socket that sock_diag(7) is asked over. */
struct peer_diag {
	int fd; /* owned; -EBADF = not opened yet */
	bool unusable;
};

struct connection;
struct opening;
struct session;
struct session_list {
	struct session *first, *last; /* stalest first */
};

enum { TCP_CHUNK = 256 << 10, UDP_CHUNK = 65536, UDP_BUCKETS = 1024, DATAGRAMS_QUEUED_MAX = 1 << 20 };

struct relay {
	struct loop *loop; /* borrowed */
	struct relay_options options;
	int family; /* of sockets for every address: AF_INET6 takes both, AF_INET where there is no IPv6 */

	struct listener *listeners; /* owned */
	size_t n_listeners, listeners_cap;
	int epoll_fd;                      /* owned: the listeners'; one source of the loop instead of 75000 */
	struct loop_source *listen_source; /* owned */
	struct loop_source *resume_timer;  /* owned: listens on after descriptors had run out */
	struct opening *opening;           /* owned; NULL once everything is listened on */
	char *notice;                      /* owned */

	struct target *targets; /* owned */
	unsigned n_targets;
	uint64_t last_ticket;

	struct connection *connections; /* owned */
	unsigned n_connections, connections_max;
	struct loop_source *tcp_timer; /* owned */
	uint64_t tcp_timer_ns;
	struct peer_diag diag;

	struct session **buckets;              /* owned: UDP_BUCKETS lists */
	struct session_list unanswered, alive; /* the guest never answered the first */
	unsigned n_sessions, sessions_max;
	size_t queued_bytes;           /* datagrams that wait for their target */
	struct loop_source *udp_timer; /* owned */
	uint64_t hash_seed;

	uint64_t refused;
	unsigned char *scratch; /* owned: TCP_CHUNK */
};

/* relay.c */
/* Nothing is taken in until descriptors may be free again. */
void relay_pause(struct relay *r);

/* relay_listen.c */
int listen_begin(struct relay *r, const struct relay_options *options, struct error *err);
void listen_free(struct relay *r);

/* relay_target.c */
/* The caller is a user of it until target_unuse(). NULL: too many are in use. */
struct target *target_use(struct relay *r, bool udp, uint16_t guest_port);
void target_unuse(struct target *t);
/* Calls @w's function once, possibly at once, unless waiter_cancel() comes first. */
void target_wait(struct target *t, struct waiter *w);
void waiter_cancel(struct waiter *w);
/* Nobody listens on @loopback_port any more. */
void target_stale(struct target *t, uint16_t loopback_port);
void targets_free(struct relay *r);

/* relay_tcp.c */
int tcp_new(struct relay *r);
void tcp_accept(struct relay *r, const struct listener *l);
void tcp_free(struct relay *r);

/* relay_udp.c */
int udp_new(struct relay *r);
void udp_receive(struct relay *r, const struct listener *l);
/* Sessions of listeners from @first on end: those are given up. */
void udp_forget_from(struct relay *r, const struct listener *first);
void udp_free(struct relay *r);

/* relay_peer.c: of the loopback connection @fd, whether its other end has given it up whole, as the engine does when the guest refuses or resets,
 * rather than ended its own half. <0 where the kernel does not tell. */
int peer_has_gone(struct peer_diag *d, int fd);
/* Whether there is another end yet: 1, 0 (no, or @fd was reset), or a negative errno: cannot be asked. */
int peer_has_come(struct peer_diag *d, int fd);
void peer_done(struct peer_diag *d);

static inline struct sockaddr_in loopback_address(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}
