#include "guest/session.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/memory.h"

enum {
	ID_BYTES_MAX = 128,
	REQUESTS_MAX = 64, /* that wait on one stream, of one kind */
	READ_DEFAULT = 64 << 10,
	READ_STEP = 64 << 10,
	WRITE_KEEP = 64 << 10, /* of a write that cannot be done at once */
	KEPT_MAX = 256 << 10,  /* console sessions: output that nobody fetched yet */
};
static const uint64_t tick_ns = NS_PER_SEC;
static const uint64_t abandoned_after_ns = 10 * NS_PER_SEC;
static const uint64_t hangup_grace_ns = 5 * NS_PER_SEC;

struct request {
	uint32_t stream_id;
	uint32_t max;  /* read */
	uint8_t *data; /* write: owned */
	size_t len;
	struct request *next;
};

struct queue {
	struct request *first, **last; /* last NULL = empty from the start */
	unsigned n;
};

struct stream {
	struct session *session;
	int fd;                     /* owned; -EBADF = ended */
	struct loop_source *source; /* NULL while nobody ever waited */
	struct queue readers;
	struct buf kept; /* console sessions only */
	bool active;     /* bytes came since the last tick */
	bool abandoned;
	uint64_t read_ns; /* when the host read last, or the beginning */
};

struct session {
	struct sessions *table;
	char *id; /* owned; NULL once released */
	pid_t pid;
	bool exited;
	int status; /* of wait(2) */
	bool terminal;
	bool tee;
	bool is_socket;
	struct stream out[2];
	int in; /* owned; -EBADF = none or closed */
	struct loop_source *in_source;
	struct queue writers;
	bool close_when_written;
	struct queue waiters;
	struct loop_source *timer; /* ticks after the exit; SIGKILL after a release */

	uint16_t port; /* dialling */
	bool dialling, dialling_v4;
	uint32_t dial_stream_id;
	bool dial_forgotten;

	struct session *next;
};

struct sessions {
	struct loop *loop;
	struct link *link; /* borrowed */
	struct session *first;
	unsigned n;
	int console; /* owned; opened at the first use */
	struct buf scratch;
};

static int on_output(struct loop_source *src, int fd, uint32_t events, void *data);
static int dial_next(struct session *s);

/* ---- Queues ---- */

static struct request *queue_add(struct queue *q, uint32_t stream_id)
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

static void queue_pop(struct queue *q)
{
	struct request *r = q->first;

	q->first = r->next;
	q->n--;
	free(r->data);
	free(r);
}

static void queue_clear(struct queue *q)
{
	while (q->first)
		queue_pop(q);
}

/* ---- Lifetime ---- */

struct sessions *sessions_new(struct loop *l)
{
	struct sessions *t = xnew(struct sessions);

	t->loop = l;
	t->console = -EBADF;
	return t;
}

void sessions_set_link(struct sessions *t, struct link *k)
{
	t->link = k;
}

static void stream_close(struct stream *o)
{
	o->source = loop_source_free(o->source);
	o->fd = safe_close(o->fd);
}

static void close_input(struct session *s)
{
	s->in_source = loop_source_free(s->in_source);
	s->in = safe_close(s->in);
}

static void session_free(struct session *s)
{
	struct session **at = &s->table->first;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->table->n--;
	for (int i = 0; i < 2; i++) {
		stream_close(&s->out[i]);
		queue_clear(&s->out[i].readers);
		buf_done(&s->out[i].kept);
	}
	close_input(s);
	queue_clear(&s->writers);
	queue_clear(&s->waiters);
	loop_source_free(s->timer);
	free(s->id);
	free(s);
}

struct sessions *sessions_free(struct sessions *t)
{
	if (!t)
		return NULL;
	while (t->first) {
		if (!t->first->exited && t->first->pid > 0)
			(void)kill(-t->first->pid, SIGKILL);
		session_free(t->first);
	}
	safe_close(t->console);
	buf_done(&t->scratch);
	free(t);
	return NULL;
}

void sessions_forget_requests(struct sessions *t)
{
	for (struct session *s = t->first; s; s = s->next) {
		for (int i = 0; i < 2; i++)
			queue_clear(&s->out[i].readers);
		queue_clear(&s->writers);
		queue_clear(&s->waiters);
		s->dial_forgotten = true;
	}
}

static struct session *find(struct sessions *t, const char *id, struct error *err)
{
	for (struct session *s = t->first; s; s = s->next)
		if (s->id && streq(s->id, id) && !s->dialling)
			return s;
	error_set(err, ENOENT, "no process or connection '%.*s'", ID_BYTES_MAX, id);
	return NULL;
}

