/* How this works: a session is one client's address and port, one port of the container and the address of ours that it was sent to. It has a
 * socket of its own, connected to the loopback port, so that the engine tells clients apart, and what comes back goes out of the socket that
 * listens, from the address that the client had asked.
 *
 * Sources of datagrams are forged easily: sessions are few (1024), and when there is no room the stalest makes it, first of those that the
 * guest never answered. What waits for a target is bounded together. */
#include "docker/relay_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { DATAGRAMS_AT_ONCE = 64, QUEUE_MAX = 8 };

union address {
	struct sockaddr sa;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* Who sent it to which of our addresses. */
struct route {
	union address client;
	struct in6_pktinfo to6;
	struct in_addr to;
};

struct datagram {
	struct datagram *next;
	size_t len;
	unsigned char bytes[];
};

struct session {
	struct relay *relay;             /* borrowed: owns us */
	const struct listener *listener; /* borrowed: stays until udp_forget_from() */
	struct target *target;           /* used */
	struct waiter waiter;
	struct route route;
	int fd; /* owned; <0 while it waits */
	struct loop_source *source;
	uint16_t loopback_port;
	bool asked_again, answered;
	uint64_t begun_ns, last_ns;
	struct datagram *queue; /* owned */
	unsigned n_queued;
	struct session *previous, *next; /* in the list of its kind */
	struct session *bucket_next, **bucket_link;
};

static struct session_list *list_of(struct session *s)
{
	return s->answered ? &s->relay->alive : &s->relay->unanswered;
}

static void list_remove(struct session *s)
{
	struct session_list *l = list_of(s);

	*(s->previous ? &s->previous->next : &l->first) = s->next;
	*(s->next ? &s->next->previous : &l->last) = s->previous;
	s->previous = s->next = NULL;
}

static void list_append(struct session *s)
{
	struct session_list *l = list_of(s);

	s->previous = l->last;
	*(l->last ? &l->last->next : &l->first) = s;
	l->last = s;
}

static void touch(struct session *s, bool answered)
{
	list_remove(s);
	s->answered |= answered;
	s->last_ns = clock_monotonic_ns();
	list_append(s);
}

static void drop_first(struct session *s)
{
	struct datagram *d = s->queue;

	s->queue = d->next;
	s->n_queued--;
	s->relay->queued_bytes -= d->len;
	free(d);
}

static void session_free(struct session *s)
{
	struct relay *r = s->relay;

	waiter_cancel(&s->waiter);
	target_unuse(s->target);
	while (s->queue)
		drop_first(s);
	loop_source_free(s->source);
	safe_close(s->fd);
	list_remove(s);
	*s->bucket_link = s->bucket_next;
	if (s->bucket_next)
		s->bucket_next->bucket_link = s->bucket_link;
	r->n_sessions--;
	free(s);
}

static struct session **bucket_of(struct relay *r, const struct listener *l, const struct route *route)
{
	const unsigned char *p = (const unsigned char *)&route->client;
	uint64_t h = r->hash_seed ^ l->port;

