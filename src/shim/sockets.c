/* How this works. One Accept of the agent waits for each socket. Its answer is a connection: the host's socket is connected to, and a tunnel joins the
 * two. */
#include "shim/sockets.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "shim/host_socket.h"
#include "shim/shim.h"
#include "shim/tunnel.h"
#include "wire/message.h"

enum { CONNECTIONS_MAX = 48 }; /* of one container: the guest has room for 256 of all kinds */
#define FULL_NS      (20 * NS_PER_MS)
#define FULL_WAIT_NS (10 * NS_PER_SEC)
#define PAUSE_NS     (100 * NS_PER_MS)
#define PAUSE_MAX_NS (5 * NS_PER_SEC)

struct socket_end {
	struct sockets *all;
	char *name, *path; /* owned */
	int call;          /* an Accept that waits, 0 = none */
	char *session;     /* of it; owned */
	/* The guest would not: when it is asked again, after a pause that grows. */
	struct loop_source *timer;
	uint64_t pause_ns; /* the last one, 0 = none since it did */
	bool waiting;
};

struct connection {
	struct sockets *all;
	const char *path; /* borrowed */
	char *session;    /* owned */
	int fd;           /* until it is the tunnel's */
	struct tunnel *tunnel;
	struct loop_source *timer; /* the server's queue was full */
	uint64_t give_up_ns;
	struct connection *next;
};

struct sockets {
	struct container *container; /* borrowed: owns us */
	struct socket_end **ends;    /* owned */
	size_t n;
	struct connection *connections;
	unsigned n_connections;
};

static void accept_next(struct sockets *s);

static int call(struct sockets *s, const char *method, const struct ProtobufCMessage *m, rpc_done_fn done, void *data)
{
	return guest_wait(s->container->shim, method, m, done, data, NULL);
}

static void cancel(struct sockets *s, int number)
{
	guest_cancel(s->container->shim, number);
}

/* ---- One connection ---- */

static void connection_free(struct connection *c)
{
	struct sockets *s = c->all;

	for (struct connection **p = &s->connections; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			s->n_connections--;
			break;
		}
	if (c->tunnel) {
		tunnel_free(c->tunnel);
	} else {
		Skerry__Agent__V1__IdRequest q = SKERRY__AGENT__V1__ID_REQUEST__INIT;

		q.id = c->session;
		(void)call(s, "Release", &q.base, NULL, NULL);
	}
	loop_source_free(c->timer);
	safe_close(c->fd);
	free(c->session);
	free(c);
}

static void on_ended(void *data)
{
	struct connection *c = data;
	struct sockets *s = c->all;

	connection_free(c);
	accept_next(s);
}

/* 0; -EAGAIN: the server's queue is full. */
static int connect_host(struct connection *c)
{
	int r;

	if (c->fd < 0)
		c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = c->fd < 0 ? -errno : host_socket_connect(c->fd, c->path);
	if (r < 0)
		return r;
	c->tunnel = tunnel_new(c->all->container->shim, TAKE_FD(c->fd), c->session, on_ended, c);
	return c->tunnel ? 0 : -ENOMEM;
}

static int on_again(struct loop_source *timer, void *data);

static void begin(struct connection *c)
{
	struct sockets *s = c->all;
	uint64_t now = clock_monotonic_ns();
	int r = connect_host(c);

	if (r >= 0)
		return;
	if (r == -EAGAIN && now < c->give_up_ns) {
		r = c->timer ? loop_set_deadline(c->timer, now + FULL_NS)
			     : loop_add_timer(s->container->shim->loop, &c->timer, now + FULL_NS, on_again, c);
		if (r >= 0)
			return;
	}
	log_warning("%s: socket %s: %s", s->container->id, c->path, strerror(-r));
	connection_free(c);
	accept_next(s);
}

static int on_again(struct loop_source *timer, void *data)
{
	(void)timer;
	begin(data);
	return 0;
}

/* ---- Those who wait for one ---- */

static int on_paused(struct loop_source *timer, void *data)
{
	struct socket_end *e = data;

	(void)timer;
	e->waiting = false;
	accept_next(e->all);
	return 0;
}

static void accept_later(struct socket_end *e, const char *why)
{
	struct shim *shim = e->all->container->shim;
	uint64_t at;
	int r;

	if (!e->pause_ns)
		log_warning("%s: socket %s: %s: it is tried again", e->all->container->id, e->path, why);
	e->pause_ns = !e->pause_ns ? PAUSE_NS : e->pause_ns * 2 < PAUSE_MAX_NS ? e->pause_ns * 2 : PAUSE_MAX_NS;
	at = clock_monotonic_ns() + e->pause_ns;
	r = e->timer ? loop_set_deadline(e->timer, at) : loop_add_timer(shim->loop, &e->timer, at, on_paused, e);
	e->waiting = r >= 0;
}

static void on_accepted(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct socket_end *e = data;
	struct sockets *s = e->all;
	struct connection *c;

	(void)payload;
	(void)len;
	e->call = 0;
	/* The container is gone, or the guest. Else it has no room: who connected was sent away. */
	if (err && (err->num == ECANCELED || err->num == ENOENT || guest_lost(s->container->shim, err)))
		return;
	if (err) {
		accept_later(e, err->msg);
		return;
	}
	e->pause_ns = 0;
	c = xnew(struct connection);
	*c = (struct connection){ .all = s,
				  .path = e->path,
				  .fd = -EBADF,
				  .give_up_ns = clock_monotonic_ns() + FULL_WAIT_NS,
				  .next = s->connections };
	c->session = e->session;
	e->session = NULL;
	s->connections = c;
	s->n_connections++;
	begin(c);
	accept_next(s);
}

static void accept_next(struct sockets *s)
{
	for (size_t i = 0; i < s->n && s->n_connections < CONNECTIONS_MAX; i++) {
		Skerry__Agent__V1__AcceptRequest q = SKERRY__AGENT__V1__ACCEPT_REQUEST__INIT;
		struct socket_end *e = s->ends[i];
		int r;

		if (e->call || e->waiting)
			continue;
		free(e->session);
		e->session = xasprintf("s%u", ++s->container->shim->last_session);
		q.container = s->container->id;
		q.socket = e->name;
		q.id = e->session;
		r = call(s, "Accept", &q.base, on_accepted, e);
		e->call = r < 0 ? 0 : r;
	}
}

struct sockets *sockets_new(struct container *k)
{
	struct sockets *s = xnew(struct sockets);

	s->container = k;
	return s;
}

void sockets_add(struct sockets *s, const char *name, const char *path)
{
	struct socket_end *e = xnew(struct socket_end);

	*e = (struct socket_end){ .all = s, .name = xstrdup(name), .path = xstrdup(path) };
	s->ends = xrealloc_array(s->ends, s->n + 1, sizeof(*s->ends));
	s->ends[s->n++] = e;
}

void sockets_start(struct sockets *s)
{
	accept_next(s);
}

struct sockets *sockets_free(struct sockets *s)
{
	if (!s)
		return NULL;
	for (size_t i = 0; i < s->n; i++)
		cancel(s, s->ends[i]->call);
	while (s->connections)
		connection_free(s->connections);
	for (size_t i = 0; i < s->n; i++) {
		loop_source_free(s->ends[i]->timer);
		free(s->ends[i]->name);
		free(s->ends[i]->path);
		free(s->ends[i]->session);
		free(s->ends[i]);
	}
	free(s->ends);
	free(s);
	return NULL;
}
