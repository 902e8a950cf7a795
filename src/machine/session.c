#include "machine/session.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/memory.h"
#include "base/process.h"
#include "wire/message.h"

enum {
	READ_MAX = 256 << 10,
	INPUT_MAX = 64 << 10,
	STREAM_OUT = 1,
	STREAM_ERR = 2,
	INTERRUPTS_TO_END = 3,
};
#define INTERRUPT_SPAN_NS (2 * NS_PER_SEC)

struct pump;

/* Guest to us. */
struct output {
	struct pump *pump;
	uint32_t stream;
	int fd;
	struct buf pending;
	struct loop_source *source; /* owned; there while something waits for the descriptor */
	int call;                   /* stream id of the Read that is under way, 0 = none */
	bool direct;                /* a regular file: written without waiting */
	bool eof;
	bool broken; /* nobody reads, or it cannot be written: what comes is dropped */
};

/* Us to guest. */
struct input {
	int fd;
	struct buf pending;
	struct loop_source *source;
	int call;
	bool direct;
	bool eof, ended;
};

struct pump {
	struct client *client;
	const struct session *s;
	struct output out[2];
	struct input in;
	struct loop_source *signals[5];
	struct loop_source *reader_gone;
	int wait_call;
	bool waited;
	int status;
	uint64_t interrupts[INTERRUPTS_TO_END]; /* when the last ones came */
	bool done;
	int result;
	struct error error;
};

static void output_flush(struct output *o);
static void input_more(struct pump *p);

static void pump_fail(struct pump *p, int num, const struct error *from)
{
	if (p->done)
		return;
	p->done = true;
	p->result = error_set_kind(&p->error, from ? from->kind : ERROR_FAILED, num, "%s",
				   from && from->msg ? from->msg : "session ended");
}

static void pump_check_end(struct pump *p)
{
	bool ended = true;

	for (size_t i = 0; i < ARRAY_SIZE(p->out); i++)
		if (p->out[i].fd >= 0 && !(p->out[i].eof && p->out[i].pending.len == 0))
			ended = false;
	if (ended && (!p->s->wait || p->waited))
		p->done = true;
}

/* Errors that say that the whole conversation is over, against those that only concern one stream. */
static bool connection_lost(const struct error *err)
{
	return err->num == ECONNRESET || err->num == EPIPE || err->num == ESHUTDOWN;
}

static int call(struct pump *p, const char *method, const ProtobufCMessage *m, rpc_done_fn done, void *data)
{
	_cleanup_buf_ struct buf b = {};
	size_t n = protobuf_c_message_get_packed_size(m);
	struct error err = {};
	int r;

	if (!p->client->rpc)
		r = error_set(&err, ECONNRESET, "the connection to the machine ended");
	else {
		protobuf_c_message_pack(m, buf_reserve(&b, n + 1));
		buf_commit(&b, n);
		r = rpc_call(p->client->rpc, AGENT_SERVICE, method, b.p, b.len, UINT64_MAX, done, data, &err);
	}
	if (r < 0)
		pump_fail(p, r, &err);
	error_done(&err);
	return r;
}

static void forget_answer(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	(void)err;
	(void)payload;
	(void)len;
	(void)data;
}

static void send_signal(struct pump *p, int sig)
{
	Skerry__Agent__V1__SignalRequest m = SKERRY__AGENT__V1__SIGNAL_REQUEST__INIT;

	m.id = (char *)(uintptr_t)p->s->id;
	m.signal = sig;
	(void)call(p, "Signal", &m.base, forget_answer, NULL);
}

/* ---- guest to us ---- */

static void output_done_reading(const struct error *err, const uint8_t *payload, size_t len, void *data);

static void output_more(struct output *o)
{
	Skerry__Agent__V1__ReadRequest m = SKERRY__AGENT__V1__READ_REQUEST__INIT;

	if (o->fd < 0 || o->eof || o->call || o->pending.len >= READ_MAX || o->pump->done)
		return;
	m.id = (char *)(uintptr_t)o->pump->s->id;
	m.stream = o->stream;
	m.max = READ_MAX;
	o->call = call(o->pump, "Read", &m.base, output_done_reading, o);
	if (o->call < 0)
		o->call = 0;
}

