#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STATUS_PASS = 0, STATUS_FAIL = 99, STATUS_SKIP = 77 };

static struct test_case *cases, **cases_end = &cases;
static char tmpdir[64];

void test_register(struct test_case *t)
{
	*cases_end = t;
	cases_end = &t->next;
}

void test_fail(const char *file, int line, const char *fmt, ...)
{
	va_list ap;

	printf("# %s:%d: ", file, line);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	exit(STATUS_FAIL);
}

void test_skip(const char *fmt, ...)
{
	va_list ap;

	printf("# skipped: ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	exit(STATUS_SKIP);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

const char *test_tmpdir(void)
{
	if (!tmpdir[0]) {
		strcpy(tmpdir, "/tmp/skerry-test-XXXXXX"); /* lint: fits */
		if (!mkdtemp(tmpdir))
			test_fail(__FILE__, __LINE__, "mkdtemp: %s", strerror(errno));
	}
	return tmpdir;
}

static void remove_tmpdir(void)
{
	if (tmpdir[0])
		(void)nftw(tmpdir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static int run_one(const struct test_case *t, int timeout_ms)
{
	pid_t pid;
	int pidfd, status;
	struct pollfd p;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return STATUS_FAIL;
	if (pid == 0) {
		atexit(remove_tmpdir);
		t->fn();
		exit(STATUS_PASS);
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	p = (struct pollfd){ .fd = pidfd, .events = POLLIN };
	if (pidfd >= 0 && poll(&p, 1, timeout_ms) == 0) {
		printf("# no end after %d s, killed\n", timeout_ms / 1000);
		kill(pid, SIGKILL);
	}
	if (waitpid(pid, &status, 0) != pid)
		status = -1;
	if (pidfd >= 0)
		close(pidfd);
	if (WIFSIGNALED(status))
		printf("# killed by signal %d\n", WTERMSIG(status));
	return WIFEXITED(status) ? WEXITSTATUS(status) : STATUS_FAIL;
}

int main(int argc, char **argv)
{
	const char *limit = getenv("TEST_TIMEOUT");
	int timeout_ms = limit ? (int)strtoul(limit, NULL, 10) * 1000 : 120000; /* lint: the harness links nothing */
	unsigned n = 0, i = 0, failed = 0;

	for (const struct test_case *t = cases; t; t = t->next)
		if (argc < 2 || strstr(t->name, argv[1]))
			n++;
	printf("1..%u\n", n);
	for (const struct test_case *t = cases; t; t = t->next) {
		int r;

		if (argc >= 2 && !strstr(t->name, argv[1]))
			continue;
		r = run_one(t, timeout_ms);
		i++;
		if (r == STATUS_SKIP)
			printf("ok %u - %s # SKIP\n", i, t->name);
		else
			printf("%s %u - %s\n", r == STATUS_PASS ? "ok" : "not ok", i, t->name);
		failed += r != STATUS_PASS && r != STATUS_SKIP;
	}
	return failed || !n;
}