/* A host that died may have left some: the oldest one that has ended gives way. The console's session keeps its exit status. */
static void make_room(struct sessions *t)
{
	struct session *oldest = NULL;

	if (t->n < SESSIONS_MAX)
		return;
	for (struct session *s = t->first; s; s = s->next)
		if (s->exited && !s->is_socket && !s->tee && !s->waiters.first)
			oldest = s; /* new ones are put in front */
	if (oldest)
		session_free(oldest);
}

static int session_new(struct sessions *t, const char *id, struct session **ret, struct error *err)
{
	struct session *s;

	if (!id[0] || strlen(id) > ID_BYTES_MAX)
		return error_set(err, EINVAL, "an id has 1 to %d bytes", ID_BYTES_MAX);
	for (s = t->first; s; s = s->next)
		if (s->id && streq(s->id, id))
			return error_set(err, EEXIST, "there is a process or connection '%s' already", id);
	make_room(t);
	if (t->n >= SESSIONS_MAX)
		return error_set(err, EMFILE, "there are %u processes and connections already", t->n);
	s = xnew(struct session);
	s->table = t;
	s->id = xstrdup(id);
	s->in = -EBADF;
	for (int i = 0; i < 2; i++) {
		s->out[i].session = s;
		s->out[i].fd = -EBADF;
	}
	s->next = t->first;
	t->first = s;
	t->n++;
	*ret = s;
	return 0;
}

/* ---- The end of a process ---- */

static bool drained(const struct session *s)
{
	for (int i = 0; i < 2; i++)
		if ((s->out[i].fd >= 0 || s->out[i].kept.len > 0) && !s->out[i].abandoned)
			return false;
	return true;
}

static void answer_waiters(struct session *s)
{
	Skerry__Agent__V1__WaitResponse m;

	if (!s->exited || !s->waiters.first || !drained(s))
		return;
	skerry__agent__v1__wait_response__init(&m);
	m.signaled = WIFSIGNALED(s->status);
	m.status = m.signaled ? 128 + WTERMSIG(s->status) : WEXITSTATUS(s->status);
	for (; s->waiters.first; queue_pop(&s->waiters))
		link_reply(s->table->link, s->waiters.first->stream_id, &m.base);
}

static void tick_soon(struct session *s)
{
	if (s->exited && s->id && s->timer && !drained(s))
		(void)loop_set_deadline(s->timer, clock_monotonic_ns() + tick_ns);
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

static void watch_output(struct stream *o, bool wanted)
{
	if (o->fd < 0)
		return;
	if (o->source)
		(void)loop_set_events(o->source, wanted ? EPOLLIN : 0);
	else if (wanted && loop_add_fd(o->session->table->loop, &o->source, o->fd, EPOLLIN, on_output, o) < 0)
		stream_close(o);
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
	queue_pop(&o->readers);
	o->active = true;
	o->read_ns = clock_monotonic_ns();
}

/* Nobody reads it, and nobody did for a while. */
static bool unread(const struct stream *o)
{
	return !o->readers.first && clock_monotonic_ns() >= o->read_ns + abandoned_after_ns;
}

/* Console sessions: takes output without being asked, up to the bound; beyond it the oldest goes when the host does not read along. */
static void keep_output(struct stream *o)
{
	int r = 0;

	while (o->fd >= 0 && r == 0) {
		if (o->kept.len >= KEPT_MAX) {
			if (!unread(o)) {
				(void)loop_set_deadline(o->session->timer, o->read_ns + abandoned_after_ns);
				break;
			}
			buf_consume(&o->kept, KEPT_MAX / 2);
		}
		r = fetch(o, &o->kept, KEPT_MAX);
	}
	if (r == -ENODATA)
		stream_close(o);
}

static void serve_readers(struct stream *o)
{
	struct buf *scratch = &o->session->table->scratch;

	while (o->readers.first) {
		size_t max = o->readers.first->max;
		int r;

		if (o->session->tee && o->kept.len < max)
			keep_output(o);
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
			stream_close(o);
		if (scratch->len > 0)
			answer_reader(o, scratch->p, scratch->len, false);
		else if (r == -EAGAIN)
			break;
	}
	watch_output(o, o->readers.first || (o->session->tee && o->kept.len < KEPT_MAX));
	answer_waiters(o->session);
	tick_soon(o->session);
}

static int on_output(struct loop_source *src, int fd, uint32_t events, void *data)
{
	struct stream *o = data;

	(void)src;
	(void)fd;
	(void)events;
	if (o->session->tee)
		keep_output(o);
	serve_readers(o);
	return 0;
}

int session_read(struct sessions *t, const char *id, unsigned stream, uint32_t max, uint32_t stream_id,
		 struct error *err)
{
	struct session *s = find(t, id, err);
	struct request *r;
	struct stream *o;

	if (!s)
		return -ENOENT;
	if (stream < 1 || stream > 2)
		return error_set(err, EINVAL, "there is no stream %u", stream);
	o = &s->out[stream - 1];
	r = queue_add(&o->readers, stream_id);
	if (!r)
		return error_set(err, EMFILE, "too many reads of one stream");
	r->max = max == 0 ? READ_DEFAULT : max > SESSION_READ_MAX ? SESSION_READ_MAX : max;
	o->abandoned = false;
	serve_readers(o);
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
		close_input(s);
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
			close_input(s);
		} else {
			skerry__agent__v1__write_response__init(&m);
			m.count = (uint32_t)n;
			link_reply(s->table->link, q->stream_id, &m.base);
		}
		queue_pop(&s->writers);
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
		close_input(s);
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
	struct session *s = find(t, id, err);
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
			close_input(s);
			return error_set(err, EPIPE, "standard input is closed");
		}
		if (done >= 0) {
			skerry__agent__v1__write_response__init(&m);
			m.count = (uint32_t)done;
			link_reply(t->link, stream_id, &m.base);
			return 0;
		}
	}
	r = queue_add(&s->writers, stream_id);
	if (!r)
		return error_set(err, EMFILE, "too many writes to one stream");
	r->len = n < WRITE_KEEP ? n : WRITE_KEEP;
	r->data = xmemdup(p, r->len);
	serve_writers(s);
	return 0;
}

