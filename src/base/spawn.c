/* How a program is started. Everything that can allocate or look things up happens in the parent; the child runs only
 * async-signal-safe system calls between clone and exec, in the order of enum step, and writes the step that failed with its errno
 * into a pipe that exec closes. So "no such program" is an error of spawn_start() and not an exit status. */
#include "base/spawn.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x00001000
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC (1U << 2)
#endif

extern char **environ;

enum step {
	STEP_SESSION,
	STEP_DESCRIPTORS,
	STEP_TERMINAL,
	STEP_GROUPS,
	STEP_GID,
	STEP_UID,
	STEP_CAPABILITY,
	STEP_DEATH_SIGNAL,
	STEP_CWD,
	STEP_SIGNALS,
	STEP_EXEC,
	STEP_MAX,
};

static const char *const step_texts[STEP_MAX] = {
	[STEP_SESSION] = "cannot begin a session",
	[STEP_DESCRIPTORS] = "cannot pass descriptors",
	[STEP_TERMINAL] = "cannot take the terminal",
	[STEP_GROUPS] = "cannot set supplementary groups",
	[STEP_GID] = "cannot change group",
	[STEP_UID] = "cannot change user",
	[STEP_DEATH_SIGNAL] = "cannot tie to parent",
	[STEP_CWD] = "cannot change directory",
	[STEP_SIGNALS] = "cannot reset signals",
	[STEP_EXEC] = "cannot execute",
	[STEP_CAPABILITY] = "cannot keep a capability",
};

struct failure {
	enum step step;
	int num;
};

/* What the child needs, made by the parent. */
struct child {
	const struct spawn *s;
	const char *path;
	char *const *argv, *const *env;
	struct spawn_fd *map; /* owned: stdio and the passed descriptors */
	size_t n_map;
	int first_free; /* above every target */
	int error_fd;
	int gate_read, gate_write; /* with on_pid: a byte comes when the pid is on record */
	pid_t parent;
	sigset_t mask;
};

/* execve(2) takes pointers to what it does not change. */
static char *const *unconst(const char *const *v)
{
	char *const *r;

	memcpy(&r, &v, sizeof(r));
	return r;
}

static int child_signals(const struct child *c)
{
	struct sigaction sa;

	/* All signals are blocked here, so no handler of the parent's runs in the meantime. */
	for (int sig = 1; sig < _NSIG; sig++) {
		if (sigaction(sig, NULL, &sa) < 0)
			continue;
		if (sa.sa_handler == SIG_DFL)
			continue;
		if (sa.sa_handler == SIG_IGN && (c->s->mask_signals || (c->s->keep_hangup && sig == SIGHUP)))
			continue;
		memset(&sa, 0, sizeof(sa));
		sa.sa_handler = SIG_DFL;
		(void)sigaction(sig, &sa, NULL);
	}
	return sigprocmask(SIG_SETMASK, &c->mask, NULL) < 0 ? -errno : 0;
}

