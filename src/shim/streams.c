#include "shim/streams.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/spawn.h"
#include "machine/client.h"
#include "wire/message.h"

/* FIFOs are opened for reading and writing: then opening waits for nobody, a client that goes away ends nothing (another may attach), and the
 * only end of standard input is CloseIO. */

enum { TRICKLE_SPANS = 4 }; /* so many times silent_ns is the guest's share of what is left at a process's end */
enum { READ_MAX = 256 << 10, FIFO_SIZE = 256 << 10, LOGGER_OUT = 3, LOGGER_ERR = 4, LOGGER_READY = 5 };
#define STUCK_NS        (10 * NS_PER_SEC)
#define LOGGER_READY_NS (10 * NS_PER_SEC)

struct output {
	struct streams *io;
	unsigned stream; /* 1, 2 */
	int fd;          /* owned; -EBADF: thrown away */
	bool regular;    /* a file: always writable */
	struct loop_source *source;
	int call; /* a Read that is on its way, 0 = none */
	struct buf pending;
	bool ended; /* the guest has no more */
	bool done;
	uint64_t moved_ns; /* when something was written last */
	uint64_t asked_ns; /* since when the guest is waited for, while there is a call */
	uint64_t guest_ns; /* how long it was, after the process's end */
};

struct streams {
	struct loop *loop;
	struct rpc *agent; /* borrowed; NULL before and after */
	char *session;
	struct output out[2];
	char *in_path; /* owned, NULL = no input */
	int in;        /* -EBADF until streams_open_input() */
	struct loop_source *in_source;
	struct buf in_pending;
	int in_call;
	bool in_closing, in_closed;
	int logger_pidfd;
	struct loop_source *logger_source, *stuck_timer;
	bool process_gone;
	uint64_t silent_ns;
	void (*drained)(void *data);
	void *data;
};

static void pull(struct output *o);

static void check_drained(struct streams *io)
{
	void (*fn)(void *data) = io->drained;

	if (!fn || !io->out[0].done || !io->out[1].done)
		return;
	io->drained = NULL;
	fn(io->data);
}

static void finish(struct output *o)
{
	if (o->done)
		return;
	o->done = true;
	o->source = loop_source_free(o->source);
	o->fd = safe_close(o->fd);
	buf_done(&o->pending);
	o->pending = (struct buf){};
	check_drained(o->io);
}

/* Writes what is taken at once, then asks for more or waits. */
static void push(struct output *o)
{
	while (o->pending.len) {
		ssize_t n = o->fd < 0 ? (ssize_t)o->pending.len : write(o->fd, o->pending.p, o->pending.len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			(void)loop_set_events(o->source, EPOLLOUT);
			return;
		}
		if (n < 0) {
			/* A full disk, a logging program that died: the process goes on, its output is lost, and that is said. */
			log_error("standard %s: %s: what comes is lost", o->stream == 1 ? "output" : "error",
				  strerror(errno));
			o->source = loop_source_free(o->source);
			o->fd = safe_close(o->fd);
			continue;
		}
		o->moved_ns = clock_monotonic_ns();
		buf_consume(&o->pending, (size_t)n);
	}
	if (o->source)
		(void)loop_set_events(o->source, 0);
	if (o->ended)
		finish(o);
	else
		pull(o);
}

static int on_writable(struct loop_source *s, int fd, uint32_t events, void *data)
{
	(void)s;
	(void)fd;
	(void)events;
	push(data);
	return 0;
}

static void on_read(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct output *o = data;
	_cleanup_message_ Skerry__Agent__V1__ReadResponse *r = NULL;

	o->call = 0;
	if (o->io->process_gone)
		o->guest_ns += clock_monotonic_ns() - o->asked_ns;
	if (!err)
		r = message_unpack(&skerry__agent__v1__read_response__descriptor, payload, len);
	if (r && r->data.len)
		buf_add(&o->pending, r->data.data, r->data.len);
	o->ended = !r || r->eof;
	push(o);
}

