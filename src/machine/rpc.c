#include "machine/rpc.h"

#include <sys/socket.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/utf8.h"

enum { READ_CHUNK = 64 << 10, CALLS_MAX = 4096, MESSAGE_MAX = 2048, BACKLOG_MAX = 1 << 20 };

/* Of our own clients: behind it their ids begin again. */
#define STREAM_LAST 0x7ffffffdu

struct call {
	uint32_t stream_id;
	uint64_t deadline_ns;
	rpc_done_fn done; /* NULL: answered or cancelled, waiting to be unlinked */
	void *data;
	struct call *next;
};

struct rpc {
	struct loop *loop; /* borrowed: outlives every connection in it */
	int fd;
	struct loop_source *source;
	struct loop_source *timer;
	struct buf in, out;
	uint32_t next_stream;
	uint32_t last_request; /* stream id, 0 = none yet */
	size_t skip;           /* bytes of a refused frame that are still to come */
	struct call *calls;    /* owned */
	size_t n_calls;
	rpc_request_fn on_request;
	rpc_closed_fn on_closed;
	void *data;
	unsigned busy; /* depth of callbacks that run now: rpc_free() then only marks */
	bool doomed;
};

static int on_socket(struct loop_source *s, int fd, uint32_t events, void *data);
static int on_timer(struct loop_source *s, void *data);

int rpc_new(struct loop *l, int fd, rpc_request_fn on_request, rpc_closed_fn on_closed, void *data, struct rpc **ret)
{
	struct rpc *r = xnew(struct rpc);
	int e;

	*r = (struct rpc){
		.loop = l, .fd = fd, .next_stream = 1, .on_request = on_request, .on_closed = on_closed, .data = data
	};
	e = loop_add_fd(l, &r->source, fd, EPOLLIN, on_socket, r);
	if (e >= 0)
		e = loop_add_timer(l, &r->timer, UINT64_MAX, on_timer, r);
	if (e < 0) {
		rpc_free(r);
		return e;
	}
	*ret = r;
	return 0;
}

static void destroy(struct rpc *r)
{
	loop_source_free(r->source);
	loop_source_free(r->timer);
	safe_close(r->fd);
	buf_done(&r->in);
	buf_done(&r->out);
	free(r);
}

/* Answers every pending call with the same error. */
static void fail_calls(struct rpc *r, int num)
{
	struct call *c;

	while ((c = r->calls)) {
		_cleanup_error_ struct error e = {};

		r->calls = c->next;
		r->n_calls--;
		if (c->done) {
			error_set(&e, num, "the connection ended");
			c->done(&e, NULL, 0, c->data);
		}
		free(c);
	}
}

struct rpc *rpc_free(struct rpc *r)
{
	if (!r || r->doomed)
		return NULL;
	r->doomed = true;
	r->on_closed = NULL;
	r->busy++;
	fail_calls(r, ECONNRESET);
	r->busy--;
	if (r->busy == 0)
		destroy(r);
	return NULL;
}

/* Returns true when @r is still there. */
static bool leave(struct rpc *r)
{
	r->busy--;
	if (r->busy == 0 && r->doomed) {
		destroy(r);
		return false;
	}
	return true;
}

static void closed(struct rpc *r, int num)
{
	rpc_closed_fn fn = r->on_closed;

	r->source = loop_source_free(r->source);
	r->on_closed = NULL;
	fail_calls(r, num ? num : ECONNRESET);
	if (fn && !r->doomed)
		fn(r, num, r->data);
}

static void update_events(struct rpc *r)
{
	/* Who asks and does not read the answers is not asked for more. */
	bool listens = !r->on_request || r->out.len < BACKLOG_MAX;

	if (r->source)
		(void)loop_set_events(r->source,
				      (listens ? (uint32_t)EPOLLIN : 0) | (r->out.len ? (uint32_t)EPOLLOUT : 0));
}

/* Writes what the socket takes. A failure is left for the read side to report, which sees the end too. */
static void flush(struct rpc *r)
{
	while (r->out.len) {
		ssize_t n = send(r->fd, r->out.p, r->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				buf_truncate(&r->out, 0);
			break;
		}
		buf_consume(&r->out, (size_t)n);
	}
	update_events(r);
}