static int child_descriptors(struct child *c)
{
	int error_fd;

	/* First everything above all targets, so that no source is overwritten before it was used. */
	error_fd = fcntl(c->error_fd, F_DUPFD_CLOEXEC, c->first_free);
	if (error_fd < 0)
		return -errno;
	c->error_fd = error_fd;
	for (size_t i = 0; i < c->n_map; i++) {
		c->map[i].from = fcntl(c->map[i].from, F_DUPFD_CLOEXEC, c->first_free);
		if (c->map[i].from < 0)
			return -errno;
	}
	for (int fd = 0; fd < c->first_free; fd++) {
		size_t i = 0;

		while (i < c->n_map && c->map[i].to != fd)
			i++;
		if (i == c->n_map)
			(void)close(fd);
		else if (dup2(c->map[i].from, fd) < 0)
			return -errno;
	}
	return syscall(SYS_close_range, c->first_free, UINT_MAX, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

/* What another user's program has from its first instruction on (capset(2), PR_CAP_AMBIENT). */
static int child_keep_capability(int number)
{
	const struct {
		uint32_t version; /* _LINUX_CAPABILITY_VERSION_3 */
		int pid;
	} header = { 0x20080522, 0 };
	struct {
		uint32_t effective, permitted, inheritable;
	} sets[2] = {};

	sets[number / 32].effective = sets[number / 32].permitted = sets[number / 32].inheritable = UINT32_C(1)
												    << (number % 32);
	if (syscall(SYS_capset, &header, sets) < 0)
		return -errno;
	return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, (unsigned long)number, 0UL, 0UL) < 0 ? -errno : 0;
}

/* Raw system calls: the C library's wrappers synchronize threads that do not exist in this process. */
static int child_privileges(const struct spawn *s, enum step *step)
{
	*step = STEP_GROUPS;
	if (syscall(SYS_setgroups, s->n_groups, s->groups) < 0)
		return -errno;
	*step = STEP_GID;
	if (syscall(SYS_setresgid, s->gid, s->gid, s->gid) < 0)
		return -errno;
	*step = STEP_UID;
	if (s->capability && prctl(PR_SET_KEEPCAPS, 1UL, 0UL, 0UL, 0UL) < 0)
		return -errno;
	if (syscall(SYS_setresuid, s->uid, s->uid, s->uid) < 0)
		return -errno;
	*step = STEP_CAPABILITY;
	return s->capability ? child_keep_capability(s->capability) : 0;
}

static int child_steps(struct child *c, enum step *step)
{
	const struct spawn *s = c->s;
	int r;

	*step = STEP_SESSION;
	if (s->new_session && setsid() < 0)
		return -errno;
	/* What the host mounts meanwhile is seen, what is mounted here is not the host's. */
	if (s->own_mounts && unshare(CLONE_NEWNS) == 0)
		(void)mount("none", "/", NULL, MS_REC | MS_SLAVE, NULL);
	*step = STEP_DESCRIPTORS;
	r = child_descriptors(c);
	if (r < 0)
		return r;
	*step = STEP_TERMINAL;
	if (s->foreground_tty && ioctl(0, TIOCSCTTY, 0) < 0)
		return -errno;
	if (s->drop_privileges) {
		r = child_privileges(s, step);
		if (r < 0)
			return r;
	}
	/* After the change of user, which clears it. The parent may have died before. */
	*step = STEP_DEATH_SIGNAL;
	if (s->death_signal) {
		if (prctl(PR_SET_PDEATHSIG, s->death_signal) < 0)
			return -errno;
		if (getppid() != c->parent)
			return -ESRCH;
	}
	*step = STEP_CWD;
	if (s->cwd && chdir(s->cwd) < 0)
		return -errno;
	*step = STEP_SIGNALS;
	r = child_signals(c);
	if (r < 0)
		return r;
	*step = STEP_EXEC;
	(void)execve(c->path, c->argv, c->env);
	return -errno;
}

/* Waits until the parent has recorded our pid; when it dies before, or refuses, there is nothing to run. */
static void child_gate(const struct child *c)
{
	char go;

	if (c->gate_read < 0)
		return;
	(void)close(c->gate_write);
	if (read_full(c->gate_read, &go, 1) < 0)
		_exit(127);
}

static _noreturn_ void child_main(struct child *c)
{
	struct failure f = {};
	sigset_t all;

	child_gate(c);
	f.num = -child_steps(c, &f.step);
	/* SIGPIPE must not come before the exit. */
	sigfillset(&all);
	(void)sigprocmask(SIG_BLOCK, &all, NULL);
	(void)write_full(c->error_fd, &f, sizeof(f));
	_exit(127);
}

/* fork(2) that gives a pidfd. clone3 is missing under some container runtimes' filters. */
static pid_t fork_pidfd(int *ret_pidfd)
{
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls;
	} args = { .flags = CLONE_PIDFD, .pidfd = (uint64_t)(uintptr_t)ret_pidfd, .exit_signal = SIGCHLD };
	pid_t pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));

	if (pid >= 0)
		return pid;
	if (errno != ENOSYS && errno != EPERM)
		return -errno;
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid > 0) {
		int fd = (int)syscall(SYS_pidfd_open, pid, 0);

		if (fd < 0) {
			int num = errno;

			(void)kill(pid, SIGKILL);
			(void)waitpid(pid, NULL, 0);
			return -num;
		}
		*ret_pidfd = fd;
	}
	return pid;
}

static void map_add(struct child *c, int from, int to)
{
	assert(to >= 0);
	c->map[c->n_map++] = (struct spawn_fd){ .from = from, .to = to };
	if (to >= c->first_free)
		c->first_free = to + 1;
}

/* Reaps a child that has ended or is about to. */
static int wait_child(int pidfd, int *ret_status)
{
	int r = pidfd_wait_exit(pidfd, UINT64_MAX);

	return r < 0 ? r : pidfd_reap(pidfd, ret_status);
}

static int report(const struct spawn *s, const struct failure *f, struct error *err)
{
	const char *step = f->step < STEP_MAX ? step_texts[f->step] : "failed";

	if (f->step == STEP_EXEC && f->num == ENOENT)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "%s: not installed", s->argv[0]);
	if (f->step == STEP_CWD)
		return error_set_errno(err, f->num, "%s: %s to '%s'", s->argv[0], step, s->cwd);
	return error_set_errno(err, f->num, "%s: %s", s->argv[0], step);
}

