#include "guest/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "guest/session_parts.h"

enum { ID_BYTES_MAX = 128 };
static const uint64_t tick_ns = NS_PER_SEC;
static const uint64_t hangup_grace_ns = 5 * NS_PER_SEC;

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

void session_stream_close(struct stream *o)
{
	o->source = loop_source_free(o->source);
	o->fd = safe_close(o->fd);
}

void session_close_input(struct session *s)
{
	s->in_source = loop_source_free(s->in_source);
	s->in = safe_close(s->in);
}

void session_free(struct session *s)
{
	struct session **at = &s->table->first;

	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	s->table->n--;
	for (int i = 0; i < 2; i++) {
		session_stream_close(&s->out[i]);
		session_queue_clear(&s->out[i].readers);
		buf_done(&s->out[i].kept);
	}
	session_close_input(s);
	session_queue_clear(&s->writers);
	session_queue_clear(&s->waiters);
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
			session_queue_clear(&s->out[i].readers);
		session_queue_clear(&s->writers);
		session_queue_clear(&s->waiters);
		s->dial_forgotten = true;
	}
}

struct session *session_find(struct sessions *t, const char *id, struct error *err)
{
	for (struct session *s = t->first; s; s = s->next)
		if (s->id && streq(s->id, id) && !s->dialling && !s->reserved)
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

int session_new(struct sessions *t, const char *id, struct session **ret, struct error *err)
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

void session_answer_waiters(struct session *s)
{
	Skerry__Agent__V1__WaitResponse m;

	if (!s->exited || !s->waiters.first || !drained(s))
		return;
	skerry__agent__v1__wait_response__init(&m);
	m.signaled = WIFSIGNALED(s->status);
	m.status = m.signaled ? 128 + WTERMSIG(s->status) : WEXITSTATUS(s->status);
	for (; s->waiters.first; session_queue_pop(&s->waiters))
		link_reply(s->table->link, s->waiters.first->stream_id, &m.base);
}

void session_tick_soon(struct session *s)
{
	if (s->exited && s->id && s->timer && !drained(s))
		(void)loop_set_deadline(s->timer, clock_monotonic_ns() + tick_ns);
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
			session_stream_close(o); /* a grandchild holds it, silently */
		if (s->exited && session_unread(o))
			o->abandoned = true;
		o->active = false;
		if (s->tee)
			session_keep_output(o);
		session_serve_readers(o);
	}
	session_answer_waiters(s);
	session_tick_soon(s);
	return 0;
}

/* A session that has a clock and no process yet. */
static int new_process(struct sessions *t, const char *id, struct session **ret, struct error *err)
{
	struct session *s;
	int r = session_new(t, id, &s, err);

	if (r < 0)
		return r;
	r = loop_add_timer(t->loop, &s->timer, UINT64_MAX, on_timer, s);
	if (r < 0) {
		session_free(s);
		return error_set_errno(err, -r, "cannot set a timer");
	}
	*ret = s;
	return 0;
}

static void connect_process(struct session *s, const struct launched *p, bool terminal)
{
	s->pid = p->pid;
	s->in = p->in;
	s->terminal = terminal;
	for (int i = 0; i < 2; i++) {
		s->out[i].fd = p->out[i];
		s->out[i].read_ns = clock_monotonic_ns();
		if (s->tee)
			session_watch_output(&s->out[i], true);
	}
}

int session_launch(struct sessions *t, const char *id, const struct launch *l, bool tee_console, pid_t *ret_pid,
		   struct error *err)
{
	struct launched p;
	struct session *s = NULL;
	int r = new_process(t, id, &s, err);

	if (r < 0)
		return r;
	r = launch(l, &p, err);
	if (r < 0) {
		session_free(s);
		return r;
	}
	s->tee = tee_console;
	connect_process(s, &p, l->terminal);
	*ret_pid = p.pid;
	return 0;
}

static struct session *find_reserved(struct sessions *t, const char *id)
{
	for (struct session *s = t->first; s; s = s->next)
		if (s->reserved && streq(s->id, id))
			return s;
	return NULL;
}

