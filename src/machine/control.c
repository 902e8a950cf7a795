#include "machine/control.h"

#include <sys/socket.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "machine/client.h"
#include "wire/cursor.h"

enum { PEERS_MAX = 256, SESSIONS_MAX = 64, ID_MAX = 64 };

struct control_peer {
	struct control *control; /* borrowed: owns us */
	struct rpc *rpc;
	uint64_t serial;
	struct strv sessions; /* ids of processes that this command started or attached to, and has not released */
	struct control_peer *next;
};

/* A call that was passed on to the guest. */
struct forward {
	struct control *control; /* NULL after control_free() */
	uint64_t peer;
	uint32_t stream_id;
	bool about_main;
	char *brought; /* owned: the id that it was the first to name, NULL when it was known */
	struct forward *next;
};

struct ticket {
	uint64_t id, peer;
	uint32_t stream_id;
	struct ticket *next;
};

struct control {
	struct loop *loop; /* borrowed */
	int listen_fd;
	struct loop_source *listen_source;
	const struct control_handler *handler; /* borrowed */
	void *data;
	struct control_peer *peers;
	struct forward *forwards;
	struct ticket *tickets;
	uint64_t last_serial, last_ticket;
	unsigned n_peers;
};

static struct control_peer *find_peer(const struct control *c, uint64_t serial)
{
	for (struct control_peer *p = c->peers; p; p = p->next)
		if (p->serial == serial)
			return p;
	return NULL;
}

/* Every request that concerns a process has its id as field 1, a string (proto/agent.proto). Returns it, owned, or NULL. */
static char *session_id(const uint8_t *payload, size_t len)
{
	struct cursor c = cursor_of(payload, len);
	const uint8_t *p;
	uint8_t n;

	if (cursor_u8(&c) != 0x0a)
		return NULL;
	n = cursor_u8(&c);
	if (n > ID_MAX)
		return NULL;
	p = cursor_bytes(&c, n);
	return p ? xstrndup((const char *)p, n) : NULL;
}

static void forward_free(struct forward *f)
{
	if (f->control)
		for (struct forward **p = &f->control->forwards; *p; p = &(*p)->next)
			if (*p == f) {
				*p = f->next;
				break;
			}
	free(f->brought);
	free(f);
}

/* The main process stays: whoever has asked for it once is its reader until the end. */
static void forget_session(struct control_peer *p, const char *id)
{
	struct strv *v = &p->sessions;

	for (size_t i = 0; i < v->n && !streq(id, "main"); i++)
		if (streq(v->items[i], id)) {
			free(v->items[i]);
			v->items[i] = v->items[--v->n];
			v->items[v->n] = NULL;
			return;
		}
}

static void on_guest_answer(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct forward *f = data;
	struct control *c = f->control;
	struct control_peer *p = c ? find_peer(c, f->peer) : NULL;
	bool about_main = f->about_main;

	/* What could not be begun is nothing that somebody would have to release. */
	if (p && err && f->brought)
		forget_session(p, f->brought);
	if (p && err)
		rpc_reply_error(p->rpc, f->stream_id, err->num, err->msg);
	else if (p)
		rpc_reply(p->rpc, f->stream_id, payload, len);
	forward_free(f);
	if (c && about_main)
		c->handler->released("main", c->data);
}

static void pass_on(struct control_peer *p, uint32_t stream_id, const struct ttrpc_request *req)
{
	struct control *c = p->control;
	struct rpc *agent = c->handler->agent(c->data);
	_cleanup_free_ char *id = NULL;
	_cleanup_error_ struct error e = {};
	struct forward *f;
	bool brought;

	if (!agent) {
		rpc_reply_error(p->rpc, stream_id, EAGAIN, "the guest's agent does not answer (yet)");
		return;
	}
	if (!streq(req->method, "Stat"))
		id = session_id(req->payload, req->payload_len);
	brought = id && !strv_has(&p->sessions, id);
	if (brought) {
		if (p->sessions.n >= SESSIONS_MAX) {
			rpc_reply_error(p->rpc, stream_id, EAGAIN, "too many processes on one connection");
			return;
		}
		strv_add(&p->sessions, id);
	}
	f = xnew(struct forward);
	*f = (struct forward){ .control = c,
			       .peer = p->serial,
			       .stream_id = stream_id,
			       .about_main = id && streq(id, "main"),
			       .brought = brought ? xstrdup(id) : NULL,
			       .next = c->forwards };
	c->forwards = f;
	if (rpc_call(agent, AGENT_SERVICE, req->method, req->payload, req->payload_len, UINT64_MAX, on_guest_answer, f,
		     &e) < 0) {
		if (brought)
			forget_session(p, id);
		forward_free(f);
		rpc_reply_error(p->rpc, stream_id, e.num, e.msg);
	} else if (id && streq(req->method, "Release")) {
		forget_session(p, id);
	}
}

static void on_request(struct rpc *r, uint32_t stream_id, const struct ttrpc_request *req, void *data)
{
	struct control_peer *p = data;
	struct control *c = p->control;
	struct ticket *t;

	if (streq(req->service, AGENT_SERVICE)) {
		pass_on(p, stream_id, req);
		return;
	}
	if (!streq(req->service, MONITOR_SERVICE)) {
		rpc_reply_error(r, stream_id, EOPNOTSUPP, "no such service");
		return;
	}
	t = xnew(struct ticket);
	*t = (struct ticket){ .id = ++c->last_ticket, .peer = p->serial, .stream_id = stream_id, .next = c->tickets };
	c->tickets = t;
	c->handler->request(t->id, req->method, req->payload, req->payload_len, c->data);
}

