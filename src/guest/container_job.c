#include "guest/container_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fdpass.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/spawn.h"

enum { LOG_LIMIT = 64 << 10, STATUS_UNKNOWN = 255 << 8 /* of wait(2) */ };

void job_free(struct job *j)
{
	for (struct job **p = &j->table->jobs; *p; p = &(*p)->next)
		if (*p == j) {
			*p = j->next;
			break;
		}
	if (j->reserved)
		session_unreserve(j->table->sessions, j->session);
	for (unsigned i = 0; i < 4; i++) {
		static const char *const suffixes[] = { "log", "pid", "sock", "json" };
		_cleanup_free_ char *path = xasprintf("%s.%s", j->stem, suffixes[i]);

		(void)unlink(path);
	}
	safe_close(j->in);
	safe_close(j->out[0]);
	safe_close(j->out[1]);
	safe_close(j->console);
	free(j->container);
	free(j->session);
	free(j->stem);
	free(j);
}

struct job *job_new(struct containers *t, const char *container, const char *session, uint32_t stream_id,
		    void (*done)(struct job *j, int status))
{
	struct job *j = xnew(struct job);

	*j = (struct job){ .table = t,
			   .container = xstrdup(container),
			   .session = xstrdup(session),
			   .number = ++t->last_job,
			   .stream_id = stream_id,
			   .in = -EBADF,
			   .out = { -EBADF, -EBADF },
			   .console = -EBADF,
			   .done = done,
			   .next = t->jobs };
	j->stem = xasprintf(CONTAINER_DIRECTORY "/%s/job-%u", container, j->number);
	t->jobs = j;
	return j;
}

char *job_file(const struct job *j, const char *suffix)
{
	return xasprintf("%s.%s", j->stem, suffix);
}

