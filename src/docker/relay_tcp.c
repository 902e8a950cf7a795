/* How this works: a connection has two sides, the client's and the guest's (a loopback connection to the engine). Bytes are looked at where
 * they are (MSG_PEEK), sent, and dropped as far as they were taken: what the slower side does not take stays in the kernel's buffers of the
 * faster one, which is its back-pressure, and a connection costs no buffer of ours. A side whose other side is full is not listened to.
 *
 *   WAITING     accepted; the target is being asked for            → CONNECTING, or reset
 *   CONNECTING  to the loopback port                               → OPEN; refused: the port is asked for once more, then reset
 *   OPEN        until both halves have ended, or either is reset, which resets the other
 *
 * QEMU has room for two connections that it has not accepted yet. The kernel drops what comes meanwhile and would try again after a second, so
 * a connection that is not there at once is begun anew, a few of them every 2 ms.
 *
 * The engine accepts on the guest's behalf and learns only then whether the guest does. A refusal is seen as the engine giving its end
 * up (relay_peer.c) and passed on as a reset. The end of file may come a moment before that shows, so one that comes before any byte of the
 * guest is looked at again a little later: the client's half is shut down only then. */
#include "docker/relay_parts.h"

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"

enum { ACCEPTS_AT_ONCE = 16, CHUNKS_AT_ONCE = 4, RETRIES_AT_ONCE = 32 };
enum { KEEP_IDLE_S = 300, KEEP_INTERVAL_S = 60, KEEP_COUNT = 3 };

/* The engine may have to wait for a processor in the midst of its close(2). */
#define DOUBT_NS (200 * NS_PER_MS)
#define RETRY_NS (2 * NS_PER_MS)

enum stage { WAITING, CONNECTING, OPEN };

struct side {
	int fd; /* owned */
	struct loop_source *source;
	bool ended; /* its end of file was read */
	bool full;  /* it takes no more for now */
};

struct connection {
	struct relay *relay;   /* borrowed: owns us */
	struct target *target; /* used */
	struct waiter waiter;
	enum stage stage;
	bool asked_again, guest_spoke;
	struct side client, guest;
	uint16_t loopback_port;
	/* WAITING: reset; CONNECTING: begun anew; OPEN: the guest's end is looked at again; UINT64_MAX = none */
	uint64_t deadline_ns;
	uint64_t limit_ns; /* until then it is OPEN, or reset */
	struct connection *next, **link;
};