static void output_done_reading(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct output *o = data;
	Skerry__Agent__V1__ReadResponse *m;

	o->call = 0;
	if (err) {
		pump_fail(o->pump, err->num, err);
		return;
	}
	m = message_unpack(&skerry__agent__v1__read_response__descriptor, payload, len);
	if (!m || m->data.len > READ_MAX) {
		struct error bad = {};

		error_set(&bad, EBADMSG, "the guest sent a malformed answer");
		pump_fail(o->pump, EBADMSG, &bad);
		error_done(&bad);
	} else {
		if (!o->broken)
			buf_add(&o->pending, m->data.data, m->data.len);
		o->eof = m->eof;
	}
	message_free(m);
	if (o->pump->done)
		return;
	output_flush(o);
	output_more(o);
	pump_check_end(o->pump);
}

static void output_broken(struct output *o)
{
	o->broken = true;
	buf_truncate(&o->pending, 0);
	o->source = loop_source_free(o->source);
	if (o->pump->s->end_on_broken) {
		struct error err = {};

		error_set(&err, EPIPE, "nobody reads any more");
		pump_fail(o->pump, EPIPE, &err);
		error_done(&err);
	} else {
		send_signal(o->pump, SIGPIPE);
	}
}

/* Whether a write that failed says that nobody wants what comes: as does a terminal that was hung up, which does not even say that it is one,
 * and a sealed file, which takes only so much. */
static bool nobody_reads(int fd, int num)
{
	struct stat st;

	return num == EPIPE || num == ECONNRESET || num == EPERM ||
	       (num == EIO && fstat(fd, &st) == 0 && S_ISCHR(st.st_mode));
}

/* Somebody wants it, and does not get it. The process ends as it would for its own output. */
static void output_failed(struct output *o, int num)
{
	struct error err = {};

	o->broken = true;
	buf_truncate(&o->pending, 0);
	o->source = loop_source_free(o->source);
	if (!o->pump->s->end_on_broken)
		send_signal(o->pump, SIGPIPE);
	error_set_errno(&err, num, "cannot write to standard %s", o->stream == STREAM_ERR ? "error" : "output");
	pump_fail(o->pump, num, &err);
	error_done(&err);
}