static int start(struct child *c, int error_read, int *error_write, pid_t *ret_pid, int *ret_pidfd, struct error *err)
{
	_cleanup_close_ int pidfd = -EBADF;
	struct failure f = {};
	sigset_t all, mask;
	pid_t pid;
	int r;

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &mask);
	if (c->s->mask_signals)
		c->mask = mask;
	else
		sigemptyset(&c->mask);
	if (c->s->patient) {
		sigaddset(&c->mask, SIGHUP);
		sigaddset(&c->mask, SIGINT);
		sigaddset(&c->mask, SIGTERM);
	}
	pid = fork_pidfd(&pidfd);
	if (pid == 0)
		child_main(c);
	(void)sigprocmask(SIG_SETMASK, &mask, NULL);
	if (pid < 0)
		return error_set_errno(err, pid, "%s: cannot start a process", c->s->argv[0]);
	*error_write = safe_close(*error_write);
	if (c->s->on_pid) {
		r = c->s->on_pid(pid, c->s->on_pid_data);
		if (r >= 0)
			r = write_full(c->gate_write, "g", 1);
		if (r < 0) {
			c->gate_write = safe_close(c->gate_write);
			(void)wait_child(pidfd, NULL);
			return error_set_errno(err, r, "%s: cannot record its start", c->s->argv[0]);
		}
	}
	r = read_full(error_read, &f, sizeof(f));
	if (r == 0) {
		(void)wait_child(pidfd, NULL);
		return report(c->s, &f, err);
	}
	if (ret_pid)
		*ret_pid = pid;
	if (ret_pidfd)
		*ret_pidfd = TAKE_FD(pidfd);
	return 0;
}

int spawn_start(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct error *err)
{
	_cleanup_close_ int null_fd = -EBADF, error_read = -EBADF, error_write = -EBADF, gate_read = -EBADF;
	_cleanup_free_ struct spawn_fd *map = xnew_n(struct spawn_fd, s->n_fds + 3);
	_cleanup_free_ char *path = NULL;
	struct child c = {
		.s = s,
		.argv = unconst(s->argv),
		.env = s->env ? unconst(s->env) : environ,
		.map = map,
		.gate_read = -EBADF,
		.gate_write = -EBADF,
		.parent = getpid(),
	};
	int pipe_fds[2], r;

	path = program_find(s->argv[0]);
	if (!path)
		return report(s, &(struct failure){ STEP_EXEC, ENOENT }, err);
	c.path = path;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (null_fd < 0)
		return error_set_errno(err, errno, "cannot open '/dev/null'");
	for (int i = 0; i < 3; i++)
		map_add(&c, s->stdio[i] < 0 ? null_fd : s->stdio[i], i);
	for (size_t i = 0; i < s->n_fds; i++)
		map_add(&c, s->fds[i].from, s->fds[i].to);
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "%s: cannot make a pipe", s->argv[0]);
	error_read = pipe_fds[0];
	c.error_fd = error_write = pipe_fds[1];
	if (s->on_pid) {
		if (pipe2(pipe_fds, O_CLOEXEC) < 0)
			return error_set_errno(err, errno, "%s: cannot make a pipe", s->argv[0]);
		c.gate_read = gate_read = pipe_fds[0];
		c.gate_write = pipe_fds[1];
	}
	r = start(&c, error_read, &error_write, ret_pid, ret_pidfd, err);
	safe_close(c.gate_write);
	return r;
}

static char *executable(const char *dir, size_t dir_len, const char *name)
{
	_cleanup_free_ char *path = xasprintf("%.*s/%s", (int)dir_len, dir, name);
	struct stat st;

	if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0 || stat(path, &st) < 0 || !S_ISREG(st.st_mode))
		return NULL;
	return TAKE_PTR(path);
}

char *program_find(const char *name)
{
	static const char also[] = "/usr/sbin:/sbin:/usr/local/sbin";
	const char *path = getenv("PATH");
	const char *const lists[] = { path ? path : "/usr/local/bin:/usr/bin:/bin", also };

	if (!*name)
		return NULL;
	if (strchr(name, '/'))
		return xstrdup(name);
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const char *dir = lists[i];

		while (*dir) {
			size_t n = strcspn(dir, ":");
			/* An empty or relative part would mean whatever the current directory is. */
			char *found = *dir == '/' ? executable(dir, n, name) : NULL;

			if (found)
				return found;
			dir += n;
			dir += *dir == ':';
		}
	}
	return NULL;
}