int session_close_stdin(struct sessions *t, const char *id, struct error *err)
{
	struct session *s = find(t, id, err);

	if (!s)
		return -ENOENT;
	if (s->writers.first)
		s->close_when_written = true;
	else
		finish_input(s);
	return 0;
}

/* ---- Processes ---- */

static int on_timer(struct loop_source *src, void *data)
{
	struct session *s = data;

	(void)src;
	if (!s->id) { /* released, and it did not heed the hang-up */
		if (!s->exited)
			(void)kill(-s->pid, SIGKILL);
		return 0;
	}
	for (int i = 0; i < 2; i++) {
		struct stream *o = &s->out[i];

		if (s->exited && o->readers.first && !o->active)
			stream_close(o); /* a grandchild holds it, silently */
		if (s->exited && unread(o))
			o->abandoned = true;
		o->active = false;
		if (s->tee)
			keep_output(o);
		serve_readers(o);
	}
	answer_waiters(s);
	tick_soon(s);
	return 0;
}

int session_launch(struct sessions *t, const char *id, const struct launch *l, bool tee_console, pid_t *ret_pid,
		   struct error *err)
{
	struct launched p;
	struct session *s;
	int r;

	r = session_new(t, id, &s, err);
	if (r < 0)
		return r;
	r = loop_add_timer(t->loop, &s->timer, UINT64_MAX, on_timer, s);
	if (r < 0) {
		session_free(s);
		return error_set_errno(err, -r, "cannot set a timer");
	}
	r = launch(l, &p, err);
	if (r < 0) {
		session_free(s);
		return r;
	}
	s->pid = p.pid;
	s->in = p.in;
	s->terminal = l->terminal;
	s->tee = tee_console;
	for (int i = 0; i < 2; i++) {
		s->out[i].fd = p.out[i];
		s->out[i].read_ns = clock_monotonic_ns();
		if (s->tee)
			watch_output(&s->out[i], true);
	}
	*ret_pid = p.pid;
	return 0;
}

bool sessions_reaped(struct sessions *t, pid_t pid, int wait_status)
{
	for (struct session *s = t->first; s; s = s->next) {
		if (s->pid != pid || s->exited)
			continue;
		s->exited = true;
		s->status = wait_status;
		if (!s->id) {
			session_free(s);
			return true;
		}
		for (int i = 0; i < 2; i++) {
			s->out[i].active = true;
			if (s->tee)
				keep_output(&s->out[i]);
			s->out[i].abandoned = unread(&s->out[i]);
		}
		answer_waiters(s);
		tick_soon(s);
		return true;
	}
	return false;
}

int session_wait(struct sessions *t, const char *id, uint32_t stream_id, struct error *err)
{
	struct session *s = find(t, id, err);

	if (!s)
		return -ENOENT;
	if (!queue_add(&s->waiters, stream_id))
		return error_set(err, EMFILE, "too many waits");
	answer_waiters(s);
	return 0;
}

int session_resize(struct sessions *t, const char *id, uint16_t rows, uint16_t cols, struct error *err)
{
	struct session *s = find(t, id, err);
	struct winsize size = { .ws_row = rows, .ws_col = cols };

	if (!s)
		return -ENOENT;
	if (!s->terminal)
		return error_set(err, EINVAL, "'%s' has no terminal", id);
	if (s->in >= 0 && ioctl(s->in, TIOCSWINSZ, &size) < 0)
		return error_set_errno(err, errno, "cannot resize the terminal");
	return 0;
}