/* Writes once. Returns false when the descriptor takes nothing now. */
static bool output_write(struct output *o)
{
	/* A blocking pipe that polls writable takes PIPE_BUF bytes without blocking, not more. */
	int flags = fcntl(o->fd, F_GETFL);
	size_t n = o->pending.len;
	ssize_t w;

	if (!o->direct && !(flags >= 0 && (flags & O_NONBLOCK)) && n > PIPE_BUF)
		n = PIPE_BUF;
	w = write(o->fd, o->pending.p, n);
	if (w < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (w < 0) {
		int num = errno;

		if (nobody_reads(o->fd, num))
			output_broken(o);
		else
			output_failed(o, num);
		return false;
	}
	buf_consume(&o->pending, (size_t)w);
	return true;
}

static int output_ready(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct output *o = data;

	(void)source;
	(void)fd;
	(void)events;
	(void)output_write(o);
	if (o->pending.len == 0)
		o->source = loop_source_free(o->source);
	output_more(o);
	pump_check_end(o->pump);
	return 0;
}

static void output_flush(struct output *o)
{
	int r;

	if (o->pending.len == 0 || o->source || o->broken)
		return;
	if (!o->direct) {
		r = loop_add_fd(o->pump->client->loop, &o->source, o->fd, EPOLLOUT, output_ready, o);
		if (r >= 0)
			return;
		/* Regular files do not poll: they are always ready. */
		o->direct = true;
	}
	while (o->pending.len && !o->broken)
		(void)output_write(o);
}

/* ---- us to guest ---- */

static void input_end(struct pump *p)
{
	p->in.ended = true;
	p->in.source = loop_source_free(p->in.source);
	buf_truncate(&p->in.pending, 0);
}

static void input_done_writing(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct pump *p = data;
	Skerry__Agent__V1__WriteResponse *m;

	p->in.call = 0;
	if (err) {
		/* The process closed its input, or ended: it is not an error that nobody reads what we have. */
		if (connection_lost(err) && !p->client->rpc)
			pump_fail(p, err->num, err);
		input_end(p);
		return;
	}
	m = message_unpack(&skerry__agent__v1__write_response__descriptor, payload, len);
	if (!m || m->count == 0 || m->count > p->in.pending.len)
		input_end(p);
	else
		buf_consume(&p->in.pending, m->count);
	message_free(m);
	input_more(p);
}

static void input_send(struct pump *p)
{
	Skerry__Agent__V1__WriteRequest m = SKERRY__AGENT__V1__WRITE_REQUEST__INIT;

	m.id = (char *)(uintptr_t)p->s->id;
	m.data.data = (uint8_t *)p->in.pending.p;
	m.data.len = p->in.pending.len;
	p->in.call = call(p, "Write", &m.base, input_done_writing, p);
	if (p->in.call < 0)
		p->in.call = 0;
}

static void input_close(struct pump *p)
{
	Skerry__Agent__V1__IdRequest m = SKERRY__AGENT__V1__ID_REQUEST__INIT;

	m.id = (char *)(uintptr_t)p->s->id;
	p->in.ended = true;
	(void)call(p, "CloseStdin", &m.base, forget_answer, NULL);
}

static void input_read(struct pump *p)
{
	ssize_t n = read(p->in.fd, buf_reserve(&p->in.pending, INPUT_MAX), INPUT_MAX);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* The source goes in any case: a pipe whose writer has gone reports so without end. */
	p->in.source = loop_source_free(p->in.source);
	if (n > 0) {
		buf_commit(&p->in.pending, (size_t)n);
		input_send(p);
	} else {
		p->in.eof = true;
		input_close(p);
	}
}

static int input_ready(struct loop_source *source, int fd, uint32_t events, void *data)
{
	(void)source;
	(void)fd;
	(void)events;
	input_read(data);
	return 0;
}

static void input_more(struct pump *p)
{
	if (p->in.fd < 0 || p->in.ended || p->in.call || p->in.source || p->done)
		return;
	if (p->in.pending.len) {
		input_send(p);
		return;
	}
	if (!p->in.direct) {
		if (loop_add_fd(p->client->loop, &p->in.source, p->in.fd, EPOLLIN, input_ready, p) >= 0)
			return;
		p->in.direct = true;
	}
	input_read(p);
}

/* ---- signals, the end ---- */

static void send_size(struct pump *p)
{
	Skerry__Agent__V1__ResizeRequest m = SKERRY__AGENT__V1__RESIZE_REQUEST__INIT;
	struct winsize w;

	if (ioctl(p->s->in_fd >= 0 ? p->s->in_fd : p->s->out_fd, TIOCGWINSZ, &w) < 0)
		return;
	m.id = (char *)(uintptr_t)p->s->id;
	m.rows = w.ws_row;
	m.cols = w.ws_col;
	(void)call(p, "Resize", &m.base, forget_answer, NULL);
}

static void end_by_signal(struct pump *p, int sig)
{
	struct error err = {};

	error_set_kind(&err, ERROR_FAILED, EINTR, "ended by signal %d", sig);
	pump_fail(p, EINTR, &err);
	error_done(&err);
}

static int got_signal(struct loop_source *source, const struct signalfd_siginfo *si, void *data)
{
	struct pump *p = data;
	int sig = (int)si->ssi_signo;

	(void)source;
	if (sig == SIGWINCH) {
		send_size(p);
	} else if (!p->s->signals) {
		end_by_signal(p, sig);
	} else {
		if (sig == SIGINT) {
			for (size_t i = INTERRUPTS_TO_END - 1; i > 0; i--)
				p->interrupts[i] = p->interrupts[i - 1];
			p->interrupts[0] = clock_monotonic_ns();
			if (p->interrupts[INTERRUPTS_TO_END - 1] &&
			    p->interrupts[0] - p->interrupts[INTERRUPTS_TO_END - 1] <= INTERRUPT_SPAN_NS) {
				end_by_signal(p, sig);
				return 0;
			}
		}
		send_signal(p, sig);
	}
	return 0;
}

static void got_wait(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct pump *p = data;
	Skerry__Agent__V1__WaitResponse *m;

	p->wait_call = 0;
	if (err) {
		pump_fail(p, err->num, err);
		return;
	}
	m = message_unpack(&skerry__agent__v1__wait_response__descriptor, payload, len);
	if (m) {
		p->waited = true;
		p->status = m->status & 0xff;
	} else {
		struct error bad = {};

		error_set(&bad, EBADMSG, "the guest sent a malformed answer");
		pump_fail(p, EBADMSG, &bad);
		error_done(&bad);
	}
	message_free(m);
	pump_check_end(p);
}

static int reader_gone(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct pump *p = data;

	(void)source;
	(void)fd;
	p->reader_gone = loop_source_free(p->reader_gone);
	if (events & (EPOLLERR | EPOLLHUP))
		output_broken(&p->out[0]);
	return 0;
}

static int pump_begin(struct pump *p)
{
	static const int passed_on[] = { SIGINT, SIGQUIT, SIGTERM, SIGHUP };
	size_t n = 0;
	int r = 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(passed_on); i++)
		/* With a terminal INT and QUIT are bytes; should somebody send them all the same, they act as TERM does. */
		if ((p->s->signals || p->s->terminal) && !signal_ignored(passed_on[i]))
			r = loop_add_signal(p->client->loop, &p->signals[n++], passed_on[i], got_signal, p);
	if (r >= 0 && p->s->terminal)
		r = loop_add_signal(p->client->loop, &p->signals[n++], SIGWINCH, got_signal, p);
	if (r < 0)
		return r;
	if (p->s->terminal)
		send_size(p);
	if (p->s->wait) {
		Skerry__Agent__V1__IdRequest m = SKERRY__AGENT__V1__ID_REQUEST__INIT;

		m.id = (char *)(uintptr_t)p->s->id;
		p->wait_call = call(p, "Wait", &m.base, got_wait, p);
	}
	for (size_t i = 0; i < ARRAY_SIZE(p->out); i++)
		output_more(&p->out[i]);
	input_more(p);
	return 0;
}