/* A file of the job's that crun reads. */
int job_write(const struct job *j, const char *suffix, const void *p, size_t n)
{
	_cleanup_free_ char *dir_path = xasprintf(CONTAINER_DIRECTORY "/%s", j->container), *path = job_file(j, suffix);
	_cleanup_close_ int dir = open(dir_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return dir < 0 ? -errno : file_write_at(dir, strrchr(path, '/') + 1, p, n, 0600, 0);
}

/* The last line that crun wrote about what went wrong: "2026-…: error …", or the text alone. Owned by the caller. */
static char *last_words(const struct job *j)
{
	_cleanup_free_ char *path = job_file(j, "log");
	_cleanup_buf_ struct buf text = { 0 };
	char *line;

	if (file_read_at(AT_FDCWD, path, LOG_LIMIT, &text) < 0 || !text.p)
		return NULL;
	while (text.len && (text.p[text.len - 1] == '\n' || text.p[text.len - 1] == '\r'))
		buf_truncate(&text, text.len - 1);
	if (!text.len)
		return NULL;
	line = strrchr(text.p, '\n');
	line = line ? line + 1 : text.p;
	/* The time is the log's own affair. */
	if (line[0] >= '0' && line[0] <= '9' && strstr(line, "Z: "))
		line = strstr(line, "Z: ") + 3;
	return xstrdup(line);
}

void job_answer(struct job *j, const ProtobufCMessage *m)
{
	if (!j->forgotten)
		link_reply(j->table->link, j->stream_id, m);
}

void job_answer_error(struct job *j, int num, const char *what)
{
	_cleanup_free_ char *words = last_words(j);

	if (!j->forgotten)
		link_error(j->table->link, j->stream_id, num, "%s", words ? words : what);
}

int job_reserve(struct job *j, struct error *err)
{
	int r = session_reserve(j->table->sessions, j->session, err);

	j->reserved = r >= 0;
	return r;
}

/* Starts crun with @args (NULL-terminated) after its own options; its streams as @stdio, -1 = /dev/null. */
int job_run(struct job *j, const char *const *args, const int stdio[3], struct error *err)
{
	static const char *const env[] = { "PATH=/usr/bin:/bin:/usr/sbin:/sbin", "HOME=/", NULL };
	_cleanup_free_ char *log = job_file(j, "log"), *log_option = xasprintf("--log=file:%s", log);
	_cleanup_strv_ struct strv argv = { 0 };
	struct spawn s = SPAWN_INIT;
	int r;

	strv_add(&argv, j->table->crun);
	strv_add(&argv, "--cgroup-manager=cgroupfs");
	strv_add(&argv, log_option);
	for (; *args; args++)
		strv_add(&argv, *args);
	s.argv = (const char *const *)argv.items;
	s.env = env;
	for (int i = 0; i < 3; i++)
		s.stdio[i] = stdio ? stdio[i] : -1;
	s.cwd = "/";
	r = spawn_start(&s, &j->pid, NULL, err);
	return r < 0 ? r : 0;
}

/* The process that crun left running, from its pid file. */
static int left_running(struct job *j, pid_t *ret)
{
	_cleanup_free_ char *path = job_file(j, "pid");
	_cleanup_buf_ struct buf text = { 0 };
	uint64_t pid;
	int r = file_read_at(AT_FDCWD, path, 64, &text);

	if (r < 0 || !text.p)
		return r < 0 ? r : -ENODATA;
	text.p[strcspn(text.p, "\n")] = '\0';
	r = parse_u64(text.p, 2, INT32_MAX, &pid);
	if (r >= 0)
		*ret = (pid_t)pid;
	return r;
}

/* The terminal's other end, which crun has sent by now. */
static int take_terminal(struct job *j)
{
	_cleanup_close_ int conn = accept4(j->console, NULL, NULL, SOCK_CLOEXEC);
	struct winsize size = { .ws_row = j->rows, .ws_col = j->cols };
	char name[256];
	size_t n = 0;
	int fd = -EBADF;
	ssize_t got;

	if (conn < 0)
		return -errno;
	got = fdpass_recv(conn, name, sizeof(name), &fd, 1, &n);
	if (got < 0 || n != 1)
		return got < 0 ? (int)got : -EPROTO;
	if (fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0) {
		safe_close(fd);
		return -errno;
	}
	if (j->rows && j->cols)
		(void)ioctl(fd, TIOCSWINSZ, &size);
	j->in = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	j->out[0] = fd;
	return j->in < 0 ? -errno : 0;
}

/* How it ended, when it has. */
static bool has_ended(const struct job *j, pid_t pid, int *ret_status)
{
	const struct containers *t = j->table;

	for (unsigned i = 0; i < t->n_ended; i++)
		if (t->ended[i].pid == pid && t->ended[i].job >= j->number) {
			*ret_status = t->ended[i].status;
			return true;
		}
	/* More ended than are remembered. */
	*ret_status = STATUS_UNKNOWN;
	return kill(pid, 0) < 0 && errno == ESRCH;
}

int job_adopt(struct job *j, pid_t *ret_pid, struct error *err)
{
	struct containers *t = j->table;
	struct launched p;
	int r = left_running(j, ret_pid), status;
	bool known = r >= 0;

	if (r >= 0 && j->console >= 0)
		r = take_terminal(j);
	if (r < 0) {
		/* Nobody would ever hear of it. */
		if (known && !has_ended(j, *ret_pid, &status))
			(void)kill(*ret_pid, SIGKILL);
		return error_set_errno(err, -r, "the process cannot be taken over");
	}
	p = (struct launched){ .pid = *ret_pid, .in = j->in, .out = { j->out[0], j->out[1] } };
	j->in = j->out[0] = j->out[1] = -EBADF;
	r = session_adopt(t->sessions, j->session, &p, j->console >= 0, err);
	if (r < 0)
		return r;
	j->reserved = false;
	if (has_ended(j, *ret_pid, &status))
		(void)sessions_reaped(t->sessions, *ret_pid, status);
	return 0;
}

static int make_pipe(int *ret_read, int *ret_write, int *ours)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	*ret_read = p[0];
	*ret_write = p[1];
	return fcntl(*ours, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

static int listen_console(struct job *j)
{
	_cleanup_free_ char *name = xasprintf("%s.sock", strrchr(j->stem, '/') + 1);
	_cleanup_free_ char *path = xasprintf(CONTAINER_DIRECTORY "/%s", j->container);
	_cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return -errno;
	j->console = unix_listen_at(dir, name, 1);
	return j->console < 0 ? j->console : 0;
}

/* What crun is given as its three streams, which the container's process inherits; ours stay in @j. */
int job_make_streams(struct job *j, bool terminal, bool open_stdin, int stdio[3])
{
	int r = 0;

	stdio[0] = stdio[1] = stdio[2] = -EBADF;
	if (terminal)
		return listen_console(j);
	if (open_stdin)
		r = make_pipe(&stdio[0], &j->in, &j->in);
	if (r >= 0)
		r = make_pipe(&j->out[0], &stdio[1], &j->out[0]);
	if (r >= 0)
		r = make_pipe(&j->out[1], &stdio[2], &j->out[1]);
	return r;
}

void job_close_streams(int stdio[3])
{
	for (int i = 0; i < 3; i++)
		safe_close(stdio[i]);
}
