/* How this works. Two pipes run until both have ended:
 *
 *   guest → host   Read answers → out → send(2); at the end shutdown(SHUT_WR)
 *   host → guest   recv(2) → in → Write takes so much; at the end CloseStdin
 *
 * Nothing is read that has not been written on, which is all the back-pressure there is. */
#include "shim/tunnel.h"

#include <errno.h>
#include <sys/socket.h>

#include "agent.pb-c.h"
#include "base/memory.h"
#include "shim/shim.h"
#include "wire/message.h"

enum { CHUNK = 128 << 10 };

struct tunnel {
	struct shim *shim; /* borrowed */
	char *session;     /* owned */
	int fd;
	struct loop_source *source; /* NULL once the host's end has gone */
	struct buf out, in;
	int read_call, write_call;
	bool out_ended, out_done; /* the guest has no more; and all of it was written */
	bool in_done;
	tunnel_done_fn done;
	void *data;
};

static void pull(struct tunnel *t);

static int call(struct tunnel *t, const char *method, const struct ProtobufCMessage *m, rpc_done_fn done)
{
	return guest_wait(t->shim, method, m, done, t, NULL);
}

static void cancel(struct tunnel *t, int number)
{
	guest_cancel(t->shim, number);
}

static void call_id(struct tunnel *t, const char *method)
{
	Skerry__Agent__V1__IdRequest q = SKERRY__AGENT__V1__ID_REQUEST__INIT;

	q.id = t->session;
	(void)guest_call(t->shim, method, &q.base, NULL, NULL, NULL);
}

static void settle(struct tunnel *t)
{
	if (!t->out_done || !t->in_done) {
		if (t->source)
			(void)loop_set_events(t->source, (t->out.len ? (uint32_t)EPOLLOUT : 0) |
								 (t->in_done || t->in.len ? 0 : (uint32_t)EPOLLIN));
		return;
	}
	t->done(t->data);
}

/* To the host. The server may have gone: then nothing of what the guest still says is wanted; what the server has said still goes there. */
static void push(struct tunnel *t)
{
	while (t->out.len) {
		ssize_t n = send(t->fd, t->out.p, t->out.len, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			t->out_ended = true;
			buf_truncate(&t->out, 0);
			break;
		}
		buf_consume(&t->out, (size_t)n);
	}
	if (!t->out.len && t->out_ended && !t->out_done) {
		t->out_done = true;
		(void)shutdown(t->fd, SHUT_WR);
	}
	if (!t->out.len && !t->out_ended)
		pull(t);
}

static void on_read(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct tunnel *t = data;
	_cleanup_message_ Skerry__Agent__V1__ReadResponse *r = NULL;

	t->read_call = 0;
	if (!err)
		r = message_unpack(&skerry__agent__v1__read_response__descriptor, payload, len);
	if (r && r->data.len)
		buf_add(&t->out, r->data.data, r->data.len);
	t->out_ended = !r || r->eof;
	push(t);
	settle(t);
}

static void pull(struct tunnel *t)
{
	Skerry__Agent__V1__ReadRequest q = SKERRY__AGENT__V1__READ_REQUEST__INIT;
	int r;

	if (t->read_call)
		return;
	q.id = t->session;
	q.stream = 1;
	q.max = CHUNK;
	r = call(t, "Read", &q.base, on_read);
	if (r < 0)
		t->out_ended = t->out_done = true;
	else
		t->read_call = r;
}

static void feed(struct tunnel *t);
static void take(struct tunnel *t);

static void on_written(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct tunnel *t = data;
	_cleanup_message_ Skerry__Agent__V1__WriteResponse *r = NULL;

	t->write_call = 0;
	if (!err)
		r = message_unpack(&skerry__agent__v1__write_response__descriptor, payload, len);
	if (!r || r->count > t->in.len) {
		/* The guest's end takes no more. */
		buf_truncate(&t->in, 0);
		t->in_done = true;
		(void)shutdown(t->fd, SHUT_RD);
	} else {
		buf_consume(&t->in, r->count);
	}
	feed(t);
	if (!t->source)
		take(t);
	settle(t);
}

/* To the guest. */
static void feed(struct tunnel *t)
{
	Skerry__Agent__V1__WriteRequest q = SKERRY__AGENT__V1__WRITE_REQUEST__INIT;
	int r;

	if (t->in_done || t->write_call || !t->in.len)
		return;
	q.id = t->session;
	q.data = (ProtobufCBinaryData){ t->in.len, (uint8_t *)t->in.p };
	r = call(t, "Write", &q.base, on_written);
	if (r < 0)
		t->in_done = true;
	else
		t->write_call = r;
}

static void take(struct tunnel *t)
{
	ssize_t n;

	if (t->in_done || t->in.len)
		return;
	n = recv(t->fd, buf_reserve(&t->in, CHUNK), CHUNK, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		buf_commit(&t->in, (size_t)n);
		feed(t);
		return;
	}
	t->in_done = true;
	call_id(t, "CloseStdin");
}

static int on_ready(struct loop_source *src, int fd, uint32_t events, void *data)
{
	struct tunnel *t = data;

	(void)src;
	(void)fd;
	if (events & (EPOLLOUT | EPOLLHUP))
		push(t);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		take(t);
	/* The server has gone, which is told without end: a guest that is slow to take what was said must not keep us busy. */
	if (events & EPOLLHUP)
		t->source = loop_source_free(t->source);
	settle(t);
	return 0;
}

struct tunnel *tunnel_new(struct shim *s, int fd, const char *session, tunnel_done_fn done, void *data)
{
	struct tunnel *t = xnew(struct tunnel);

	*t = (struct tunnel){ .shim = s, .session = xstrdup(session), .fd = fd, .done = done, .data = data };
	if (loop_add_fd(s->loop, &t->source, fd, EPOLLIN, on_ready, t) < 0)
		return tunnel_free(t);
	pull(t);
	return t;
}

struct tunnel *tunnel_free(struct tunnel *t)
{
	if (!t)
		return NULL;
	cancel(t, t->read_call);
	cancel(t, t->write_call);
	call_id(t, "Release");
	loop_source_free(t->source);
	safe_close(t->fd);
	buf_done(&t->out);
	buf_done(&t->in);
	free(t->session);
	free(t);
	return NULL;
}
