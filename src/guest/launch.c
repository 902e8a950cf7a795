#include "guest/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"

enum { STATUS_NOT_EXECUTABLE = 126, STATUS_NOT_FOUND = 127 };

struct ends {
	int in, out[2]; /* the agent's */
	int child[3];   /* the process's */
};

static void ends_done(struct ends *e)
{
	safe_close(e->in);
	for (int i = 0; i < 2; i++)
		safe_close(e->out[i]);
	for (int i = 0; i < 3; i++)
		safe_close(e->child[i]);
}

/* ---- In the child ---- */

static _noreturn_ void child_fail(int status, const char *what, int num)
{
	_cleanup_buf_ struct buf b = { 0 };

	buf_addf(&b, "skerry: %s: %s\n", what, strerror(num));
	(void)write_full(STDERR_FILENO, b.p, b.len);
	_exit(status);
}

static const char *env_get(const struct strv *env, const char *name)
{
	size_t n = strlen(name);

	for (size_t i = 0; i < env->n; i++)
		if (strncmp(env->items[i], name, n) == 0 && env->items[i][n] == '=')
			return env->items[i] + n + 1;
	return "";
}

/* execvpe(3) with the PATH of the new environment, and ENOENT only when nothing better is known. */
static int execute(char *const *argv, const struct strv *env)
{
	const char *path = env_get(env, "PATH");
	int num = ENOENT;

	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, env->items);
		return errno;
	}
	for (const char *p = path; *p && argv[0][0];) {
		size_t n = strcspn(p, ":");
		_cleanup_free_ char *full = xasprintf("%.*s/%s", (int)n, p, argv[0]);

		execve(full, argv, env->items);
		if (errno != ENOENT && errno != ENOTDIR && num == ENOENT)
			num = errno;
		p += n + (p[n] == ':');
	}
	return num;
}

static void become(const struct account *a)
{
	if (geteuid() != 0)
		return; /* a test's agent: it has nothing to give up */
	if (setgroups(a->n_groups, a->groups) < 0 || setgid(a->gid) < 0 || setuid(a->uid) < 0)
		child_fail(STATUS_NOT_EXECUTABLE, a->name, errno);
}

static void enter_directory(const struct launch *l)
{
	if (l->cwd[0]) {
		if (chdir(l->cwd) < 0)
			child_fail(STATUS_NOT_EXECUTABLE, l->cwd, errno);
	} else if (chdir(l->account->home) < 0 && chdir("/") < 0) {
		child_fail(STATUS_NOT_EXECUTABLE, "/", errno);
	}
}

static _noreturn_ void child_main(const struct launch *l, const struct ends *e)
{
	struct sigaction def = { .sa_handler = SIG_DFL };
	sigset_t none;
	int fds[3], num;

	setsid();
	if (l->terminal)
		(void)ioctl(e->child[0], TIOCSCTTY, 0);
	/* Away from 0..2 first: an end may be one of them. */
	for (int i = 0; i < 3; i++)
		fds[i] = fcntl(e->child[i], F_DUPFD_CLOEXEC, 3);
	for (int i = 0; i < 3; i++)
		if (fds[i] < 0 || dup2(fds[i], i) < 0)
			_exit(STATUS_NOT_EXECUTABLE);
	for (int sig = 1; sig < NSIG; sig++)
		if (sig != SIGKILL && sig != SIGSTOP)
			(void)sigaction(sig, &def, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	umask(022);
	if (!l->argv) {
		/* No exec closes them here, and the ends of other sessions must not be held open. */
		(void)syscall(SYS_close_range, 3U, ~0U, 0U);
		_exit(l->run(l->data));
	}
	become(l->account);
	enter_directory(l);
	num = execute(l->argv, l->env);
	child_fail(num == ENOENT || num == ENOTDIR ? STATUS_NOT_FOUND : STATUS_NOT_EXECUTABLE, l->argv[0], num);
}

/* ---- In the agent ---- */

static int make_pipe(int *ret_read, int *ret_write, bool read_is_ours)
{
	int p[2];

	if (pipe2(p, O_CLOEXEC) < 0)
		return -errno;
	*ret_read = p[0];
	*ret_write = p[1];
	return fcntl(p[read_is_ours ? 0 : 1], F_SETFL, O_NONBLOCK | (read_is_ours ? O_RDONLY : O_WRONLY)) < 0 ? -errno
													      : 0;
}

static int make_terminal(const struct launch *l, struct ends *e)
{
	struct winsize size = { .ws_row = l->rows ? l->rows : 24, .ws_col = l->cols ? l->cols : 80 };
	int unlock = 0;

	e->out[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	if (e->out[0] < 0 || ioctl(e->out[0], TIOCSPTLCK, &unlock) < 0)
		return -errno;
	/* By descriptor, not by name: right whatever is mounted on /dev/pts. */
	e->child[0] = ioctl(e->out[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (e->child[0] < 0)
		return -errno;
	(void)ioctl(e->child[0], TIOCSWINSZ, &size);
	if (geteuid() == 0 && fchown(e->child[0], l->account->uid, (gid_t)-1) < 0)
		return -errno;
	e->child[1] = fcntl(e->child[0], F_DUPFD_CLOEXEC, 3);
	e->child[2] = fcntl(e->child[0], F_DUPFD_CLOEXEC, 3);
	e->in = fcntl(e->out[0], F_DUPFD_CLOEXEC, 3);
	return e->child[1] < 0 || e->child[2] < 0 || e->in < 0 ? -errno : 0;
}

static int make_pipes(const struct launch *l, struct ends *e)
{
	int r;

	if (l->stdin_open) {
		r = make_pipe(&e->child[0], &e->in, false);
	} else {
		e->child[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
		r = e->child[0] < 0 ? -errno : 0;
	}
	for (int i = 0; i < 2 && r == 0; i++) {
		r = make_pipe(&e->out[i], &e->child[1 + i], true);
		/* Programs reopen /dev/stdout and /dev/stderr by name: the pipes must be theirs. */
		if (r == 0 && geteuid() == 0 && l->account &&
		    fchown(e->child[1 + i], l->account->uid, l->account->gid) < 0)
			r = -errno;
	}
	return r;
}

int launch(const struct launch *l, struct launched *ret, struct error *err)
{
	_cleanup_(ends_done) struct ends e = { .in = -EBADF,
					       .out = { -EBADF, -EBADF },
					       .child = { -EBADF, -EBADF, -EBADF } };
	int r = l->terminal ? make_terminal(l, &e) : make_pipes(l, &e);
	pid_t pid;

	if (r < 0)
		return error_set_errno(err, -r, l->terminal ? "cannot open a terminal" : "cannot open pipes");
	pid = fork();
	if (pid < 0)
		return error_set_errno(err, errno, "cannot start a process");
	if (pid == 0)
		child_main(l, &e);
	ret->pid = pid;
	ret->in = TAKE_FD(e.in);
	ret->out[0] = TAKE_FD(e.out[0]);
	ret->out[1] = TAKE_FD(e.out[1]);
	return 0;
}