static void pump_end(struct pump *p)
{
	int calls[] = { p->out[0].call, p->out[1].call, p->in.call, p->wait_call };

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		if (calls[i] > 0 && p->client->rpc)
			rpc_cancel(p->client->rpc, calls[i]);
	for (size_t i = 0; i < ARRAY_SIZE(p->signals); i++)
		loop_source_free(p->signals[i]);
	for (size_t i = 0; i < ARRAY_SIZE(p->out); i++) {
		loop_source_free(p->out[i].source);
		buf_done(&p->out[i].pending);
	}
	loop_source_free(p->reader_gone);
	loop_source_free(p->in.source);
	buf_done(&p->in.pending);
}

int session_run(struct client *c, const struct session *s, int *ret_status, struct error *err)
{
	_cleanup_close_ int watched = -EBADF;
	struct pump p = { .client = c, .s = s };
	int r;

	p.out[0] = (struct output){ .pump = &p, .stream = STREAM_OUT, .fd = s->out_fd };
	p.out[1] = (struct output){ .pump = &p, .stream = STREAM_ERR, .fd = s->err_fd };
	p.in.fd = s->in_fd;
	if (s->end_on_broken && s->out_fd >= 0) {
		/* A number of its own: one descriptor cannot be in epoll twice. Best effort: a file has no reader that could go. */
		watched = fcntl(s->out_fd, F_DUPFD_CLOEXEC, 3);
		if (watched >= 0)
			(void)loop_add_fd(c->loop, &p.reader_gone, watched, EPOLLERR, reader_gone, &p);
	}
	r = pump_begin(&p);
	if (r < 0)
		error_set_errno(&p.error, r, "cannot wait for signals");
	while (r >= 0 && !p.done) {
		r = loop_step(c->loop, UINT64_MAX);
		if (r < 0)
			error_set_errno(&p.error, r, "the event loop failed");
		if (r >= 0 && !p.done && !c->rpc) {
			struct error gone = {};

			error_set(&gone, ECONNRESET, "the connection to the machine ended");
			pump_fail(&p, ECONNRESET, &gone);
			error_done(&gone);
		}
	}
	pump_end(&p);
	if (r >= 0)
		r = p.result;
	if (r < 0)
		return error_move(err, &p.error);
	if (ret_status)
		*ret_status = p.status;
	return 0;
}

void session_release(struct client *c, const char *id)
{
	Skerry__Agent__V1__IdRequest m = SKERRY__AGENT__V1__ID_REQUEST__INIT;

	m.id = (char *)(uintptr_t)id;
	if (c->rpc)
		(void)client_call(c, AGENT_SERVICE, "Release", &m.base, 2 * NS_PER_SEC, NULL, NULL);
}

char *session_new_id(const char *prefix)
{
	uint64_t random;

	/* Only a kernel without entropy at boot could block here; then the clock is unique enough. */
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		random = clock_realtime_ns() ^ (uint64_t)getpid() << 48;
	return xasprintf("%s-%016" PRIx64, prefix, random);
}
