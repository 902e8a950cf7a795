#include "engine/qemu/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "wire/lines.h"

/* How this works: the client is a list of pending calls and two buffers. Callbacks may free it; while any of its functions is on the
 * stack (busy > 0) qmp_free() only marks it, and the outermost function releases the memory. */

enum qmp_state { QMP_GREETING, QMP_NEGOTIATING, QMP_READY, QMP_CLOSED };

/* Negotiation is a call of its own, with an id that no other has. */
#define QMP_NEGOTIATION_ID UINT64_C(0)

struct qmp_pending {
	uint64_t id;
	uint64_t deadline_ns;
	char *command; /* owned */
	qmp_reply_fn fn;
	void *userdata;
	struct qmp_pending *next;
};

struct qmp {
	struct qmp_callbacks cb;
	enum qmp_state state;
	int fd;                    /* owned */
	struct loop_source *io;    /* owned */
	struct loop_source *timer; /* owned */
	struct buf in, out;
	struct qmp_pending *pending; /* owned */
	uint64_t next_id;
	uint64_t ready_deadline_ns;
	unsigned busy;
	bool freed;
};

static void qmp_release(struct qmp *q)
{
	if (--q->busy > 0 || !q->freed)
		return;
	buf_done(&q->in);
	buf_done(&q->out);
	free(q);
}

