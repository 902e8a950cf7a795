/* What goes into and comes out of sessions, and who waits for it. */
#include "guest/session_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"

enum {
	REQUESTS_MAX = 64, /* that wait on one stream, of one kind */
	READ_DEFAULT = 64 << 10,
	READ_STEP = 64 << 10,
	WRITE_KEEP = 64 << 10, /* of a write that cannot be done at once */
	KEPT_MAX = 256 << 10,  /* console sessions: output that nobody fetched yet */
};
static const uint64_t abandoned_after_ns = 10 * NS_PER_SEC;

static int on_output(struct loop_source *src, int fd, uint32_t events, void *data);

/* ---- Queues ---- */

struct request *session_queue_add(struct queue *q, uint32_t stream_id)
{
	struct request *r;

	if (q->n >= REQUESTS_MAX)
		return NULL;
	r = xnew(struct request);
	r->stream_id = stream_id;
	if (!q->first)
		q->last = &q->first;
	*q->last = r;
	q->last = &r->next;
	q->n++;
	return r;
}

void session_queue_pop(struct queue *q)
{
	struct request *r = q->first;

	q->first = r->next;
	q->n--;
	free(r->data);
	free(r);
}

void session_queue_clear(struct queue *q)
{
	while (q->first)
		session_queue_pop(q);
}

/* ---- Output ---- */