static void rearm(struct rpc *r)
{
	uint64_t first = UINT64_MAX;

	for (const struct call *c = r->calls; c; c = c->next)
		if (c->done && c->deadline_ns < first)
			first = c->deadline_ns;
	(void)loop_set_deadline(r->timer, first);
}

static struct call *take_call(struct rpc *r, uint32_t stream_id)
{
	for (struct call **p = &r->calls; *p; p = &(*p)->next) {
		struct call *c = *p;

		if (c->stream_id != stream_id)
			continue;
		*p = c->next;
		r->n_calls--;
		return c;
	}
	return NULL;
}

static void handle_response(struct rpc *r, const struct ttrpc_frame *f)
{
	struct call *c = take_call(r, f->stream_id);
	struct ttrpc_response resp;
	_cleanup_error_ struct error e = {};
	int n;

	if (!c)
		return; /* late, or never asked for */
	n = ttrpc_response_decode(f, &resp);
	if (n < 0) {
		error_set(&e, n, "malformed response");
		if (c->done)
			c->done(&e, NULL, 0, c->data);
		free(c);
		return;
	}
	if (c->done) {
		if (resp.code != TTRPC_OK) {
			_cleanup_free_ char *text = utf8_shown(resp.message, MESSAGE_MAX);

			error_set(&e, ttrpc_code_to_errno(resp.code), "%s", text);
			c->done(&e, NULL, 0, c->data);
		} else {
			c->done(NULL, resp.payload, resp.payload_len, c->data);
		}
	}
	ttrpc_response_done(&resp);
	free(c);
}

static void handle_request(struct rpc *r, const struct ttrpc_frame *f)
{
	struct ttrpc_request req;

	if (f->stream_id % 2 == 0) {
		rpc_reply_error(r, f->stream_id, EINVAL, "stream id must be odd for client initiated streams");
		return;
	}
	if (f->stream_id <= r->last_request && !(f->stream_id == 1 && r->last_request >= STREAM_LAST)) {
		rpc_reply_error(r, f->stream_id, EINVAL, "stream id cannot be used again and must increase");
		return;
	}
	r->last_request = f->stream_id;
	if (ttrpc_request_decode(f, &req) < 0) {
		rpc_reply_error(r, f->stream_id, EBADMSG, "malformed request");
		return;
	}
	r->on_request(r, f->stream_id, &req, r->data);
	ttrpc_request_done(&req);
}

/* A client's frame that is none: it is told, and what follows is heard (as containerd's own server does; types that we do not know are for later
 * versions). <0: this is no ttrpc, of whose frames the first byte is always 0 (PROTOCOL.md). */
static int refuse_frame(struct rpc *r, const struct ttrpc_frame *f, int num)
{
	if (!r->on_request || f->len >= 1u << 24)
		return num;
	if (num == -EMSGSIZE)
		rpc_reply_error(r, f->stream_id, EMSGSIZE, "message is larger than 4 MiB");
	else if (f->type >= TTRPC_REQUEST && f->type <= TTRPC_DATA)
		rpc_reply_error(r, f->stream_id, EINVAL, "stream id must be odd for client initiated streams");
	r->skip = TTRPC_HEADER_SIZE + f->len;
	return 0;
}

static void skip_refused(struct rpc *r)
{
	size_t n = r->skip < r->in.len ? r->skip : r->in.len;

	buf_consume(&r->in, n);
	r->skip -= n;
}

/* Handles every whole frame in the buffer. Returns <0 when the peer does not speak ttrpc. */
static int handle_input(struct rpc *r)
{
	for (;;) {
		struct ttrpc_frame f;
		size_t used;
		int n;

		skip_refused(r);
		n = ttrpc_decode(&r->in, &f, &used);
		if (n == 0)
			return 0;
		if (n < 0) {
			n = refuse_frame(r, &f, n);
			if (n < 0)
				return n;
			continue;
		}
		if (f.type == TTRPC_RESPONSE)
			handle_response(r, &f);
		else if (!r->on_request)
			return -EPROTO;
		else if (f.type == TTRPC_REQUEST)
			handle_request(r, &f);
		else
			rpc_reply_error(r, f.stream_id, EINVAL, "stream is not active"); /* our services have none */
		if (r->doomed)
			return 0;
		buf_consume(&r->in, used);
	}
}