int session_reserve(struct sessions *t, const char *id, struct error *err)
{
	struct session *s = NULL;
	int r = new_process(t, id, &s, err);

	if (r >= 0)
		s->reserved = true;
	return r;
}

void session_unreserve(struct sessions *t, const char *id)
{
	struct session *s = find_reserved(t, id);

	if (s)
		session_free(s);
}

int session_adopt(struct sessions *t, const char *id, const struct launched *p, bool terminal, struct error *err)
{
	struct session *s = find_reserved(t, id);

	if (!s) {
		safe_close(p->in);
		safe_close(p->out[0]);
		safe_close(p->out[1]);
		return error_set(err, ENOENT, "no place is kept for process '%.*s'", ID_BYTES_MAX, id);
	}
	s->reserved = false;
	connect_process(s, p, terminal);
	return 0;
}

int session_kill(struct sessions *t, const char *id, int sig, struct error *err)
{
	struct session *s = session_find(t, id, err);

	if (!s)
		return -ENOENT;
	if (s->exited || kill(s->pid, sig) < 0)
		return error_set(err, s->exited ? ESRCH : errno, "process already finished");
	return 0;
}

bool sessions_have(const struct sessions *t, pid_t pid)
{
	for (const struct session *s = t->first; s; s = s->next)
		if (s->pid == pid && !s->exited)
			return true;
	return false;
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
				session_keep_output(&s->out[i]);
			s->out[i].abandoned = session_unread(&s->out[i]);
		}
		session_answer_waiters(s);
		session_tick_soon(s);
		return true;
	}
	return false;
}

int session_wait(struct sessions *t, const char *id, uint32_t stream_id, struct error *err)
{
	struct session *s = session_find(t, id, err);

	if (!s)
		return -ENOENT;
	if (!session_queue_add(&s->waiters, stream_id))
		return error_set(err, EMFILE, "too many waits");
	session_answer_waiters(s);
	return 0;
}

int session_resize(struct sessions *t, const char *id, uint16_t rows, uint16_t cols, struct error *err)
{
	struct session *s = session_find(t, id, err);
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
	struct session *s = session_find(t, id, err);
	bool group;

	if (!s)
		return -ENOENT;
	if (s->is_socket)
		return error_set(err, EINVAL, "'%s' is no process", id);
	if (s->exited)
		return error_set(err, ESRCH, "the process has ended");
	/* What a terminal sends goes to all that a terminal would send it to, and that nobody reads any more concerns all who write,
	 * as with a pipe; the rest is between the caller and the process. */
	group = sig == SIGINT || sig == SIGPIPE || sig == SIGQUIT || sig == SIGHUP || sig == SIGTSTP ||
		sig == SIGCONT || sig == SIGWINCH || sig == SIGKILL;
	if (kill(group ? -s->pid : s->pid, sig) < 0 && (errno != ESRCH || kill(s->pid, sig) < 0))
		return error_set_errno(err, errno, "cannot send signal %d", sig);
	return 0;
}

int session_release(struct sessions *t, const char *id, struct error *err)
{
	struct session *s = session_find(t, id, err);

	if (!s)
		return -ENOENT;
	for (int i = 0; i < 2; i++)
		for (; s->out[i].readers.first; session_queue_pop(&s->out[i].readers))
			link_error(t->link, s->out[i].readers.first->stream_id, ECANCELED, "released");
	for (; s->writers.first; session_queue_pop(&s->writers))
		link_error(t->link, s->writers.first->stream_id, ECANCELED, "released");
	for (; s->waiters.first; session_queue_pop(&s->waiters))
		link_error(t->link, s->waiters.first->stream_id, ECANCELED, "released");
	if (s->exited) {
		session_free(s);
		return 0;
	}
	free(TAKE_PTR(s->id));
	/* Its output stays open, unread, to its end: a last word must not kill it before its handler is done. */
	for (int i = 0; i < 2; i++) {
		session_watch_output(&s->out[i], false);
		buf_done(&s->out[i].kept);
	}
	session_close_input(s);
	(void)kill(-s->pid, SIGHUP);
	(void)kill(-s->pid, SIGCONT); /* a stopped one hears nothing else */
	return loop_set_deadline(s->timer, clock_monotonic_ns() + hangup_grace_ns);
}
