/* Questions over TCP, as resolvers ask when an answer was too long: each connection of the guest is joined to one to a server. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "docker/dns_parts.h"

enum { CHUNK = 16 << 10 };
#define IDLE_NS (30 * NS_PER_SEC)

enum side { GUEST, SERVER, SIDES };

/* What was read at one side and is to be written at the other. */
struct way {
	struct buf waiting;
	bool ended, passed_on; /* nothing more comes; the other side was told */
};

struct dns_connection {
	struct dns *dns;
	int fds[SIDES]; /* owned */
	struct loop_source *sources[SIDES];
	struct way ways[SIDES]; /* by the side that it is read at */
	bool connecting;
	size_t server; /* the next to be tried */
	struct loop_source *timer;
	struct dns_connection *next, **link;
};

static void drop(struct dns_connection *c)
{
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	c->dns->n_connections--;
	for (int i = 0; i < SIDES; i++) {
		c->sources[i] = loop_source_free(c->sources[i]);
		safe_close(c->fds[i]);
		buf_done(&c->ways[i].waiting);
	}
	c->timer = loop_source_free(c->timer);
	free(c);
}

static void watch(struct dns_connection *c)
{
	for (int i = 0; i < SIDES; i++) {
		const struct way *in = &c->ways[i], *out = &c->ways[!i];
		uint32_t events = 0;

		if (!c->sources[i])
			continue;
		if (i == SERVER && c->connecting)
			events = EPOLLOUT;
		else
			events = (!in->ended && !in->waiting.len ? (uint32_t)EPOLLIN : 0) |
				 (out->waiting.len ? (uint32_t)EPOLLOUT : 0);
		(void)loop_set_events(c->sources[i], events);
	}
}

/* <0: the connection is of no use any more. */
static int take_in(struct dns_connection *c, enum side from)
{
	struct way *w = &c->ways[from];
	ssize_t n;

	if (w->ended || w->waiting.len)
		return 0;
	n = recv(c->fds[from], buf_reserve(&w->waiting, CHUNK), CHUNK, MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	buf_commit(&w->waiting, (size_t)n);
	w->ended = n == 0;
	return 0;
}

static int pass_on(struct dns_connection *c, enum side from)
{
	struct way *w = &c->ways[from];
	int to = c->fds[!from];
	ssize_t n;

	if (w->waiting.len) {
		n = send(to, w->waiting.p, w->waiting.len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		buf_consume(&w->waiting, (size_t)n);
	}
	if (w->ended && !w->waiting.len && !w->passed_on) {
		w->passed_on = true;
		(void)shutdown(to, SHUT_WR);
	}
	return 0;
}

static int on_side(struct loop_source *s, int fd, uint32_t events, void *data);

/* The next server, which has as long as for a question over UDP; <0 when none is left. */
static int reach(struct dns_connection *c)
{
	struct dns *d = c->dns;

	while (c->server < d->n_servers) {
		const struct dns_server *to = &d->servers[c->server++];

		c->sources[SERVER] = loop_source_free(c->sources[SERVER]);
		c->fds[SERVER] = safe_close(c->fds[SERVER]);
		c->fds[SERVER] = socket(to->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (c->fds[SERVER] < 0 ||
		    (connect(c->fds[SERVER], (const struct sockaddr *)&to->address, to->size) < 0 &&
		     errno != EINPROGRESS))
			continue;
		if (loop_add_fd(d->loop, &c->sources[SERVER], c->fds[SERVER], EPOLLOUT, on_side, c) < 0)
			continue;
		c->connecting = true;
		(void)loop_set_deadline(c->timer, clock_monotonic_ns() + d->options.wait_ns);
		return 0;
	}
	return -ECONNREFUSED;
}

static int connected(struct dns_connection *c)
{
	socklen_t n = sizeof(int);
	int problem = 0;

	if (getsockopt(c->fds[SERVER], SOL_SOCKET, SO_ERROR, &problem, &n) < 0 || problem)
		return reach(c);
	c->connecting = false;
	return 0;
}

static int on_side(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct dns_connection *c = data;
	int r = 0;

	(void)events;
	if (s == c->sources[SERVER] && c->connecting)
		r = connected(c);
	else if (fd == c->fds[GUEST] || fd == c->fds[SERVER])
		r = take_in(c, fd == c->fds[GUEST] ? GUEST : SERVER);
	for (int i = 0; r >= 0 && !c->connecting && i < SIDES; i++)
		r = pass_on(c, i);
	if (r < 0 || (c->ways[GUEST].passed_on && c->ways[SERVER].passed_on)) {
		drop(c);
		return 0;
	}
	if (!c->connecting)
		(void)loop_set_deadline(c->timer, clock_monotonic_ns() + IDLE_NS);
	watch(c);
	return 0;
}

/* A server that says nothing at all, or a connection over which nothing goes. */
static int on_silence(struct loop_source *s, void *data)
{
	struct dns_connection *c = data;

	(void)s;
	if (c->connecting && reach(c) >= 0)
		watch(c);
	else
		drop(c);
	return 0;
}

static void take_connection(struct dns *d, int fd)
{
	struct dns_connection *c = xnew(struct dns_connection);

	*c = (struct dns_connection){
		.dns = d, .fds = { fd, -EBADF }, .next = d->connections, .link = &d->connections
	};
	if (c->next)
		c->next->link = &c->next;
	d->connections = c;
	d->n_connections++;
	dns_read_servers(d);
	if (loop_add_timer(d->loop, &c->timer, clock_monotonic_ns() + IDLE_NS, on_silence, c) < 0 ||
	    loop_add_fd(d->loop, &c->sources[GUEST], fd, 0, on_side, c) < 0 || reach(c) < 0)
		drop(c);
	else
		watch(c);
}

static int on_connection(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct dns *d = data;
	struct sockaddr_in from;
	socklen_t size = sizeof(from);
	int got = accept4(fd, (struct sockaddr *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)s;
	(void)events;
	/* Without a descriptor the same connection would be reported again at once. */
	if (got < 0 && (errno == EMFILE || errno == ENFILE) && d->connections)
		drop(d->connections);
	if (got < 0)
		return 0;
	if (!dns_is_guest(d, &from) || d->n_connections >= d->options.connections)
		safe_close(got);
	else
		take_connection(d, got);
	return 0;
}

int dns_tcp_new(struct dns *d)
{
	return loop_add_fd(d->loop, &d->tcp_source, d->tcp, EPOLLIN, on_connection, d);
}

void dns_tcp_free(struct dns *d)
{
	d->tcp_source = loop_source_free(d->tcp_source);
	while (d->connections)
		drop(d->connections);
}