static int on_socket(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct rpc *r = data;
	int n;

	(void)s;
	r->busy++;
	if (events & EPOLLOUT)
		flush(r);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		void *p = buf_reserve(&r->in, READ_CHUNK);
		ssize_t got = recv(fd, p, READ_CHUNK, MSG_DONTWAIT);

		if (got > 0) {
			buf_commit(&r->in, (size_t)got);
			n = handle_input(r);
			if (n < 0 && !r->doomed)
				closed(r, -n);
		} else if (got == 0) {
			closed(r, 0);
		} else if (errno != EAGAIN && errno != EINTR) {
			closed(r, errno);
		}
	}
	if (leave(r))
		rearm(r);
	return 0;
}

static int on_timer(struct loop_source *s, void *data)
{
	struct rpc *r = data;
	uint64_t now = clock_monotonic_ns();
	bool again = true;

	(void)s;
	r->busy++;
	while (again && !r->doomed) {
		again = false;
		for (struct call *c = r->calls; c; c = c->next) {
			_cleanup_error_ struct error e = {};
			rpc_done_fn done = c->done;

			if (!done || c->deadline_ns > now)
				continue;
			/* Stays linked, so that the late answer is recognised and dropped. */
			c->done = NULL;
			error_set(&e, ETIMEDOUT, "no answer in time");
			done(&e, NULL, 0, c->data);
			again = true;
			break;
		}
	}
	if (leave(r))
		rearm(r);
	return 0;
}

bool rpc_is_open(const struct rpc *r)
{
	return !r->doomed && r->source;
}

int rpc_call(struct rpc *r, const char *service, const char *method, const void *payload, size_t len,
	     uint64_t deadline_ns, rpc_done_fn done, void *data, struct error *err)
{
	struct call *c;
	uint32_t id = r->next_stream;
	int n;

	if (!rpc_is_open(r))
		return error_set(err, ECONNRESET, "the connection ended");
	if (r->n_calls >= CALLS_MAX)
		return error_set(err, EAGAIN, "too many calls in flight");
	n = ttrpc_request_encode(&r->out, id, service, method, payload, len, 0);
	if (n < 0)
		return error_set(err, n, "request too large");
	r->next_stream = id >= STREAM_LAST ? 1 : id + 2;
	c = xnew(struct call);
	*c = (struct call){ .stream_id = id, .deadline_ns = deadline_ns, .done = done, .data = data, .next = r->calls };
	r->calls = c;
	r->n_calls++;
	flush(r);
	if (!r->busy)
		rearm(r);
	return (int)id;
}

void rpc_cancel(struct rpc *r, int stream_id)
{
	for (struct call *c = r->calls; c; c = c->next)
		if ((int)c->stream_id == stream_id)
			c->done = NULL;
}

void rpc_reply(struct rpc *r, uint32_t stream_id, const void *payload, size_t len)
{
	if (r->doomed || !r->source)
		return;
	if (ttrpc_response_encode(&r->out, stream_id, TTRPC_OK, "", payload, len) < 0)
		(void)ttrpc_response_encode(&r->out, stream_id, TTRPC_RESOURCE_EXHAUSTED, "response too large", NULL,
					    0);
	flush(r);
}

void rpc_reply_error(struct rpc *r, uint32_t stream_id, int num, const char *message)
{
	if (r->doomed || !r->source)
		return;
	(void)ttrpc_response_encode(&r->out, stream_id, ttrpc_code_from_errno(num), message, NULL, 0);
	flush(r);
}

void rpc_feed(struct rpc *r, const void *p, size_t n)
{
	int e;

	r->busy++;
	buf_add(&r->in, p, n);
	e = handle_input(r);
	if (e < 0 && !r->doomed)
		closed(r, -e);
	if (leave(r))
		rearm(r);
}

size_t rpc_backlog(const struct rpc *r)
{
	return r->out.len;
}