	for (size_t i = 0; i < sizeof(route->client); i++)
		h = (h ^ p[i]) * UINT64_C(0x100000001b3);
	return &r->buckets[(h ^ h >> 32) % UDP_BUCKETS];
}

static bool same_route(const struct route *a, const struct route *b)
{
	if (a->client.sa.sa_family != b->client.sa.sa_family)
		return false;
	if (a->client.sa.sa_family == AF_INET)
		return a->client.in.sin_port == b->client.in.sin_port &&
		       a->client.in.sin_addr.s_addr == b->client.in.sin_addr.s_addr && a->to.s_addr == b->to.s_addr;
	return a->client.in6.sin6_port == b->client.in6.sin6_port &&
	       IN6_ARE_ADDR_EQUAL(&a->client.in6.sin6_addr, &b->client.in6.sin6_addr) &&
	       a->client.in6.sin6_scope_id == b->client.in6.sin6_scope_id &&
	       IN6_ARE_ADDR_EQUAL(&a->to6.ipi6_addr, &b->to6.ipi6_addr) && a->to6.ipi6_ifindex == b->to6.ipi6_ifindex;
}

static struct session *session_find(struct relay *r, const struct listener *l, const struct route *route)
{
	for (struct session *s = *bucket_of(r, l, route); s; s = s->bucket_next)
		if (s->listener == l && same_route(&s->route, route))
			return s;
	return NULL;
}

/* What the guest said, to the client, from the address that it knows. */
static void answer_client(const struct session *s, unsigned char *bytes, size_t n)
{
	const struct route *route = &s->route;
	bool six = route->client.sa.sa_family == AF_INET6;
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(struct in6_pktinfo))];
	} control = {};
	struct iovec iov = { .iov_base = bytes, .iov_len = n };
	union address client = route->client;
	struct msghdr m = { .msg_name = &client,
			    .msg_namelen = six ? sizeof(client.in6) : sizeof(client.in),
			    .msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &control };

	if (six) {
		m.msg_controllen = CMSG_SPACE(sizeof(route->to6));
		control.header = (struct cmsghdr){ .cmsg_level = IPPROTO_IPV6,
						   .cmsg_type = IPV6_PKTINFO,
						   .cmsg_len = CMSG_LEN(sizeof(route->to6)) };
		memcpy(CMSG_DATA(&control.header), &route->to6, sizeof(route->to6));
	} else {
		const struct in_pktinfo from = { .ipi_spec_dst = route->to };

		m.msg_controllen = CMSG_SPACE(sizeof(from));
		control.header = (struct cmsghdr){ .cmsg_level = IPPROTO_IP,
						   .cmsg_type = IP_PKTINFO,
						   .cmsg_len = CMSG_LEN(sizeof(from)) };
		memcpy(CMSG_DATA(&control.header), &from, sizeof(from));
	}
	/* It had been sent to a broadcast or multicast address: the kernel chooses then. */
	if (sendmsg(s->listener->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
	    (errno == EINVAL || errno == EADDRNOTAVAIL)) {
		m.msg_control = NULL;
		m.msg_controllen = 0;
		(void)sendmsg(s->listener->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
}

/* The engine was started anew since its port was told. */
static void ask_again(struct session *s)
{
	if (s->asked_again) {
		session_free(s);
		return;
	}
	s->asked_again = true;
	s->source = loop_source_free(s->source);
	s->fd = safe_close(s->fd);
	s->begun_ns = clock_monotonic_ns();
	target_stale(s->target, s->loopback_port);
	target_wait(s->target, &s->waiter);
}

static int on_guest(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct session *s = data;

	(void)source;
	(void)events;
	for (unsigned i = 0; i < DATAGRAMS_AT_ONCE; i++) {
		ssize_t n = recv(fd, s->relay->scratch, UDP_CHUNK, MSG_DONTWAIT);

		if (n < 0 && errno == ECONNREFUSED) {
			ask_again(s);
			return 0;
		}
		if (n < 0)
			return 0;
		touch(s, true);
		s->asked_again = false;
		answer_client(s, s->relay->scratch, (size_t)n);
	}
	return 0;
}

/* False: the session is gone, or waits. */
static bool send_guest(struct session *s, const unsigned char *bytes, size_t n)
{
	/* Whatever else fails loses one datagram, as datagrams are lost. */
	if (send(s->fd, bytes, n, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0 || errno != ECONNREFUSED)
		return true;
	ask_again(s);
	return false;
}

static void on_target(struct waiter *w, uint16_t loopback_port)
{
	struct session *s = (struct session *)((char *)w - offsetof(struct session, waiter));
	struct sockaddr_in there = loopback_address(loopback_port);

	s->loopback_port = loopback_port;
	s->fd = loopback_port ? socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0) : -EBADF;
	if (s->fd < 0 || connect(s->fd, (const struct sockaddr *)&there, sizeof(there)) < 0 ||
	    loop_add_fd(s->relay->loop, &s->source, s->fd, EPOLLIN, on_guest, s) < 0) {
		session_free(s);
		return;
	}
	while (s->queue) {
		(void)send(s->fd, s->queue->bytes, s->queue->len, MSG_DONTWAIT | MSG_NOSIGNAL);
		drop_first(s);
	}
}

static void enqueue(struct session *s, const unsigned char *bytes, size_t n)
{
	struct datagram *d, **end = &s->queue;

	if (s->n_queued >= QUEUE_MAX || s->relay->queued_bytes + n > DATAGRAMS_QUEUED_MAX)
		return;
	d = xcalloc(1, sizeof(*d) + n);
	d->len = n;
	memcpy(d->bytes, bytes, n);
	while (*end)
		end = &(*end)->next;
	*end = d;
	s->n_queued++;
	s->relay->queued_bytes += n;
}

static void session_new(struct relay *r, const struct listener *l, const struct route *route,
			const unsigned char *bytes, size_t n)
{
	struct session **bucket = bucket_of(r, l, route), *s;
	struct target *t;

	if (r->n_sessions >= r->sessions_max)
		session_free(r->unanswered.first ? r->unanswered.first : r->alive.first);
	t = target_use(r, true, l->guest_port);
	if (!t)
		return;
	s = xnew(struct session);
	*s = (struct session){ .relay = r,
			       .listener = l,
			       .target = t,
			       .waiter.fn = on_target,
			       .route = *route,
			       .fd = -EBADF,
			       .bucket_next = *bucket,
			       .bucket_link = bucket };
	if (s->bucket_next)
		s->bucket_next->bucket_link = &s->bucket_next;
	*bucket = s;
	s->begun_ns = s->last_ns = clock_monotonic_ns();
	list_append(s);
	if (r->n_sessions++ == 0)
		(void)loop_set_deadline(r->udp_timer, s->last_ns + r->options.udp_idle_ns);
	enqueue(s, bytes, n);
	target_wait(t, &s->waiter);
}

static void from_client(struct relay *r, const struct listener *l, const struct route *route,
			const unsigned char *bytes, size_t n)
{
	struct session *s = session_find(r, l, route);

	/* Nobody answers: who comes now asks again. */
	if (s && s->fd < 0 && clock_monotonic_ns() - s->begun_ns > r->options.wait_ns) {
		session_free(s);
		s = NULL;
	}
	if (!s) {
		session_new(r, l, route, bytes, n);
		return;
	}
	touch(s, false);
	if (s->fd < 0)
		enqueue(s, bytes, n);
	else
		(void)send_guest(s, bytes, n);
}

static void read_route(struct msghdr *m, const union address *client, struct route *ret)
{
	memset(ret, 0, sizeof(*ret));
	ret->client.sa.sa_family = client->sa.sa_family;
	if (client->sa.sa_family == AF_INET6) {
		ret->client.in6.sin6_port = client->in6.sin6_port;
		ret->client.in6.sin6_addr = client->in6.sin6_addr;
		ret->client.in6.sin6_scope_id = client->in6.sin6_scope_id;
	} else {
		ret->client.in.sin_port = client->in.sin_port;
		ret->client.in.sin_addr = client->in.sin_addr;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&ret->to6, CMSG_DATA(c), sizeof(ret->to6));
			/* The way back is the kernel's choice, but for addresses that mean nothing without an interface. */
			if (!IN6_IS_ADDR_LINKLOCAL(&ret->to6.ipi6_addr))
				ret->to6.ipi6_ifindex = 0;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			ret->to = info.ipi_spec_dst;
		}
	}
}