static void pull(struct output *o)
{
	Skerry__Agent__V1__ReadRequest q = SKERRY__AGENT__V1__READ_REQUEST__INIT;
	_cleanup_buf_ struct buf packed = {};
	int r;

	if (o->call || o->done || o->ended)
		return;
	q.id = o->io->session;
	q.stream = o->stream;
	q.max = READ_MAX;
	message_pack(&packed, &q.base);
	r = o->io->agent
		    ? rpc_call(o->io->agent, AGENT_SERVICE, "Read", packed.p, packed.len, UINT64_MAX, on_read, o, NULL)
		    : -ENOTCONN;
	if (r < 0) {
		o->ended = true;
		finish(o);
		return;
	}
	o->call = r;
	o->asked_ns = clock_monotonic_ns();
}

/* ---- Input ---- */

static void feed(struct streams *io);

static void end_input(struct streams *io)
{
	Skerry__Agent__V1__IdRequest q = SKERRY__AGENT__V1__ID_REQUEST__INIT;
	_cleanup_buf_ struct buf packed = {};

	if (io->in_closed)
		return;
	io->in_closed = true;
	io->in_source = loop_source_free(io->in_source);
	io->in = safe_close(io->in);
	q.id = io->session;
	message_pack(&packed, &q.base);
	if (io->agent)
		(void)rpc_call(io->agent, AGENT_SERVICE, "CloseStdin", packed.p, packed.len, UINT64_MAX, NULL, NULL,
			       NULL);
}

static void on_written(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct streams *io = data;
	_cleanup_message_ Skerry__Agent__V1__WriteResponse *r = NULL;

	io->in_call = 0;
	if (!err)
		r = message_unpack(&skerry__agent__v1__write_response__descriptor, payload, len);
	if (!r || r->count > io->in_pending.len) {
		/* Nobody reads it any more. */
		end_input(io);
		return;
	}
	buf_consume(&io->in_pending, r->count);
	feed(io);
}

static void write_guest(struct streams *io)
{
	Skerry__Agent__V1__WriteRequest q = SKERRY__AGENT__V1__WRITE_REQUEST__INIT;
	_cleanup_buf_ struct buf packed = {};
	int r;

	q.id = io->session;
	q.data = (ProtobufCBinaryData){ io->in_pending.len, (uint8_t *)io->in_pending.p };
	message_pack(&packed, &q.base);
	r = io->agent ? rpc_call(io->agent, AGENT_SERVICE, "Write", packed.p, packed.len, UINT64_MAX, on_written, io,
				 NULL)
		      : -ENOTCONN;
	if (r < 0)
		end_input(io);
	else
		io->in_call = r;
}

static void feed(struct streams *io)
{
	ssize_t n = -1;

	/* Without a source it has not begun to flow. */
	if (io->in_call || io->in_closed || io->in < 0 || !io->in_source)
		return;
	if (!io->in_pending.len) {
		n = read(io->in, buf_reserve(&io->in_pending, READ_MAX), READ_MAX);
		if (n > 0)
			buf_commit(&io->in_pending, (size_t)n);
	}
	if (io->in_pending.len) {
		(void)loop_set_events(io->in_source, 0);
		write_guest(io);
		return;
	}
	/* Empty. A file has an end of its own, a FIFO none. */
	if (io->in_closing || n == 0 || (errno != EAGAIN && errno != EINTR))
		end_input(io);
	else
		(void)loop_set_events(io->in_source, EPOLLIN);
}

static int on_readable(struct loop_source *s, int fd, uint32_t events, void *data)
{
	(void)s;
	(void)fd;
	(void)events;
	feed(data);
	return 0;
}

bool streams_has_input(const struct streams *io)
{
	return io->in_path;
}

void streams_close_input(struct streams *io)
{
	io->in_closing = true;
	feed(io);
}

/* ---- Opening ---- */