static void reset_on_close(int fd)
{
	const struct linger now = { .l_onoff = 1, .l_linger = 0 };

	if (fd >= 0)
		(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void connection_free(struct connection *c)
{
	struct relay *r = c->relay;

	waiter_cancel(&c->waiter);
	target_unuse(c->target);
	loop_source_free(c->client.source);
	loop_source_free(c->guest.source);
	safe_close(c->client.fd);
	safe_close(c->guest.fd);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	r->n_connections--;
	free(c);
}

static void connection_reset(struct connection *c)
{
	reset_on_close(c->client.fd);
	reset_on_close(c->guest.fd);
	connection_free(c);
}

/* The guest does not want it. */
static void connection_refuse(struct connection *c)
{
	c->relay->refused++;
	connection_reset(c);
}

static void set_deadline(struct connection *c, uint64_t deadline_ns)
{
	struct relay *r = c->relay;

	c->deadline_ns = deadline_ns;
	if (deadline_ns < r->tcp_timer_ns) {
		r->tcp_timer_ns = deadline_ns;
		(void)loop_set_deadline(r->tcp_timer, deadline_ns);
	}
}

/* Of a side that has ended, and is waited for in nothing, a reset is still to be heard, once; the loop does not listen for nothing. */
static int watch(struct side *s, const struct side *other)
{
	uint32_t events = (!s->ended && !other->full ? EPOLLIN : 0) | (s->full ? EPOLLOUT : 0);

	return loop_set_events(s->source, !events && s->ended ? (uint32_t)EPOLLET : events);
}

/* The half from @from has ended: so does the other's. */
static void pass_end(struct side *to)
{
	(void)shutdown(to->fd, SHUT_WR);
}

enum moved { MOVED_ALL, MOVED_SOME, MOVED_END, MOVED_RESET };

/* What @from has, as far as @to takes it. */
static enum moved move_bytes(struct connection *c, struct side *from, struct side *to)
{
	unsigned char *chunk = c->relay->scratch;

	for (unsigned i = 0; i < CHUNKS_AT_ONCE; i++) {
		ssize_t n = recv(from->fd, chunk, TCP_CHUNK, MSG_PEEK | MSG_DONTWAIT), sent;

		if (n == 0)
			return MOVED_END;
		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? MOVED_ALL : MOVED_RESET;
		sent = send(to->fd, chunk, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS && errno != ENOMEM)
			return MOVED_RESET;
		if (sent > 0 && recv(from->fd, chunk, (size_t)sent, MSG_TRUNC | MSG_DONTWAIT) != sent)
			return MOVED_RESET;
		if (from == &c->guest)
			c->guest_spoke = true;
		if (sent < n) {
			to->full = true;
			return MOVED_SOME;
		}
		/* It had no more. */
		if (n < TCP_CHUNK)
			return MOVED_ALL;
	}
	return MOVED_ALL;
}

static bool is_owed_bytes(const struct side *s)
{
	int n = 0;

	return ioctl(s->fd, SIOCOUTQ, &n) < 0 || n > 0;
}

/* The guest's end of file was read. False: the connection is gone. */
static bool on_guest_end(struct connection *c)
{
	int gone;

	/* The client has ended too: the engine gives up what both sides ended. */
	if (c->client.ended) {
		pass_end(&c->client);
		return true;
	}
	gone = peer_has_gone(&c->relay->diag, c->guest.fd);
	/* A reset would take back what the client has not got yet. */
	if (gone > 0 && c->guest_spoke && is_owed_bytes(&c->client))
		gone = 0;
	if (gone > 0 || (gone < 0 && !c->guest_spoke)) {
		connection_refuse(c);
		return false;
	}
	if (c->guest_spoke)
		pass_end(&c->client);
	else
		set_deadline(c, clock_monotonic_ns() + DOUBT_NS);
	return true;
}

static bool in_doubt(const struct connection *c)
{
	return c->stage == OPEN && c->deadline_ns != UINT64_MAX;
}

/* One direction, and what follows from it. The connection may be gone afterwards. */
static void serve(struct connection *c, struct side *from, struct side *to)
{
	enum moved moved = MOVED_ALL;

	if (!from->ended)
		moved = move_bytes(c, from, to);
	if (moved == MOVED_RESET) {
		/* What the other side said before is still worth having: an answer that refuses what was being sent. */
		if (!to->ended)
			(void)move_bytes(c, to, from);
		if (!c->guest_spoke)
			c->relay->refused++;
		connection_reset(c);
		return;
	}
	if (moved == MOVED_END) {
		from->ended = true;
		if (from == &c->client)
			pass_end(&c->guest);
		else if (!on_guest_end(c))
			return;
	}
	if (c->client.ended && c->guest.ended && !in_doubt(c)) {
		connection_free(c);
		return;
	}
	if (watch(&c->client, &c->guest) < 0 || watch(&c->guest, &c->client) < 0)
		connection_reset(c);
}

/* It had ended its half, and is gone now: nobody hears what the other would say. What the client has not got yet of what the guest said is not taken
 * back. */
static void side_gone(struct connection *c, const struct side *s)
{
	if (s == &c->client)
		connection_reset(c);
	else
		connection_free(c);
}

static int on_side(struct connection *c, struct side *s, struct side *other, uint32_t events)
{
	if (s->ended && !other->ended && !in_doubt(c) && events & (EPOLLHUP | EPOLLERR)) {
		side_gone(c, s);
		return 0;
	}
	/* Room on this side is for what waits on the other; what this side has is reported again. */
	if (s->full && events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) {
		s->full = false;
		serve(c, other, s);
	} else {
		serve(c, s, other);
	}
	return 0;
}

static int on_client(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct connection *c = data;

	(void)source;
	(void)fd;
	return on_side(c, &c->client, &c->guest, events);
}

static void ask_again(struct connection *c);

static bool is_connected(struct connection *c, int *ret_error)
{
	struct sockaddr_in here = {}, there = {};
	socklen_t len = sizeof(*ret_error);

	if (getsockopt(c->guest.fd, SOL_SOCKET, SO_ERROR, ret_error, &len) < 0)
		*ret_error = errno;
	if (*ret_error)
		return false;
	/* connect() may have told, and cleared, the error. And a loopback port that nobody listens on may be given to this very socket,
	 * which then is connected to itself. */
	len = sizeof(there);
	if (getpeername(c->guest.fd, (struct sockaddr *)&there, &len) < 0)
		*ret_error = ECONNREFUSED;
	len = sizeof(here);
	if (getsockname(c->guest.fd, (struct sockaddr *)&here, &len) < 0 || here.sin_port == there.sin_port)
		*ret_error = ECONNREFUSED;
	return *ret_error == 0;
}

/* The connection may be gone afterwards. */
static void opened(struct connection *c)
{
	c->stage = OPEN;
	c->deadline_ns = UINT64_MAX;
	if (watch(&c->client, &c->guest) < 0 || watch(&c->guest, &c->client) < 0)
		connection_reset(c);
}

/* False as long as only this end is connected. */
static bool has_come(const struct connection *c)
{
	struct sockaddr_in there;
	socklen_t len = sizeof(there);

	return getpeername(c->guest.fd, (struct sockaddr *)&there, &len) == 0 &&
	       peer_has_come(&c->relay->diag, c->guest.fd) != 0;
}

/* The connection may be gone afterwards. */
static void guest_answered(struct connection *c)
{
	int num;

	if (is_connected(c, &num))
		opened(c);
	else if (num == ECONNREFUSED && !c->asked_again)
		ask_again(c);
	else
		connection_refuse(c);
}

static int on_guest(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct connection *c = data;

	(void)fd;
	if (c->stage == OPEN)
		return on_side(c, &c->guest, &c->client, events);
	if (has_come(c) || events & (EPOLLERR | EPOLLHUP))
		guest_answered(c);
	else if (loop_set_events(source, 0) < 0) /* until the timer looks again */
		connection_reset(c);
	return 0;
}

static void close_guest(struct connection *c)
{
	c->guest.source = loop_source_free(c->guest.source);
	c->guest.fd = safe_close(c->guest.fd);
}

/* The connection may be gone afterwards. */
static void connect_guest(struct connection *c)
{
	struct sockaddr_in there = loopback_address(c->loopback_port);
	const int on = 1;

	c->stage = CONNECTING;
	set_deadline(c, clock_monotonic_ns() + RETRY_NS);
	c->guest.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->guest.fd < 0 || loop_add_fd(c->relay->loop, &c->guest.source, c->guest.fd, EPOLLOUT, on_guest, c) < 0) {
		connection_refuse(c);
		return;
	}
	(void)setsockopt(c->guest.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(c->guest.fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	/* A refusal is reported as every outcome is: in the loop. */
	if (connect(c->guest.fd, (const struct sockaddr *)&there, sizeof(there)) < 0 && errno != EINPROGRESS &&
	    errno != ECONNREFUSED)
		connection_refuse(c);
}

static void on_target(struct waiter *w, uint16_t loopback_port)
{
	struct connection *c = (struct connection *)((char *)w - offsetof(struct connection, waiter));

	c->loopback_port = loopback_port;
	if (loopback_port)
		connect_guest(c);
	else
		connection_refuse(c);
}

/* The engine was started anew since its port was told. */
static void ask_again(struct connection *c)
{
	c->asked_again = true;
	c->stage = WAITING;
	close_guest(c);
	set_deadline(c, c->limit_ns);
	target_stale(c->target, c->loopback_port);
	target_wait(c->target, &c->waiter);
}

static void connection_new(struct relay *r, int fd, struct target *t)
{
	const int on = 1, idle = KEEP_IDLE_S, interval = KEEP_INTERVAL_S, count = KEEP_COUNT;
	struct connection *c = xnew(struct connection);

	*c = (struct connection){ .relay = r,
				  .target = t,
				  .waiter.fn = on_target,
				  .client.fd = fd,
				  .guest.fd = -EBADF,
				  .deadline_ns = UINT64_MAX,
				  .next = r->connections,
				  .link = &r->connections };
	if (c->next)
		c->next->link = &c->next;
	r->connections = c;
	r->n_connections++;
	if (loop_add_fd(r->loop, &c->client.source, fd, 0, on_client, c) < 0) {
		connection_refuse(c);
		return;
	}
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	(void)setsockopt(fd, SOL_SOCKET, SO_OOBINLINE, &on, sizeof(on));
	/* A client that is gone for good does not keep its place. */
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
	c->limit_ns = clock_monotonic_ns() + r->options.wait_ns;
	set_deadline(c, c->limit_ns);
	target_wait(t, &c->waiter);
}

void tcp_accept(struct relay *r, const struct listener *l)
{
	for (unsigned i = 0; i < ACCEPTS_AT_ONCE; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct target *t;

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
				relay_pause(r);
			return;
		}
		t = r->n_connections < r->connections_max ? target_use(r, false, l->guest_port) : NULL;
		if (t) {
			connection_new(r, fd, t);
		} else {
			r->refused++;
			reset_on_close(fd);
			safe_close(fd);
		}
	}
}

static void deadline_passed(struct connection *c)
{
	c->deadline_ns = UINT64_MAX;
	if (c->stage != OPEN || peer_has_gone(&c->relay->diag, c->guest.fd) > 0) {
		connection_refuse(c);
		return;
	}
	pass_end(&c->client);
	serve(c, &c->client, &c->guest);
}

static int on_tcp_timer(struct loop_source *s, void *data)
{
	struct relay *r = data;
	uint64_t now = clock_monotonic_ns(), first = UINT64_MAX;
	struct connection *next;
	unsigned retries = 0;

	/* What is begun anew here sets the timer again. */
	r->tcp_timer_ns = UINT64_MAX;
	for (struct connection *c = r->connections; c; c = next) {
		next = c->next;
		if (c->deadline_ns > now) {
			first = c->deadline_ns < first ? c->deadline_ns : first;
		} else if (c->stage == CONNECTING && has_come(c)) {
			/* Also when it was noticed late. */
			guest_answered(c);
		} else if (c->stage != CONNECTING || c->limit_ns <= now) {
			deadline_passed(c);
		} else if (retries++ < RETRIES_AT_ONCE) {
			close_guest(c);
			connect_guest(c);
		} else {
			c->deadline_ns = now + RETRY_NS;
			first = c->deadline_ns < first ? c->deadline_ns : first;
		}
	}
	first = r->tcp_timer_ns < first ? r->tcp_timer_ns : first;
	/* Deadlines that are close are served together: the list is walked for each. */
	if (first != UINT64_MAX && first < now + RETRY_NS)
		first = now + RETRY_NS;
	r->tcp_timer_ns = first;
	return loop_set_deadline(s, first);
}

int tcp_new(struct relay *r)
{
	r->diag.fd = -EBADF;
	r->tcp_timer_ns = UINT64_MAX;
	return loop_add_timer(r->loop, &r->tcp_timer, UINT64_MAX, on_tcp_timer, r);
}

void tcp_free(struct relay *r)
{
	while (r->connections)
		connection_reset(r->connections);
	r->tcp_timer = loop_source_free(r->tcp_timer);
	peer_done(&r->diag);
}
