#include "shim/server.h"

#include <sys/socket.h>

#include "base/log.h"
#include "base/memory.h"
#include "machine/rpc.h"
#include "wire/message.h"

/* containerd keeps one connection; its clients of sandboxes may bring more. */
enum { PEERS_MAX = 64 };

struct call {
	struct peer *peer; /* NULL once the connection has ended */
	uint32_t stream_id;
	struct call *next; /* of the same peer */
};

struct peer {
	struct server *server;
	struct rpc *rpc;
	struct call *calls;
	struct peer *next;
};

struct server {
	struct loop *loop;
	int fd;
	struct loop_source *source;
	const struct server_method *methods;
	void *data;
	struct peer *peers;
	unsigned n_peers;
};

static void call_done(struct call *c)
{
	if (c->peer)
		for (struct call **p = &c->peer->calls; *p; p = &(*p)->next)
			if (*p == c) {
				*p = c->next;
				break;
			}
	free(c);
}

void call_reply(struct call *c, const struct ProtobufCMessage *m)
{
	if (c->peer) {
		_cleanup_buf_ struct buf packed = {};

		if (m)
			message_pack(&packed, m);
		rpc_reply(c->peer->rpc, c->stream_id, packed.p, packed.len);
	}
	call_done(c);
}

void call_fail(struct call *c, const struct error *err)
{
	if (c->peer)
		rpc_reply_error(c->peer->rpc, c->stream_id, err->num ? err->num : EIO, err->msg ? err->msg : "failed");
	call_done(c);
}

void call_failf(struct call *c, int num, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	call_fail(c, &(struct error){ .num = num, .msg = text });
}

static void on_request(struct rpc *r, uint32_t stream_id, const struct ttrpc_request *req, void *data)
{
	struct peer *p = data;

	for (const struct server_method *m = p->server->methods; m->name; m++) {
		_cleanup_message_ void *request = NULL;
		struct call *c;

		if (!streq(req->method, m->name) || !streq(req->service, m->service))
			continue;
		request = message_unpack(m->request, req->payload, req->payload_len);
		if (!request) {
			rpc_reply_error(r, stream_id, EINVAL, "malformed request");
			return;
		}
		c = xnew(struct call);
		*c = (struct call){ .peer = p, .stream_id = stream_id, .next = p->calls };
		p->calls = c;
		log_debug("%s", m->name);
		m->handle(p->server->data, c, request);
		return;
	}
	rpc_reply_error(r, stream_id, EOPNOTSUPP, "not implemented");
}

static void peer_free(struct peer *p)
{
	for (struct peer **q = &p->server->peers; *q; q = &(*q)->next)
		if (*q == p) {
			*q = p->next;
			p->server->n_peers--;
			break;
		}
	for (struct call *c = p->calls; c; c = c->next)
		c->peer = NULL;
	rpc_free(p->rpc);
	free(p);
}

static void on_closed(struct rpc *r, int num, void *data)
{
	(void)r;
	(void)num;
	peer_free(data);
}

static int on_connection(struct loop_source *src, int fd, uint32_t events, void *data)
{
	struct server *s = data;
	int peer_fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct peer *p;

	(void)src;
	(void)events;
	if (peer_fd < 0)
		return 0;
	if (s->n_peers >= PEERS_MAX) {
		safe_close(peer_fd);
		return 0;
	}
	p = xnew(struct peer);
	p->server = s;
	if (rpc_new(s->loop, peer_fd, on_request, on_closed, p, &p->rpc) < 0) {
		free(p);
		return 0;
	}
	p->next = s->peers;
	s->peers = p;
	s->n_peers++;
	return 0;
}

int server_new(struct loop *l, int listen_fd, const struct server_method *methods, void *data, struct server **ret)
{
	struct server *s = xnew(struct server);
	int r;

	*s = (struct server){ .loop = l, .fd = listen_fd, .methods = methods, .data = data };
	r = loop_add_fd(l, &s->source, listen_fd, EPOLLIN, on_connection, s);
	if (r < 0) {
		free(s);
		return r;
	}
	*ret = s;
	return 0;
}

size_t server_backlog(const struct server *s)
{
	size_t n = 0;

	for (const struct peer *p = s->peers; p; p = p->next)
		n += rpc_backlog(p->rpc);
	return n;
}

struct server *server_free(struct server *s)
{
	if (!s)
		return NULL;
	while (s->peers)
		peer_free(s->peers);
	loop_source_free(s->source);
	safe_close(s->fd);
	free(s);
	return NULL;
}