static void write_console(struct sessions *t, const void *p, size_t n)
{
	if (t->console < 0)
		t->console = open("/dev/console", O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
	if (t->console >= 0 && write(t->console, p, n) < 0 && errno != EAGAIN && errno != EINTR)
		t->console = safe_close(t->console);
}

/* Appends what is there, up to @max bytes in all. 0, -EAGAIN nothing more for now, -ENODATA the end. */
static int fetch(struct stream *o, struct buf *to, size_t max)
{
	while (to->len < max) {
		size_t want = max - to->len < READ_STEP ? max - to->len : READ_STEP;
		ssize_t n = read(o->fd, buf_reserve(to, want), want);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return -EAGAIN;
		if (n <= 0)
			return -ENODATA; /* EIO is how a terminal says it */
		if (o->session->tee)
			write_console(o->session->table, to->p + to->len, (size_t)n);
		buf_commit(to, (size_t)n);
		o->active = true;
		if ((size_t)n < want)
			return 0; /* the next attempt finds out, if there is a next one */
	}
	return 0;
}

void session_watch_output(struct stream *o, bool wanted)
{
	if (o->fd < 0)
		return;
	if (o->source)
		(void)loop_set_events(o->source, wanted ? EPOLLIN : 0);
	else if (wanted && loop_add_fd(o->session->table->loop, &o->source, o->fd, EPOLLIN, on_output, o) < 0)
		session_stream_close(o);
}

static void answer_reader(struct stream *o, const char *p, size_t n, bool eof)
{
	Skerry__Agent__V1__ReadResponse m;
	union {
		const char *c;
		uint8_t *p;
	} data = { .c = p }; /* packing only reads it */

	skerry__agent__v1__read_response__init(&m);
	m.data = (ProtobufCBinaryData){ .len = n, .data = data.p };
	m.eof = eof;
	link_reply(o->session->table->link, o->readers.first->stream_id, &m.base);
	session_queue_pop(&o->readers);
	o->active = true;
	o->read_ns = clock_monotonic_ns();
}

/* Nobody reads it, and nobody did for a while. */
bool session_unread(const struct stream *o)
{
	return !o->readers.first && clock_monotonic_ns() >= o->read_ns + abandoned_after_ns;
}

/* Console sessions: takes output without being asked, up to the bound; beyond it the oldest goes when the host does not read along. */
void session_keep_output(struct stream *o)
{
	int r = 0;

	while (o->fd >= 0 && r == 0) {
		if (o->kept.len >= KEPT_MAX) {
			if (!session_unread(o)) {
				(void)loop_set_deadline(o->session->timer, o->read_ns + abandoned_after_ns);
				break;
			}
			buf_consume(&o->kept, KEPT_MAX / 2);
		}
		r = fetch(o, &o->kept, KEPT_MAX);
	}
	if (r == -ENODATA)
		session_stream_close(o);
}

void session_serve_readers(struct stream *o)
{
	struct buf *scratch = &o->session->table->scratch;

	while (o->readers.first) {
		size_t max = o->readers.first->max;
		int r;

		if (o->session->tee && o->kept.len < max)
			session_keep_output(o);
		if (o->kept.len > 0) {
			size_t n = o->kept.len < max ? o->kept.len : max;

			answer_reader(o, o->kept.p, n, false);
			buf_consume(&o->kept, n);
			continue;
		}
		if (o->fd < 0) {
			answer_reader(o, NULL, 0, true);
			continue;
		}
		if (o->session->tee)
			break;
		buf_truncate(scratch, 0);
		r = fetch(o, scratch, max);
		if (r == -ENODATA)
			session_stream_close(o);
		if (scratch->len > 0)
			answer_reader(o, scratch->p, scratch->len, false);
		else if (r == -EAGAIN)
			break;
	}
	session_watch_output(o, o->readers.first || (o->session->tee && o->kept.len < KEPT_MAX));
	session_answer_waiters(o->session);
	session_tick_soon(o->session);
}

static int on_output(struct loop_source *src, int fd, uint32_t events, void *data)
{
	struct stream *o = data;

	(void)src;
	(void)fd;
	(void)events;
	if (o->session->tee)
		session_keep_output(o);
	session_serve_readers(o);
	return 0;
}

int session_read(struct sessions *t, const char *id, unsigned stream, uint32_t max, uint32_t stream_id,
		 struct error *err)
{
	struct session *s = session_find(t, id, err);
	struct request *r;
	struct stream *o;

	if (!s)
		return -ENOENT;
	if (stream < 1 || stream > 2)
		return error_set(err, EINVAL, "there is no stream %u", stream);
	o = &s->out[stream - 1];
	r = session_queue_add(&o->readers, stream_id);
	if (!r)
		return error_set(err, EMFILE, "too many reads of one stream");
	r->max = max == 0 ? READ_DEFAULT : max > SESSION_READ_MAX ? SESSION_READ_MAX : max;
	o->abandoned = false;
	session_serve_readers(o);
	return 0;
}

/* ---- Input ---- */

static void finish_input(struct session *s)
{
	static const char end_of_file = 4; /* ^D, what a terminal has for it */

	if (s->in < 0)
		return;
	if (s->is_socket)
		(void)shutdown(s->in, SHUT_WR);
	else if (s->terminal)
		(void)!write(s->in, &end_of_file, 1);
	if (!s->terminal)
		session_close_input(s);
}

static int on_input(struct loop_source *src, int fd, uint32_t events, void *data);

static void serve_writers(struct session *s)
{
	while (s->writers.first) {
		struct request *q = s->writers.first;
		Skerry__Agent__V1__WriteResponse m;
		ssize_t n = s->in < 0 ? -1 : write(s->in, q->data, q->len);

		if (s->in >= 0 && n < 0 && errno == EINTR)
			continue;
		if (s->in >= 0 && n < 0 && errno == EAGAIN)
			break;
		if (n < 0) {
			link_error(s->table->link, q->stream_id, EPIPE, "standard input is closed");
			session_close_input(s);
		} else {
			skerry__agent__v1__write_response__init(&m);
			m.count = (uint32_t)n;
			link_reply(s->table->link, q->stream_id, &m.base);
		}
		session_queue_pop(&s->writers);
	}
	if (!s->writers.first && s->close_when_written) {
		s->close_when_written = false;
		finish_input(s);
	}
	if (s->in < 0)
		return;
	if (s->in_source)
		(void)loop_set_events(s->in_source, s->writers.first ? EPOLLOUT : 0);
	else if (s->writers.first && loop_add_fd(s->table->loop, &s->in_source, s->in, EPOLLOUT, on_input, s) < 0)
		session_close_input(s);
}

static int on_input(struct loop_source *src, int fd, uint32_t events, void *data)
{
	(void)src;
	(void)fd;
	(void)events;
	serve_writers(data);
	return 0;
}

int session_write(struct sessions *t, const char *id, const uint8_t *p, size_t n, uint32_t stream_id, struct error *err)
{
	struct session *s = session_find(t, id, err);
	struct request *r;

	if (!s)
		return -ENOENT;
	if (s->in < 0 || s->close_when_written)
		return error_set(err, EPIPE, "standard input is closed");
	if (!s->writers.first) {
		/* Mostly there is room: no copy then. */
		ssize_t done = n ? write(s->in, p, n) : 0;
		Skerry__Agent__V1__WriteResponse m;

		if (done < 0 && errno != EAGAIN && errno != EINTR) {
			session_close_input(s);
			return error_set(err, EPIPE, "standard input is closed");
		}
		if (done >= 0) {
			skerry__agent__v1__write_response__init(&m);
			m.count = (uint32_t)done;
			link_reply(t->link, stream_id, &m.base);
			return 0;
		}
	}
	r = session_queue_add(&s->writers, stream_id);
	if (!r)
		return error_set(err, EMFILE, "too many writes to one stream");
	r->len = n < WRITE_KEEP ? n : WRITE_KEEP;
	r->data = xmemdup(p, r->len);
	serve_writers(s);
	return 0;
}

int session_close_stdin(struct sessions *t, const char *id, struct error *err)
{
	struct session *s = session_find(t, id, err);

	if (!s)
		return -ENOENT;
	if (s->writers.first)
		s->close_when_written = true;
	else
		finish_input(s);
	return 0;
}