static uint64_t deadline_after(uint64_t timeout_ns)
{
	uint64_t now = clock_monotonic_ns();

	return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

static void qmp_arm(struct qmp *q)
{
	uint64_t next = UINT64_MAX;

	if (!q->timer)
		return;
	if (q->state == QMP_GREETING || q->state == QMP_NEGOTIATING)
		next = q->ready_deadline_ns;
	for (const struct qmp_pending *p = q->pending; p; p = p->next)
		if (p->deadline_ns < next)
			next = p->deadline_ns;
	if (loop_set_deadline(q->timer, next) < 0)
		log_warning("QMP: cannot arm the timer, ignoring");
}

static void pending_answer(struct qmp_pending *p, const struct error *err, struct json *value)
{
	if (p->fn)
		p->fn(err, value, p->userdata);
	free(p->command);
	free(p);
}

static struct qmp_pending *pending_take(struct qmp *q, uint64_t id)
{
	for (struct qmp_pending **pp = &q->pending; *pp; pp = &(*pp)->next)
		if ((*pp)->id == id) {
			struct qmp_pending *p = *pp;

			*pp = p->next;
			p->next = NULL;
			return p;
		}
	return NULL;
}

/* Answers and drops everything that waits; a callback may add no new calls by then: the state is CLOSED. */
static void pending_fail_all(struct qmp *q, const struct error *why)
{
	while (q->pending) {
		struct qmp_pending *p = q->pending;
		_cleanup_error_ struct error e = {};

		q->pending = p->next;
		error_set_kind(&e, why->kind, why->num, "%s: %s", p->command, why->msg ? why->msg : "connection ended");
		pending_answer(p, &e, NULL);
	}
}

static void qmp_detach(struct qmp *q)
{
	q->io = loop_source_free(q->io);
	q->timer = loop_source_free(q->timer);
	q->fd = safe_close(q->fd);
}

/* Ends the connection. @why is told to everybody who waits. The caller holds a busy count. */
static int qmp_end(struct qmp *q, struct error *why)
{
	enum qmp_state was = q->state;
	int num = why->num;

	if (was == QMP_CLOSED) {
		error_done(why);
		return -ESHUTDOWN;
	}
	q->state = QMP_CLOSED;
	qmp_detach(q);
	if (was != QMP_READY && q->cb.ready && !q->freed)
		q->cb.ready(why, NULL, q->cb.userdata);
	pending_fail_all(q, why);
	if (q->cb.closed && !q->freed)
		q->cb.closed(why, q->cb.userdata);
	error_done(why);
	return -num;
}

static int qmp_end_with(struct qmp *q, int num, const char *text)
{
	struct error e = {};

	error_set(&e, num, "QMP: %s", text);
	return qmp_end(q, &e);
}

static int qmp_flush(struct qmp *q)
{
	while (q->out.len > 0) {
		ssize_t n = send(q->fd, q->out.p, q->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0)
			return -errno;
		buf_consume(&q->out, (size_t)n);
	}
	return q->io ? loop_set_events(q->io, q->out.len > 0 ? EPOLLIN | EPOLLOUT : EPOLLIN) : 0;
}

static int qmp_send(struct qmp *q, const char *command, struct json *arguments, uint64_t id)
{
	_cleanup_json_ struct json *msg = json_object();

	json_set_string(msg, "execute", command);
	if (arguments)
		json_set(msg, "arguments", arguments);
	json_set_u64(msg, "id", id);
	json_render(msg, false, &q->out);
	buf_addc(&q->out, '\n');
	return qmp_flush(q);
}

static int qmp_on_greeting(struct qmp *q, const struct json *msg)
{
	int r;

	if (!json_is_object(json_get(msg, "QMP")))
		return qmp_end_with(q, EPROTO, "the peer did not greet");
	q->state = QMP_NEGOTIATING;
	r = qmp_send(q, "qmp_capabilities", NULL, QMP_NEGOTIATION_ID);
	if (r < 0)
		return qmp_end_with(q, -r, "cannot send");
	return 0;
}

static void reply_error(const struct json *error, const char *command, struct error *ret)
{
	const char *desc = json_string(json_get(error, "desc"));
	const char *class = json_string(json_get(error, "class"));

	error_set(ret, EIO, "%s: %.500s", command, desc ? desc : class ? class : "refused");
}

static int qmp_on_reply(struct qmp *q, struct json *msg, uint64_t id)
{
	const struct json *error = json_get(msg, "error");
	struct error e = {};
	struct qmp_pending *p;

	if (id == QMP_NEGOTIATION_ID) {
		if (q->state != QMP_NEGOTIATING)
			return 0;
		if (error) {
			reply_error(error, "qmp_capabilities", &e);
			return qmp_end(q, &e);
		}
		q->state = QMP_READY;
		qmp_arm(q);
		if (q->cb.ready)
			q->cb.ready(NULL, msg, q->cb.userdata);
		return 0;
	}
	p = pending_take(q, id);
	if (!p)
		return 0; /* came after its deadline */
	qmp_arm(q);
	if (error) {
		reply_error(error, p->command, &e);
		pending_answer(p, &e, NULL);
		error_done(&e);
	} else {
		struct json *value = json_get(msg, "return");
		_cleanup_json_ struct json *empty = value ? NULL : json_object();

		pending_answer(p, NULL, value ? value : empty);
	}
	return 0;
}

static int qmp_on_line(struct qmp *q, const char *line, size_t len)
{
	_cleanup_json_ struct json *msg = NULL;
	const char *event;
	uint64_t id;

	if (len == 0)
		return 0;
	if (json_parse(line, len, "QMP", &msg, NULL) < 0)
		return qmp_end_with(q, EBADMSG, "a line is not JSON");
	if (!json_is_object(msg))
		return qmp_end_with(q, EPROTO, "a message is not an object");
	if (q->state == QMP_GREETING)
		return qmp_on_greeting(q, msg);
	event = json_string(json_get(msg, "event"));
	if (event) {
		if (q->cb.event)
			q->cb.event(event, json_get(msg, "data"), q->cb.userdata);
		return 0;
	}
	if (json_u64(json_get(msg, "id"), &id) && (json_get(msg, "error") || json_get(msg, "return")))
		return qmp_on_reply(q, msg, id);
	log_debug("QMP: a message without event or known id, ignored");
	return 0;
}

int qmp_feed(struct qmp *q, const void *p, size_t n)
{
	int r = 0;

	if (q->state == QMP_CLOSED)
		return -ESHUTDOWN;
	q->busy++;
	buf_add(&q->in, p, n);
	while (!q->freed && q->state != QMP_CLOSED) {
		const char *line = NULL;
		size_t len = 0, used = 0;

		r = lines_next(&q->in, QMP_LINE_MAX, &line, &len, &used);
		if (r == 0)
			break;
		if (r < 0) {
			r = qmp_end_with(q, -r, "a line is longer than 8 MiB");
			break;
		}
		r = qmp_on_line(q, line, len);
		if (r < 0)
			break;
		if (!q->freed)
			buf_consume(&q->in, used);
	}
	if (q->freed)
		r = -ECANCELED;
	else if (r == 0 && q->state == QMP_CLOSED)
		r = -ESHUTDOWN;
	qmp_release(q);
	return r;
}

static int qmp_io(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct qmp *q = data;
	char chunk[65536];
	ssize_t n;

	(void)s;
	q->busy++;
	if (events & EPOLLOUT) {
		int r = qmp_flush(q);

		if (r < 0)
			qmp_end_with(q, -r, "cannot send");
	}
	if (q->state != QMP_CLOSED && (events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
		n = recv(fd, chunk, sizeof(chunk), MSG_DONTWAIT);
		if (n > 0)
			(void)qmp_feed(q, chunk, (size_t)n);
		else if (n == 0)
			qmp_end_with(q, ECONNRESET, "the connection ended");
		else if (errno != EAGAIN && errno != EINTR)
			qmp_end_with(q, errno, "cannot receive");
	}
	qmp_release(q);
	return 0;
}

static int qmp_on_timer(struct loop_source *s, void *data)
{
	struct qmp *q = data;
	uint64_t now = clock_monotonic_ns();

	(void)s;
	q->busy++;
	if (q->state != QMP_READY && q->state != QMP_CLOSED && q->ready_deadline_ns <= now)
		qmp_end_with(q, ETIMEDOUT, "no greeting and negotiation in time");
	for (;;) {
		_cleanup_error_ struct error e = {};
		struct qmp_pending *p = q->pending;

		while (p && p->deadline_ns > now)
			p = p->next;
		if (!p)
			break;
		p = pending_take(q, p->id);
		error_set(&e, ETIMEDOUT, "%s: no answer from QEMU in time", p->command);
		pending_answer(p, &e, NULL);
	}
	if (!q->freed)
		qmp_arm(q);
	qmp_release(q);
	return 0;
}

int qmp_new(struct loop *loop, int fd, const struct qmp_callbacks *cb, uint64_t timeout_ns, struct qmp **ret,
	    struct error *err)
{
	struct qmp *q = xnew(struct qmp);
	int r;

	q->cb = *cb;
	q->fd = fd;
	q->next_id = QMP_NEGOTIATION_ID + 1;
	q->ready_deadline_ns = deadline_after(timeout_ns);
	r = loop_add_fd(loop, &q->io, fd, EPOLLIN, qmp_io, q);
	if (r >= 0)
		r = loop_add_timer(loop, &q->timer, q->ready_deadline_ns, qmp_on_timer, q);
	if (r < 0) {
		q->state = QMP_CLOSED;
		qmp_free(q);
		return error_set_errno(err, r, "QMP: cannot watch the socket");
	}
	*ret = q;
	return 0;
}

struct qmp *qmp_free(struct qmp *q)
{
	if (!q || q->freed)
		return NULL;
	q->busy++;
	q->freed = true;
	if (q->state != QMP_CLOSED) {
		_cleanup_error_ struct error e = {};

		q->state = QMP_CLOSED;
		error_set(&e, ECANCELED, "the control connection was given up");
		pending_fail_all(q, &e);
	}
	qmp_detach(q);
	qmp_release(q);
	return NULL;
}

void qmp_call(struct qmp *q, const char *command, struct json *arguments, uint64_t timeout_ns, qmp_reply_fn fn,
	      void *userdata)
{
	struct qmp_pending *p, **end;
	int r;

	if (q->state != QMP_READY) {
		_cleanup_error_ struct error e = {};

		json_free(arguments);
		error_set(&e, ENOTCONN, "%s: no control connection to QEMU", command);
		if (fn)
			fn(&e, NULL, userdata);
		return;
	}
	q->busy++;
	p = xnew(struct qmp_pending);
	p->id = q->next_id++;
	p->deadline_ns = deadline_after(timeout_ns);
	p->command = xstrdup(command);
	p->fn = fn;
	p->userdata = userdata;
	for (end = &q->pending; *end; end = &(*end)->next)
		;
	*end = p;
	r = qmp_send(q, command, arguments, p->id);
	if (r < 0)
		qmp_end_with(q, -r, "cannot send");
	else
		qmp_arm(q);
	qmp_release(q);
}

struct wait {
	bool done;
	int r;
	struct json *value; /* owned */
	struct error *err;  /* borrowed, may be NULL */
};

static void wait_reply(const struct error *err, struct json *value, void *userdata)
{
	struct wait *w = userdata;

	w->done = true;
	if (err)
		w->r = error_set_kind(w->err, err->kind, err->num, "%s", err->msg ? err->msg : "failed");
	else
		w->value = json_ref(value);
}

int qmp_call_wait(struct qmp *q, struct loop *loop, const char *command, struct json *arguments, uint64_t timeout_ns,
		  struct json **ret, struct error *err)
{
	struct wait w = { .err = err };

	qmp_call(q, command, arguments, timeout_ns, wait_reply, &w);
	while (!w.done) {
		int r = loop_step(loop, UINT64_MAX);

		/* The call's own deadline ends this; a loop that was ended by somebody else does not serve it any more. */
		if (r < 0 && !w.done) {
			struct qmp_pending *p;

			for (p = q->pending; p; p = p->next)
				if (p->userdata == &w)
					p->fn = NULL;
			return error_set_errno(err, r, "%s: the event loop ended", command);
		}
	}
	if (w.r < 0)
		return w.r;
	if (ret)
		*ret = w.value;
	else
		json_free(w.value);
	return 0;
}

int qmp_wait_ready(struct qmp *q, struct loop *loop, struct error *err)
{
	while (q->state == QMP_GREETING || q->state == QMP_NEGOTIATING) {
		int r = loop_step(loop, UINT64_MAX);

		if (r < 0)
			return error_set_errno(err, r, "QMP: the event loop ended");
	}
	if (q->state != QMP_READY)
		return error_set(err, ENOTCONN, "QMP: the connection ended before it was ready");
	return 0;
}