int session_signal(struct sessions *t, const char *id, int sig, struct error *err)
{
	struct session *s = find(t, id, err);
	bool group;

	if (!s)
		return -ENOENT;
	if (s->is_socket)
		return error_set(err, EINVAL, "'%s' is no process", id);
	if (s->exited)
		return error_set(err, ESRCH, "the process has ended");
	/* What a terminal sends goes to all that a terminal would send it to; the rest is between the caller and the process. */
	group = sig == SIGINT || sig == SIGQUIT || sig == SIGHUP || sig == SIGTSTP || sig == SIGCONT ||
		sig == SIGWINCH || sig == SIGKILL;
	if (kill(group ? -s->pid : s->pid, sig) < 0 && (errno != ESRCH || kill(s->pid, sig) < 0))
		return error_set_errno(err, errno, "cannot send signal %d", sig);
	return 0;
}

int session_release(struct sessions *t, const char *id, struct error *err)
{
	struct session *s = find(t, id, err);

	if (!s)
		return -ENOENT;
	for (int i = 0; i < 2; i++)
		for (; s->out[i].readers.first; queue_pop(&s->out[i].readers))
			link_error(t->link, s->out[i].readers.first->stream_id, ECANCELED, "released");
	for (; s->writers.first; queue_pop(&s->writers))
		link_error(t->link, s->writers.first->stream_id, ECANCELED, "released");
	for (; s->waiters.first; queue_pop(&s->waiters))
		link_error(t->link, s->waiters.first->stream_id, ECANCELED, "released");
	if (s->exited) {
		session_free(s);
		return 0;
	}
	free(TAKE_PTR(s->id));
	/* Its output stays open, unread, to its end: a last word must not kill it before its handler is done. */
	for (int i = 0; i < 2; i++) {
		watch_output(&s->out[i], false);
		buf_done(&s->out[i].kept);
	}
	close_input(s);
	(void)kill(-s->pid, SIGHUP);
	(void)kill(-s->pid, SIGCONT); /* a stopped one hears nothing else */
	return loop_set_deadline(s->timer, clock_monotonic_ns() + hangup_grace_ns);
}

/* ---- Connections ---- */

static void dial_answer(struct session *s, int num)
{
	struct link *k = s->table->link;

	if (num != 0) {
		if (!s->dial_forgotten)
			link_error(k, s->dial_stream_id, num, "cannot connect to port %u in the guest: %s", s->port,
				   strerror(num));
		session_free(s);
		return;
	}
	s->dialling = false;
	s->in_source = loop_source_free(s->in_source);
	s->out[0].fd = fcntl(s->in, F_DUPFD_CLOEXEC, 3);
	if (!s->dial_forgotten)
		link_reply(k, s->dial_stream_id, NULL);
}

static int on_dialled(struct loop_source *src, int fd, uint32_t events, void *data)
{
	struct session *s = data;
	int num = 0;
	socklen_t n = sizeof(num);

	(void)src;
	(void)events;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &num, &n) < 0)
		num = errno;
	if (num == 0) {
		dial_answer(s, 0);
		return 0;
	}
	close_input(s);
	num = s->dialling_v4 ? num : -dial_next(s);
	if (num != 0)
		dial_answer(s, num);
	return 0;
}

/* 0 when an attempt is on its way (or has succeeded), else what the last one failed with. */
static int dial_next(struct session *s)
{
	struct sockaddr_in6 a6 = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in a4 = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int num = ECONNREFUSED;

	a6.sin6_port = a4.sin_port = htons(s->port);
	for (;;) {
		bool v4 = s->dialling; /* the second attempt */
		int r;

		s->in = socket(v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		r = s->in < 0 ? -1
		    : v4      ? connect(s->in, (struct sockaddr *)&a4, sizeof(a4))
			      : connect(s->in, (struct sockaddr *)&a6, sizeof(a6));
		s->dialling = true;
		s->dialling_v4 = v4;
		if ((r == 0 || (s->in >= 0 && errno == EINPROGRESS)) &&
		    loop_add_fd(s->table->loop, &s->in_source, s->in, EPOLLOUT, on_dialled, s) == 0)
			return 0;
		num = r < 0 ? errno : ENOMEM;
		s->in = safe_close(s->in);
		if (v4)
			return -num;
	}
}

int session_dial(struct sessions *t, const char *id, uint16_t port, uint32_t stream_id, struct error *err)
{
	struct session *s;
	int r;

	r = session_new(t, id, &s, err);
	if (r < 0)
		return r;
	s->is_socket = true;
	s->exited = true;
	s->port = port;
	s->dial_stream_id = stream_id;
	r = dial_next(s);
	if (r < 0) {
		session_free(s);
		return error_set_errno(err, -r, "cannot connect to port %u in the guest", port);
	}
	return 0;
}
