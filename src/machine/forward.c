/* How this works: a forward is a loopback port of the host that the engine leads to a port of the guest, made when somebody asks for it and kept
 * for everybody who does. It is in the record before the engine is asked for it; what an adopting monitor finds there may never have been
 * made, so it is undone and made again when it is asked for next. It ends with the engine.
 *
 *   RECORDED  an earlier monitor wrote it down                     → UNDOING
 *   MAKING    the engine was asked                                 → MADE; another port is tried; dropped
 *   MADE                                                           → UNDOING
 *   UNDOING   the engine was asked                                 → dropped; MAKING when somebody wants it meanwhile */
#include <netinet/in.h>
#include <sys/socket.h>

#include "base/fault.h"
#include "base/log.h"
#include "machine/monitor.h"
#include "monitor.pb-c.h"

enum { FORWARDS_MAX = 1024, TRIES_MAX = 8 };

enum forward_stage { FORWARD_RECORDED, FORWARD_MAKING, FORWARD_MADE, FORWARD_UNDOING };

struct forward_call {
	uint64_t ticket;
	struct forward_call *next;
};

struct guest_forward {
	struct monitor *m; /* borrowed: owns us */
	bool udp;
	uint16_t guest_port, host_port;
	enum forward_stage stage;
	unsigned tries;
	struct forward_call *wanted; /* owned: who waits for it */
	uint64_t undo_ticket;        /* who waits for its end, 0 = nobody */
	struct guest_forward *next;
};

static int save(struct monitor *m, struct error *err)
{
	strv_done(&m->state.forwards);
	for (const struct guest_forward *f = m->forwards; f; f = f->next)
		strv_take(&m->state.forwards, net_publish_format(&(struct net_publish){ .ip = "127.0.0.1",
											.host_port = f->host_port,
											.guest_port = f->guest_port,
											.udp = f->udp }));
	return monitor_save_state(m, err);
}

static struct guest_forward *find(const struct monitor *m, bool udp, uint16_t guest_port)
{
	struct guest_forward *f = m->forwards;

	while (f && (f->guest_port != guest_port || f->udp != udp))
		f = f->next;
	return f;
}

static struct guest_forward *add(struct monitor *m, bool udp, uint16_t guest_port)
{
	struct guest_forward *f = xnew(struct guest_forward);

	*f = (struct guest_forward){ .m = m, .udp = udp, .guest_port = guest_port, .next = m->forwards };
	m->forwards = f;
	return f;
}

static void want(struct guest_forward *f, uint64_t ticket)
{
	struct forward_call *c = xnew(struct forward_call);

	*c = (struct forward_call){ .ticket = ticket, .next = f->wanted };
	f->wanted = c;
}

/* Tells all who wait; @err NULL: the port. */
static void answer(struct guest_forward *f, const struct error *err)
{
	Skerry__Monitor__V1__ForwardResponse resp = SKERRY__MONITOR__V1__FORWARD_RESPONSE__INIT;

	resp.host_port = f->host_port;
	while (f->wanted) {
		struct forward_call *c = f->wanted;

		f->wanted = c->next;
		if (f->m->control && err)
			control_reply_error(f->m->control, c->ticket, err->num, err->msg);
		else if (f->m->control)
			monitor_reply(f->m, c->ticket, &resp.base);
		free(c);
	}
}

static void drop(struct guest_forward *f)
{
	struct guest_forward **p = &f->m->forwards;

	while (*p != f)
		p = &(*p)->next;
	*p = f->next;
	while (f->wanted) {
		struct forward_call *c = f->wanted;

		f->wanted = c->next;
		free(c);
	}
	free(f);
}

static void give_up(struct guest_forward *f, const struct error *err)
{
	struct monitor *m = f->m;

	answer(f, err);
	drop(f);
	(void)save(m, NULL);
}

/* The kernel's choice; somebody may take it before the engine does, who then is asked for another. */
static int free_port(bool udp, uint16_t *ret)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	_cleanup_close_ int fd = socket(AF_INET, (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(a);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&a, sizeof(a)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a, &len) < 0)
		return -errno;
	*ret = ntohs(a.sin_port);
	return 0;
}

static void make(struct guest_forward *f);

static void on_made(const struct error *err, uint64_t value, void *data)
{
	struct guest_forward *f = data;

	(void)value;
	if (err && err->num == EADDRINUSE && ++f->tries < TRIES_MAX) {
		make(f);
		return;
	}
	if (err) {
		give_up(f, err);
		return;
	}
	(void)fault_point("forward.made");
	f->stage = FORWARD_MADE;
	log_debug("forward: 127.0.0.1:%u leads to port %u/%s", f->host_port, f->guest_port, f->udp ? "udp" : "tcp");
	answer(f, NULL);
}