static int open_fifo(const char *path, struct error *err)
{
	int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		safe_close(fd);
		return error_set_errno(err, errno, "stream %s", path);
	}
	if (S_ISFIFO(st.st_mode))
		(void)fcntl(fd, F_SETPIPE_SZ, FIFO_SIZE);
	return fd;
}

static int open_file(const char *path, struct error *err)
{
	_cleanup_free_ char *dir = xstrdup(path);
	char *slash = strrchr(dir, '/');
	int fd;

	if (slash && slash != dir) {
		*slash = '\0';
		(void)mkdir_parents_at(AT_FDCWD, dir, 0755);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
	return fd < 0 ? error_set_errno(err, errno, "log file %s", path) : fd;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* Percent-decoding of a query's part (RFC 3986 section 2.1; '+' is a space, as Go's url.Values have it). */
static char *decode(const char *s, size_t n)
{
	struct buf b = {};

	for (size_t i = 0; i < n; i++) {
		int hi = s[i] == '%' && i + 2 < n ? hex_digit(s[i + 1]) : -1;
		int lo = hi >= 0 ? hex_digit(s[i + 2]) : -1;

		if (lo >= 0) {
			buf_addc(&b, (char)(hi << 4 | lo));
			i += 2;
		} else {
			buf_addc(&b, s[i] == '+' ? ' ' : s[i]);
		}
	}
	return buf_take(&b);
}

/* "/bin/logger?key=value&…": the program with "key value …" as its arguments. */
static void logger_argv(const char *uri, struct strv *argv)
{
	const char *query = strchrnul(uri, '?');

	strv_take(argv, decode(uri, (size_t)(query - uri)));
	while (*query) {
		const char *part = query + 1, *end = part + strcspn(part, "&"),
			   *eq = memchr(part, '=', (size_t)(end - part));

		if (end != part)
			strv_take(argv, decode(part, (size_t)((eq ? eq : end) - part)));
		if (eq && eq + 1 != end)
			strv_take(argv, decode(eq + 1, (size_t)(end - eq - 1)));
		query = end;
	}
}

static int on_logger_exit(struct loop_source *s, int pidfd, void *data)
{
	struct streams *io = data;

	(void)s;
	(void)pidfd_reap(pidfd, NULL);
	io->logger_source = loop_source_free(io->logger_source);
	io->logger_pidfd = safe_close(io->logger_pidfd);
	return 0;
}

static int make_pipe(int *ret_read, int *ret_write)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	(void)fcntl(p[1], F_SETPIPE_SZ, FIFO_SIZE);
	*ret_read = p[0];
	*ret_write = p[1];
	return 0;
}

/* Standard output on its descriptor 3, standard error on 4; it closes 5 when it is ready (containerd, runtime/v2/logging). */
static int start_logger(struct streams *io, const struct streams_request *q, const char *uri, struct error *err)
{
	_cleanup_close_ int out = -EBADF, errfd = -EBADF, ready = -EBADF, wait = -EBADF;
	_cleanup_strv_ struct strv argv = {}, env = {};
	struct spawn_fd fds[3];
	struct spawn s = SPAWN_INIT;
	char byte;
	int r;

	logger_argv(uri, &argv);
	if (argv.items[0][0] != '/')
		return error_set_kind(err, ERROR_DATA, EINVAL, "logging program '%s': its path is not absolute",
				      argv.items[0]);
	r = make_pipe(&out, &io->out[0].fd);
	if (r >= 0)
		r = make_pipe(&errfd, &io->out[1].fd);
	if (r >= 0)
		r = make_pipe(&wait, &ready);
	if (r < 0)
		return error_set_errno(err, r, "logging program: cannot make pipes");
	for (int i = 0; i < 2; i++)
		(void)fcntl(io->out[i].fd, F_SETFL, O_NONBLOCK);
	strv_addf(&env, "CONTAINER_ID=%s", q->id);
	strv_addf(&env, "CONTAINER_NAMESPACE=%s", q->namespace);
	for (char **e = environ; *e; e++)
		if (after_prefix(*e, "PATH="))
			strv_add(&env, *e);
	fds[0] = (struct spawn_fd){ out, LOGGER_OUT };
	fds[1] = (struct spawn_fd){ errfd, LOGGER_ERR };
	fds[2] = (struct spawn_fd){ ready, LOGGER_READY };
	s.argv = (const char *const *)argv.items;
	s.env = (const char *const *)env.items;
	s.fds = fds;
	s.n_fds = ARRAY_SIZE(fds);
	r = spawn_start(&s, NULL, &io->logger_pidfd, err);
	if (r < 0)
		return error_prefix(err, "logging program");
	ready = safe_close(ready);
	/* Its word is awaited before the process may write: a matter of milliseconds. */
	if (poll(&(struct pollfd){ .fd = wait, .events = POLLIN }, 1,
		 clock_poll_timeout(clock_monotonic_ns() + LOGGER_READY_NS)) <= 0)
		return error_set_kind(err, ERROR_TIMEOUT, ETIMEDOUT, "logging program %s is not ready in time",
				      argv.items[0]);
	(void)!read(wait, &byte, 1);
	r = loop_add_child(io->loop, &io->logger_source, io->logger_pidfd, on_logger_exit, io);
	return r < 0 ? error_set_errno(err, r, "logging program") : 0;
}