void udp_receive(struct relay *r, const struct listener *l)
{
	for (unsigned i = 0; i < DATAGRAMS_AT_ONCE; i++) {
		union {
			struct cmsghdr header;
			char bytes[256];
		} control;
		union address client = {};
		struct iovec iov = { .iov_base = r->scratch, .iov_len = UDP_CHUNK };
		struct msghdr m = { .msg_name = &client,
				    .msg_namelen = sizeof(client),
				    .msg_iov = &iov,
				    .msg_iovlen = 1,
				    .msg_control = &control,
				    .msg_controllen = sizeof(control) };
		struct route route;
		ssize_t n = recvmsg(l->fd, &m, MSG_DONTWAIT);

		if (n < 0)
			return;
		read_route(&m, &client, &route);
		from_client(r, l, &route, r->scratch, (size_t)n);
	}
}

static int on_udp_timer(struct loop_source *timer, void *data)
{
	struct relay *r = data;
	uint64_t now = clock_monotonic_ns(), first = UINT64_MAX;
	struct session_list *lists[] = { &r->unanswered, &r->alive };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		while (lists[i]->first && lists[i]->first->last_ns + r->options.udp_idle_ns <= now)
			session_free(lists[i]->first);
		if (lists[i]->first && lists[i]->first->last_ns + r->options.udp_idle_ns < first)
			first = lists[i]->first->last_ns + r->options.udp_idle_ns;
	}
	return loop_set_deadline(timer, first);
}

int udp_new(struct relay *r)
{
	r->buckets = xnew_n(struct session *, UDP_BUCKETS);
	return loop_add_timer(r->loop, &r->udp_timer, UINT64_MAX, on_udp_timer, r);
}

static void forget_from(struct session_list *l, const struct listener *first)
{
	for (struct session *s = l->first, *next; s; s = next) {
		next = s->next;
		if (s->listener >= first)
			session_free(s);
	}
}

void udp_forget_from(struct relay *r, const struct listener *first)
{
	forget_from(&r->unanswered, first);
	forget_from(&r->alive, first);
}

void udp_free(struct relay *r)
{
	struct session_list *lists[] = { &r->unanswered, &r->alive };

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		while (lists[i]->first)
			session_free(lists[i]->first);
	r->udp_timer = loop_source_free(r->udp_timer);
	free(r->buckets);
	r->buckets = NULL;
}