static void ask_engine(struct guest_forward *f, bool undo, engine_done_fn done)
{
	const struct engine_forward e = {
		.udp = f->udp, .undo = undo, .host_port = f->host_port, .guest_port = f->guest_port
	};

	f->m->facts.engine->forward(f->m->vm, &e, done, f);
}

static void make(struct guest_forward *f)
{
	_cleanup_error_ struct error e = {};
	int r;

	f->stage = FORWARD_MAKING;
	r = f->m->vm ? free_port(f->udp, &f->host_port) : -ESRCH;
	if (r < 0)
		error_set_errno(&e, r, "forward: no port on the loopback");
	else
		r = save(f->m, &e);
	if (r >= 0) {
		r = fault_point("forward.record");
		if (r < 0)
			error_set_errno(&e, r, "forward");
	}
	if (r < 0)
		give_up(f, &e);
	else
		ask_engine(f, false, on_made);
}

static void on_undone(const struct error *err, uint64_t value, void *data)
{
	struct guest_forward *f = data;
	struct monitor *m = f->m;
	uint64_t ticket = f->undo_ticket;

	(void)value;
	(void)fault_point("forward.undone");
	f->undo_ticket = 0;
	if (m->control && ticket)
		control_reply(m->control, ticket, NULL, 0);
	if (err)
		give_up(f, err);
	else if (f->wanted)
		make(f);
	else
		give_up(f, NULL);
}

static void undo(struct guest_forward *f, uint64_t ticket)
{
	f->stage = FORWARD_UNDOING;
	f->undo_ticket = ticket;
	f->tries = 0;
	ask_engine(f, true, on_undone);
}

/* 0 when it was answered with an error. */
static uint16_t read_request(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len, bool *ret_udp)
{
	Skerry__Monitor__V1__ForwardRequest *req = skerry__monitor__v1__forward_request__unpack(NULL, len, payload);
	uint16_t port = req && req->guest_port <= UINT16_MAX ? (uint16_t)req->guest_port : 0;

	*ret_udp = req && req->udp;
	if (req)
		skerry__monitor__v1__forward_request__free_unpacked(req, NULL);
	if (!port) {
		control_reply_error(m->control, ticket, EBADMSG, "malformed request");
	} else if (!m->vm) {
		control_reply_error(m->control, ticket, EBUSY, "it is not running");
		port = 0;
	} else if (m->plan.net_plan.kind != NET_ATTACH_USER || !m->facts.engine->forward) {
		control_reply_error(
			m->control, ticket, EOPNOTSUPP,
			"ports can be led to the guest while it runs only where its network is the engine's");
		port = 0;
	}
	return port;
}

void monitor_forward(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len)
{
	bool udp;
	uint16_t port = read_request(m, ticket, payload, len, &udp);
	struct guest_forward *f = port ? find(m, udp, port) : NULL;

	if (!port)
		return;
	if (!f) {
		unsigned n = 0;

		for (f = m->forwards; f; f = f->next)
			n++;
		if (n >= FORWARDS_MAX) {
			control_reply_error(m->control, ticket, EAGAIN, "too many ports lead to the guest");
			return;
		}
		f = add(m, udp, port);
		want(f, ticket);
		make(f);
		return;
	}
	want(f, ticket);
	if (f->stage == FORWARD_MADE)
		answer(f, NULL);
	else if (f->stage == FORWARD_RECORDED)
		undo(f, 0);
}

void monitor_unforward(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len)
{
	bool udp;
	uint16_t port = read_request(m, ticket, payload, len, &udp);
	struct guest_forward *f = port ? find(m, udp, port) : NULL;

	if (!port)
		return;
	if (f && f->stage == FORWARD_MAKING)
		control_reply_error(m->control, ticket, EBUSY, "it is being made");
	else if (f && f->stage != FORWARD_UNDOING)
		undo(f, ticket);
	else
		control_reply(m->control, ticket, NULL, 0);
}

void monitor_forwards_adopt(struct monitor *m)
{
	for (size_t i = 0; i < m->state.forwards.n && i < FORWARDS_MAX; i++) {
		struct net_publish p;

		if (net_publish_parse(m->state.forwards.items[i], &p, NULL) < 0 || find(m, p.udp, p.guest_port))
			continue;
		add(m, p.udp, p.guest_port)->host_port = p.host_port;
	}
}

void monitor_forwards_forget(struct monitor *m)
{
	while (m->forwards)
		drop(m->forwards);
	strv_done(&m->state.forwards);
}