/* The processes of a command that went away: nobody will read them again, so they get a hangup. The main process lives on. */
static void release_sessions(struct control_peer *p)
{
	struct control *c = p->control;
	struct rpc *agent = c->handler->agent(c->data);

	for (size_t i = 0; i < p->sessions.n; i++) {
		Skerry__Agent__V1__IdRequest req = SKERRY__AGENT__V1__ID_REQUEST__INIT;
		uint8_t packed[ID_MAX + 8];

		if (streq(p->sessions.items[i], "main") || !agent)
			continue;
		req.id = p->sessions.items[i];
		(void)rpc_call(agent, AGENT_SERVICE, "Release", packed,
			       skerry__agent__v1__id_request__pack(&req, packed), UINT64_MAX, NULL, NULL, NULL);
	}
}

static void peer_free(struct control_peer *p)
{
	struct control *c = p->control;

	for (struct control_peer **q = &c->peers; *q; q = &(*q)->next)
		if (*q == p) {
			*q = p->next;
			c->n_peers--;
			break;
		}
	for (struct ticket **q = &c->tickets; *q;) {
		struct ticket *t = *q;

		if (t->peer != p->serial) {
			q = &t->next;
			continue;
		}
		*q = t->next;
		free(t);
	}
	rpc_free(p->rpc);
	strv_done(&p->sessions);
	free(p);
}

static void on_closed(struct rpc *r, int num, void *data)
{
	struct control_peer *p = data;
	struct control *c = p->control;
	bool had_main = strv_has(&p->sessions, "main");
	uint64_t serial = p->serial;

	(void)r;
	(void)num;
	release_sessions(p);
	peer_free(p);
	if (c->handler->gone)
		c->handler->gone(serial, c->data);
	if (had_main)
		c->handler->released("main", c->data);
}

static int on_listen(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct control *c = data;
	struct control_peer *p;
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)s;
	(void)events;
	if (peer < 0)
		return 0;
	if (c->n_peers >= PEERS_MAX) {
		safe_close(peer);
		return 0;
	}
	p = xnew(struct control_peer);
	*p = (struct control_peer){ .control = c, .serial = ++c->last_serial };
	if (rpc_new(c->loop, peer, on_request, on_closed, p, &p->rpc) < 0) {
		free(p);
		return 0;
	}
	p->next = c->peers;
	c->peers = p;
	c->n_peers++;
	return 0;
}

int control_new(struct loop *l, int run_fd, const struct control_handler *handler, void *data, struct control **ret)
{
	struct control *c = xnew(struct control);
	int r;

	*c = (struct control){ .loop = l, .handler = handler, .data = data };
	c->listen_fd = unix_listen_at(run_fd, "control.sock", 64);
	r = c->listen_fd;
	if (r >= 0)
		r = loop_add_fd(l, &c->listen_source, c->listen_fd, EPOLLIN, on_listen, c);
	if (r < 0) {
		control_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

static struct ticket *take_ticket(struct control *c, uint64_t id)
{
	for (struct ticket **q = &c->tickets; *q; q = &(*q)->next) {
		struct ticket *t = *q;

		if (t->id != id)
			continue;
		*q = t->next;
		return t;
	}
	return NULL;
}

void control_reply(struct control *c, uint64_t ticket, const void *payload, size_t len)
{
	_cleanup_free_ struct ticket *t = take_ticket(c, ticket);
	struct control_peer *p = t ? find_peer(c, t->peer) : NULL;

	if (p)
		rpc_reply(p->rpc, t->stream_id, payload, len);
}

void control_reply_error(struct control *c, uint64_t ticket, int num, const char *message)
{
	_cleanup_free_ struct ticket *t = take_ticket(c, ticket);
	struct control_peer *p = t ? find_peer(c, t->peer) : NULL;

	if (p)
		rpc_reply_error(p->rpc, t->stream_id, num, message);
}

uint64_t control_peer_of(const struct control *c, uint64_t ticket)
{
	for (const struct ticket *t = c->tickets; t; t = t->next)
		if (t->id == ticket)
			return t->peer;
	return 0;
}

unsigned control_pending_main(const struct control *c)
{
	unsigned n = 0;

	for (const struct forward *f = c->forwards; f; f = f->next)
		n += f->about_main && find_peer(c, f->peer);
	return n;
}

bool control_main_attached(const struct control *c)
{
	for (const struct control_peer *p = c->peers; p; p = p->next)
		if (strv_has(&p->sessions, "main"))
			return true;
	return false;
}

unsigned control_peers(const struct control *c)
{
	return c->n_peers;
}

struct control *control_free(struct control *c)
{
	if (!c)
		return NULL;
	for (struct forward *f = c->forwards; f; f = f->next)
		f->control = NULL;
	while (c->peers)
		peer_free(c->peers);
	loop_source_free(c->listen_source);
	safe_close(c->listen_fd);
	free(c);
	return NULL;
}