static int open_output(const char *uri, struct output *o, struct error *err)
{
	const char *path;

	if (!*uri)
		return 0;
	path = after_prefix(uri, "file://");
	if (path) {
		o->fd = open_file(path, err);
		o->regular = true;
	} else {
		path = after_prefix(uri, "fifo://");
		o->fd = open_fifo(path ? path : uri, err);
	}
	return o->fd < 0 ? o->fd : 0;
}

int streams_open(struct loop *l, const struct streams_request *q, struct streams **ret, struct error *err)
{
	struct streams *io = xnew(struct streams);
	const char *logger = after_prefix(q->out, "binary://");
	int r = 0;

	*io = (struct streams){ .loop = l,
				.session = xstrdup(q->session),
				.in = -EBADF,
				.logger_pidfd = -EBADF,
				.silent_ns = q->silent_ns };
	for (unsigned i = 0; i < 2; i++)
		io->out[i] = (struct output){ .io = io, .stream = i + 1, .fd = -EBADF };
	if (logger) {
		r = start_logger(io, q, logger, err);
	} else {
		r = open_output(q->out, &io->out[0], err);
		if (r >= 0 && !q->terminal)
			r = open_output(q->err, &io->out[1], err);
	}
	if (r >= 0 && *q->in) {
		const char *path = after_prefix(q->in, "fifo://");

		io->in_path = xstrdup(path ? path : q->in);
		if (access(io->in_path, R_OK) < 0)
			r = error_set_errno(err, errno, "stream %s", io->in_path);
	}
	for (unsigned i = 0; r >= 0 && i < 2; i++)
		if (io->out[i].fd >= 0 && !io->out[i].regular) {
			r = loop_add_fd(l, &io->out[i].source, io->out[i].fd, 0, on_writable, &io->out[i]);
			if (r < 0)
				error_set_errno(err, r, "stream %s", q->out);
		}
	/* One terminal, one stream. */
	if (q->terminal) {
		io->out[1].ended = io->out[1].done = true;
		io->out[1].fd = safe_close(io->out[1].fd);
		io->out[1].source = loop_source_free(io->out[1].source);
	}
	if (r < 0) {
		streams_free(io);
		return r;
	}
	*ret = io;
	return 0;
}

static void start_input(struct streams *io)
{
	if (!io->agent || io->in < 0 || io->in_source || io->in_closed)
		return;
	if (loop_add_fd(io->loop, &io->in_source, io->in, EPOLLIN, on_readable, io) < 0)
		end_input(io);
	else if (io->in_closing)
		feed(io);
}

