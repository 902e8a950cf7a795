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

enum { WORDS_MAX = 64, OUTPUT_MAX = 4 << 20, DEFAULT_TIMEOUT_S = 120 };

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

bool cli_processes_gone(unsigned timeout_s)
{
	uint64_t deadline = now_ns() + timeout_s * UINT64_C(1000000000);

	while (cli_processes(NULL, 0)) {
		struct timespec pause = { .tv_nsec = 20000000 };

		if (now_ns() > deadline)
			return false;
		/* Other people's children: there is no event for their end. */
		nanosleep(&pause, NULL); /* lint: nothing announces this */
	}
	return true;
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
		const char *argv[] = { "cp", linked ? "-al" : "-a", "--", from, to, NULL };
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

/* What is older than this file was here before the test. */
static void mark_beginning(void)
{
	char path[300];
	int fd;

	snprintf(path, sizeof(path), "%s/" CLI_BEGAN, test_tmpdir());
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0)
		close(fd);
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
	mark_beginning();
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
