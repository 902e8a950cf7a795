#include "shim/loopback.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "agent.pb-c.h"
#include "base/log.h"
#include "base/memory.h"
#include "net/loopback.h"
#include "shim/shim.h"
#include "shim/tunnel.h"

enum { CONNECTIONS_MAX = 64 }; /* the guest has room for 256 of all kinds */

struct connection {
	struct loopback *all;
	char *session;         /* owned */
	int fd;                /* until it is the tunnel's */
	int call;              /* a Dial that waits, 0 = none */
	struct tunnel *tunnel; /* owned */
	struct connection *next;
};

struct loopback {
	struct shim *shim; /* borrowed: owns us */
	struct net_loopback net;
	struct loop_source *sources[ARRAY_SIZE(((struct net_loopback *)NULL)->listeners)];
	struct connection *connections; /* owned */
	unsigned n;
};

/* Those that are too many wait in the listeners' queues. */
static void listen_or_not(struct loopback *l)
{
	for (size_t i = 0; i < ARRAY_SIZE(l->sources); i++)
		if (l->sources[i])
			(void)loop_set_events(l->sources[i], l->n < CONNECTIONS_MAX ? (uint32_t)EPOLLIN : 0);
}

static void connection_free(struct connection *c)
{
	struct loopback *l = c->all;

	for (struct connection **p = &l->connections; *p; p = &(*p)->next)
		if (*p == c) {
			*p = c->next;
			l->n--;
			break;
		}
	guest_cancel(l->shim, c->call);
	if (c->call) {
		Skerry__Agent__V1__IdRequest q = SKERRY__AGENT__V1__ID_REQUEST__INIT;

		q.id = c->session;
		(void)guest_call(l->shim, "Release", &q.base, NULL, NULL, NULL);
	}
	tunnel_free(c->tunnel);
	safe_close(c->fd);
	free(c->session);
	free(c);
}

static void on_ended(void *data)
{
	struct connection *c = data;
	struct loopback *l = c->all;

	connection_free(c);
	listen_or_not(l);
}

/* Nobody listens there. It was taken already, so the best that can be said is a reset. */
static void refuse(struct connection *c)
{
	const struct linger now = { .l_onoff = 1 };

	(void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	on_ended(c);
}

static void on_dialled(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct connection *c = data;

	(void)payload;
	(void)len;
	c->call = 0;
	if (err) {
		log_debug("loopback: %s", err->msg);
		refuse(c);
		return;
	}
	c->tunnel = tunnel_new(c->all->shim, TAKE_FD(c->fd), c->session, on_ended, c);
	if (!c->tunnel)
		on_ended(c);
}

/* The port that was meant. */
static uint32_t port_of(int fd)
{
	struct sockaddr_storage a = {};
	socklen_t n = sizeof(a);

	if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
		return 0;
	return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
					     : ((struct sockaddr_in *)&a)->sin_port);
}

static int on_connection(struct loop_source *src, int listener, uint32_t events, void *data)
{
	struct loopback *l = data;
	Skerry__Agent__V1__DialRequest q = SKERRY__AGENT__V1__DIAL_REQUEST__INIT;
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct connection *c;

	(void)src;
	(void)events;
	if (fd < 0)
		return 0;
	c = xnew(struct connection);
	*c = (struct connection){ .all = l, .fd = fd, .next = l->connections };
	c->session = xasprintf("d%u", ++l->shim->last_session);
	l->connections = c;
	l->n++;
	q.id = c->session;
	q.port = port_of(fd);
	c->call = guest_call(l->shim, "Dial", &q.base, on_dialled, c, NULL);
	if (c->call < 0) {
		c->call = 0;
		refuse(c);
	}
	listen_or_not(l);
	return 0;
}

struct loopback *loopback_new(struct shim *s, int netns_fd)
{
	_cleanup_error_ struct error e = {};
	struct loopback *l = xnew(struct loopback);

	*l = (struct loopback){ .shim = s };
	if (net_loopback_open(netns_fd, &l->net, &e) < 0) {
		log_warning("%s: ports of the pod cannot be forwarded", e.msg);
		free(l);
		return NULL;
	}
	return l;
}

void loopback_start(struct loopback *l)
{
	for (size_t i = 0; l && i < ARRAY_SIZE(l->sources); i++)
		if (l->net.listeners[i] >= 0 && !l->sources[i] &&
		    loop_add_fd(l->shim->loop, &l->sources[i], l->net.listeners[i], EPOLLIN, on_connection, l) < 0)
			log_warning("ports of the pod cannot be forwarded: %s", strerror(ENOMEM));
}

struct loopback *loopback_free(struct loopback *l)
{
	if (!l)
		return NULL;
	for (size_t i = 0; i < ARRAY_SIZE(l->sources); i++)
		loop_source_free(l->sources[i]);
	while (l->connections)
		connection_free(l->connections);
	net_loopback_close(&l->net);
	free(l);
	return NULL;
}