int streams_open_input(struct streams *io, struct error *err)
{
	if (!io->in_path || io->in >= 0 || io->in_closed)
		return 0;
	io->in = open_fifo(io->in_path, err);
	if (io->in < 0)
		return io->in;
	start_input(io);
	return 0;
}

void streams_start(struct streams *io, struct rpc *agent, void (*drained)(void *data), void *data)
{
	io->agent = agent;
	io->drained = drained;
	io->data = data;
	start_input(io);
	pull(&io->out[0]);
	pull(&io->out[1]);
}

/* The guest has nothing more to say: what it has said is still written. */
static void end_guest(struct output *o)
{
	if (o->call)
		rpc_cancel(o->io->agent, o->call);
	o->call = 0;
	o->ended = true;
	if (!o->pending.len)
		finish(o);
}

static int on_stuck(struct loop_source *s, void *data)
{
	struct streams *io = data;
	uint64_t now = clock_monotonic_ns(), next = UINT64_MAX;

	for (unsigned i = 0; i < 2; i++) {
		struct output *o = &io->out[i];

		if (o->done)
			continue;
		if (o->pending.len && now - o->moved_ns >= STUCK_NS) {
			log_warning("standard %s: nobody takes it, %zu bytes are lost", i ? "error" : "output",
				    o->pending.len);
			finish(o);
			continue;
		}
		/* A guest ends the streams of what has ended within seconds. One that does not must not hold up the end itself. */
		if (!o->pending.len && o->call && now - o->moved_ns >= io->silent_ns) {
			log_warning("standard %s: the guest does not say where it ends", i ? "error" : "output");
			end_guest(o);
			continue;
		}
		/* Nor may one that sends a byte now and then. Time that those here take is theirs. */
		if (!o->ended && o->guest_ns + (o->call ? now - o->asked_ns : 0) >= TRICKLE_SPANS * io->silent_ns) {
			log_warning("standard %s: the guest does not come to its end, the rest is lost",
				    i ? "error" : "output");
			end_guest(o);
			if (o->done)
				continue;
		}
		next = now + NS_PER_SEC;
	}
	return loop_set_deadline(s, next);
}

void streams_process_gone(struct streams *io)
{
	uint64_t now = clock_monotonic_ns();

	if (io->process_gone)
		return;
	io->process_gone = true;
	io->in_closed = true;
	io->in_source = loop_source_free(io->in_source);
	io->in = safe_close(io->in);
	for (unsigned i = 0; i < 2; i++)
		io->out[i].moved_ns = io->out[i].asked_ns = now;
	if (!io->out[0].done || !io->out[1].done)
		(void)loop_add_timer(io->loop, &io->stuck_timer, now + NS_PER_SEC, on_stuck, io);
}

void streams_guest_gone(struct streams *io)
{
	struct rpc *agent = io->agent;

	io->agent = NULL;
	streams_process_gone(io);
	for (unsigned i = 0; i < 2; i++) {
		struct output *o = &io->out[i];

		if (agent && o->call)
			rpc_cancel(agent, o->call);
		o->call = 0;
		o->ended = true;
		if (!o->done && !o->pending.len)
			finish(o);
	}
}

struct streams *streams_free(struct streams *io)
{
	if (!io)
		return NULL;
	io->drained = NULL;
	for (unsigned i = 0; i < 2; i++) {
		struct output *o = &io->out[i];

		if (io->agent && o->call)
			rpc_cancel(io->agent, o->call);
		loop_source_free(o->source);
		safe_close(o->fd);
		buf_done(&o->pending);
	}
	if (io->agent && io->in_call)
		rpc_cancel(io->agent, io->in_call);
	loop_source_free(io->in_source);
	safe_close(io->in);
	buf_done(&io->in_pending);
	loop_source_free(io->stuck_timer);
	loop_source_free(io->logger_source);
	/* A logging program ends by itself when its input does. */
	safe_close(io->logger_pidfd);
	free(io->in_path);
	free(io->session);
	free(io);
	return NULL;
}
