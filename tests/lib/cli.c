#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORDS_MAX = 64, OUTPUT_MAX = 4 << 20, DEFAULT_TIMEOUT_S = 300, KILLED_S = 120 };

static char home[128];

/* The digits that a text begins with. */
static unsigned long number(const char *s)
{
	return strtoul(s, NULL, 10); /* lint: this library uses no room */
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void cli_done(struct cli *r)
{
	free(r->out);
	free(r->err);
	r->out = r->err = NULL;
}

/* Calls @fn for every process whose environment has our SKERRY_HOME. */
static unsigned each_process(void (*fn)(int pid, const char *name, void *data), void *data)
{
	static char environment[256 << 10];
	char want[160];
	unsigned n = 0;
	struct dirent *de;
	DIR *d;

	if (!home[0])
		return 0;
	snprintf(want, sizeof(want), "SKERRY_HOME=%s", home);
	d = opendir("/proc");
	while (d && (de = readdir(d))) {
		char path[300], name[64] = "";
		int pid = (int)number(de->d_name), fd;
		ssize_t len;

		if (pid <= 0 || pid == getpid())
			continue;
		snprintf(path, sizeof(path), "/proc/%d/environ", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		len = read(fd, environment, sizeof(environment) - 1);
		close(fd);
		if (len <= 0)
			continue;
		environment[len] = '\0';
		for (char *p = environment; p < environment + len; p += strlen(p) + 1) {
			if (strcmp(p, want) != 0)
				continue;
			snprintf(path, sizeof(path), "/proc/%d/comm", pid);
			fd = open(path, O_RDONLY | O_CLOEXEC);
			if (fd >= 0) {
				len = read(fd, name, sizeof(name) - 1);
				if (len > 0)
					name[len - 1] = '\0';
				close(fd);
			}
			n++;
			if (fn)
				fn(pid, name, data);
			break;
		}
	}
	if (d)
		closedir(d);
	return n;
}

struct listing {
	char *p;
	size_t n, used;
};

static void list_one(int pid, const char *name, void *data)
{
	struct listing *l = data;
	int n = snprintf(l->p + l->used, l->n - l->used, "%d %s\n", pid, name);

	if (n > 0 && l->used + (size_t)n < l->n)
		l->used += (size_t)n;
}

unsigned cli_processes(char *names, size_t n)
{
	struct listing l = { names, n, 0 };

	if (names && n)
		names[0] = '\0';
	return each_process(names ? list_one : NULL, &l);
}

/* Processes, told by their end. */
struct seen {
	struct pollfd *p;
	int *pids;
	nfds_t n;
};

static void see_one(int pid, const char *name, void *data)
{
	struct seen *s = data;
	struct pollfd p = { .events = POLLIN };

	(void)name;
	for (nfds_t i = 0; i < s->n; i++)
		if (s->pids[i] == pid)
			return;
	p.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (p.fd < 0)
		return;
	if (poll(&p, 1, 0) > 0) {
		close(p.fd);
		return;
	}
	s->p = realloc(s->p, (s->n + 1) * sizeof(*s->p));
	s->pids = realloc(s->pids, (s->n + 1) * sizeof(*s->pids));
	ASSERT(s->p && s->pids);
	s->p[s->n] = p;
	s->pids[s->n++] = pid;
}

static size_t read_of(int pid, const char *name, char *text, size_t n)
{
	char path[64];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	len = fd < 0 ? -1 : read(fd, text, n - 1);
	text[len > 0 ? len : 0] = '\0';
	if (fd >= 0)
		close(fd);
	return len > 0 ? (size_t)len : 0;
}

/* Without memory, and no thread of the kernel (PF_KTHREAD among its flags): its end has begun. */
static bool is_ending(int pid)
{
	unsigned long flags;
	char text[1024];
	const char *p;

	if (!read_of(pid, "statm", text, sizeof(text)) || strncmp(text, "0 ", 2) != 0 ||
	    !read_of(pid, "stat", text, sizeof(text)) || !(p = strrchr(text, ')')))
		return false;
	/* State, parent, group, session, terminal and its group are before them. */
	for (int i = 0; i < 7 && p; i++)
		p = strchr(p + 1, ' ');
	flags = p ? number(p + 1) : 0;
	return p && !(flags & 0x200000);
}

/* The memory, and with it the environment, is the first that a process gives back, before files and locks: whose it was cannot be told any more. */
static void see_ending(struct seen *s)
{
	struct dirent *de;
	DIR *d = opendir("/proc");

	while (d && (de = readdir(d))) {
		int pid = (int)number(de->d_name);

		if (pid > 0 && is_ending(pid))
			see_one(pid, NULL, s);
	}
	if (d)
		closedir(d);
}

/* Those that have ended need not be waited for. */
static void forget_ended(struct seen *s)
{
	nfds_t kept = 0;

	for (nfds_t i = 0; i < s->n; i++) {
		if (s->p[i].revents) {
			close(s->p[i].fd);
			continue;
		}
		s->p[kept] = s->p[i];
		s->pids[kept++] = s->pids[i];
	}
	s->n = kept;
}

bool cli_processes_gone(unsigned timeout_s)
{
	uint64_t deadline = now_ns() + timeout_s * UINT64_C(1000000000);
	struct seen s = { 0 };
	bool gone = false;

	/* Other people's children, who may start more: the end of each is told, but not that there are none. */
	while (!gone && now_ns() <= deadline) {
		unsigned running = each_process(see_one, &s);

		if (!running)
			see_ending(&s);
		gone = !running && !s.n;
		if (!gone && poll(s.p, s.n, 20) > 0)
			forget_ended(&s);
	}
	for (nfds_t i = 0; i < s.n; i++)
		close(s.p[i].fd);
	free(s.p);
	free(s.pids);
	return gone;
}

bool cli_endings_over(unsigned timeout_s)
{
	uint64_t deadline = now_ns() + timeout_s * UINT64_C(1000000000), now;
	struct seen s = { 0 };
	bool over;

	see_ending(&s);
	while (s.n && (now = now_ns()) < deadline)
		if (poll(s.p, s.n, (int)((deadline - now) / 1000000 + 1)) > 0)
			forget_ended(&s);
	over = !s.n;
	for (nfds_t i = 0; i < s.n; i++)
		close(s.p[i].fd);
	free(s.p);
	free(s.pids);
	return over;
}

static void kill_one(int pid, const char *name, void *data)
{
	(void)name;
	(void)data;
	kill(pid, SIGKILL);
}

static void end_everything(void)
{
	/* A monitor that is killed leaves its engine, so twice. */
	for (int i = 0; i < 100 && each_process(kill_one, NULL); i++) {
		struct timespec pause = { .tv_nsec = 20000000 };

		nanosleep(&pause, NULL); /* lint: nothing announces this */
	}
}

static void link_store(const char *store, const char *part)
{
	char from[300], to[300];

	snprintf(from, sizeof(from), "%s/%s", store, part);
	snprintf(to, sizeof(to), "%s/%s", home, part);
	if (symlink(from, to) < 0)
		test_fail(__FILE__, __LINE__, "symlink %s: %s", to, strerror(errno));
}

/* The images are the test's own to change: names and records are copied or replaced whole by whoever writes them, so hard links do, and the
 * sealed disks are shared. */
static void copy_images(const char *store)
{
	char from[300], to[300], lock[320];
	const char *const locks[] = { "lock", "blobs.lock" };

	snprintf(from, sizeof(from), "%s/images", store);
	snprintf(to, sizeof(to), "%s/images", home);
	for (int linked = 1; linked >= 0; linked--) {
		const char *argv[] = { "cp", linked ? "-alx" : "-ax", "--", from, to, NULL };
		struct cli r = cli_argv(argv, NULL, 120);
		int status = r.status;

		cli_done(&r);
		if (status == 0)
			break;
		/* Another file system: a real copy, then, with its holes. */
		if (!linked)
			test_fail(__FILE__, __LINE__, "cannot copy %s", from);
		r = cli_argv((const char *const[]){ "rm", "-rf", "--", to, NULL }, NULL, 120);
		cli_done(&r);
	}
	/* A lock is its file. */
	for (size_t i = 0; i < sizeof(locks) / sizeof(locks[0]); i++) {
		snprintf(lock, sizeof(lock), "%s/%s", to, locks[i]);
		(void)unlink(lock);
	}
}

const char *cli_home(bool needs_store)
{
	const char *store = getenv("SKERRY_TEST_STORE");

	if (home[0])
		return home;
	if (needs_store && (!store || !*store))
		test_skip("SKERRY_TEST_STORE names no store with images and kernels");
	snprintf(home, sizeof(home), "%s/home", test_tmpdir());
	if (mkdir(home, 0700) < 0)
		test_fail(__FILE__, __LINE__, "mkdir %s: %s", home, strerror(errno));
	if (store && *store) {
		copy_images(store);
		link_store(store, "kernels");
	}
	setenv("SKERRY_HOME", home, 1);
	atexit(end_everything);
	return home;
}

const char *cli_skerry(void)
{
	const char *p = getenv("SKERRY_TEST_BIN");

	if (!p || !*p)
		test_fail(__FILE__, __LINE__, "SKERRY_TEST_BIN is not set");
	return p;
}

void cli_setenv(const char *assignment)
{
	const char *eq = strchr(assignment, '=');
	char name[128];

	if (!eq || (size_t)(eq - assignment) >= sizeof(name))
		test_fail(__FILE__, __LINE__, "not K=V: %s", assignment);
	memcpy(name, assignment, (size_t)(eq - assignment));
	name[eq - assignment] = '\0';
	if (eq[1])
		setenv(name, eq + 1, 1);
	else
		unsetenv(name);
}

static int status_of(int wait_status)
{
	return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

struct stream {
	int fd;
	char *p;
	size_t len;
};

static bool take(struct stream *s)
{
	ssize_t n = read(s->fd, s->p + s->len, OUTPUT_MAX - s->len - 1);

	if (n > 0) {
		s->len += (size_t)n;
		return true;
	}
	close(s->fd);
	s->fd = -1;
	return false;
}

static _Noreturn void child(const char *const *argv, int in, int out, int err)
{
	char *words[WORDS_MAX + 1];
	size_t n = 0;

	dup2(in, 0);
	dup2(out, 1);
	dup2(err, 2);
	syscall(SYS_close_range, 3, ~0u, 0);
	for (; argv[n] && n < WORDS_MAX; n++)
		words[n] = strdup(argv[n]);
	words[n] = NULL;
	execvp(words[0], words);
	_exit(127);
}

struct cli cli_argv(const char *const *argv, const char *input, unsigned timeout_s)
{
	uint64_t begun = now_ns(), deadline = begun + timeout_s * UINT64_C(1000000000);
	struct stream out = { .p = calloc(1, OUTPUT_MAX) }, err = { .p = calloc(1, OUTPUT_MAX) };
	struct cli r = { .status = -1 };
	int o[2], e[2], in = -1, wait_status, pidfd;
	bool ended = false;
	pid_t pid;

	in = (int)syscall(SYS_memfd_create, "stdin", 0);
	if (!out.p || !err.p || pipe2(o, O_CLOEXEC) < 0 || pipe2(e, O_CLOEXEC) < 0 || in < 0)
		test_fail(__FILE__, __LINE__, "pipe: %s", strerror(errno));
	if (input && (write(in, input, strlen(input)) < 0 || lseek(in, 0, SEEK_SET) < 0))
		test_fail(__FILE__, __LINE__, "input: %s", strerror(errno));
	pid = fork();
	if (pid == 0)
		child(argv, in, o[1], e[1]);
	close(in);
	close(o[1]);
	close(e[1]);
	out.fd = o[0];
	err.fd = e[0];
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* A process left behind may hold the pipes: the end of the command counts, then what is in them. */
	while (!ended) {
		struct pollfd p[3] = { { out.fd, POLLIN, 0 }, { err.fd, POLLIN, 0 }, { pidfd, POLLIN, 0 } };
		uint64_t now = now_ns();

		if (now >= deadline) {
			kill(pid, SIGKILL);
			break;
		}
		if (poll(p, 3, (int)((deadline - now) / 1000000 + 1)) <= 0)
			continue;
		if (p[0].revents)
			take(&out);
		if (p[1].revents)
			take(&err);
		ended = p[2].revents && !p[0].revents && !p[1].revents;
	}
	waitpid(pid, &wait_status, 0);
	if (ended)
		r.status = status_of(wait_status);
	if (out.fd >= 0)
		close(out.fd);
	if (err.fd >= 0)
		close(err.fd);
	close(pidfd);
	r.out = out.p;
	r.err = err.p;
	r.wall_ns = now_ns() - begun;
	return r;
}

struct cli cli(const char *first, ...)
{
	const char *argv[WORDS_MAX + 1] = { cli_skerry(), first };
	const char *limit = getenv("CLI_TIMEOUT_S"), *word;
	size_t n = 2;
	va_list ap;

	va_start(ap, first);
	while (first && n < WORDS_MAX && (word = va_arg(ap, const char *)))
		argv[n++] = word;
	va_end(ap);
	return cli_argv(argv, NULL, limit ? (unsigned)number(limit) : DEFAULT_TIMEOUT_S);
}

int cli_spawn(const char *const *argv)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	pid_t pid = fork();

	if (pid == 0) {
		/* A daemon does not outlive the test that started it, however that ends. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child(argv, null, null, null);
	}
	close(null);
	return pid;
}

int cli_wait(int pid, unsigned timeout_s)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0), status;
	struct pollfd p = { .fd = pidfd, .events = POLLIN };
	int r = poll(&p, 1, (int)timeout_s * 1000);

	if (r <= 0)
		kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(pidfd);
	return r <= 0 ? -1 : status_of(status);
}

int cli_entries(const char *directory, char *names, size_t n)
{
	struct listing l = { names, n, 0 };
	char path[300];
	struct dirent *de;
	int count = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s", home, directory);
	if (names && n)
		names[0] = '\0';
	d = opendir(path);
	if (!d)
		return -1;
	while ((de = readdir(d))) {
		if (!strcmp(de->d_name, ".") || !strcmp(de->d_name, "..") || !strcmp(de->d_name, "lock") ||
		    !strcmp(de->d_name, ".lock"))
			continue;
		count++;
		if (names)
			list_one(count, de->d_name, &l);
	}
	closedir(d);
	return count;
}

uint64_t cli_number(const char *json, const char *key)
{
	char want[64];
	const char *p;

	snprintf(want, sizeof(want), "\"%s\":", key);
	p = strstr(json, want);
	if (!p)
		test_fail(__FILE__, __LINE__, "no %s in %s", key, json);
	return number(p + strlen(want) + strspn(p + strlen(want), " "));
}

int cli_inspect_pid(const char *machine, const char *key)
{
	struct cli r = cli("inspect", machine, NULL);
	int pid;

	ASSERT_STATUS(r, 0);
	pid = (int)cli_number(r.out, key);
	cli_done(&r);
	return pid;
}

void cli_kill(int pid)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	ASSERT(pidfd >= 0);
	ASSERT_EQ(kill(pid, SIGKILL), 0);
	ASSERT_EQ(poll(&p, 1, KILLED_S * 1000), 1);
	close(pidfd);
}

void cli_hold_engines(void)
{
	char script[1024], search[4096];
	struct cli r;

	/* They run as users of their own. */
	snprintf(script, sizeof(script),
		 "cd '%s' && mkdir engines && chmod 711 . && real=$(command -v qemu-system-x86_64) && "
		 "printf '#!/bin/sh\\nuntil test -e %%s/go; do sleep 0.05; done\\nexec %%s \"$@\"\\n' "
		 "\"$PWD/engines\" \"$real\" >engines/qemu-system-x86_64 && chmod 755 engines engines/*",
		 test_tmpdir());
	r = cli_argv((const char *const[]){ CLI_SHELL, script, NULL }, NULL, DEFAULT_TIMEOUT_S);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	snprintf(search, sizeof(search), "PATH=%s/engines:%s", test_tmpdir(), getenv("PATH"));
	cli_setenv(search);
}

void cli_let_engines_go(void)
{
	char path[200];
	int fd;

	snprintf(path, sizeof(path), "%s/engines/go", test_tmpdir());
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	ASSERT(fd >= 0);
	close(fd);
}
