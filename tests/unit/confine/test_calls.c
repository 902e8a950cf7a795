#include "confine/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "test.h"

/* What a child answers that may do nothing but compute and @more; the status of its exit. */
static int confined(int (*fn)(void), const int *more, size_t n)
{
	pid_t pid = fork();
	int status;

	ASSERT_OK(pid);
	if (pid == 0)
		_exit(confine_calls(more, n) < 0 ? 200 : fn());
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	/* Refused, not killed for. */
	ASSERT(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static bool refused(long r)
{
	return r == -1 && errno == EPERM;
}

/* 0, or the number of the first that went wrong. */
static int tries(void)
{
	char *const argv[] = { NULL };
	struct stat st;
	char c;

	if (!refused(open("/etc/passwd", O_RDONLY | O_CLOEXEC)))
		return 1;
	if (!refused(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)))
		return 2;
	if (!refused(execv("/bin/true", argv)))
		return 3;
	if (!refused(fork()))
		return 4;
	if (!refused(kill(getppid(), 0)))
		return 5;
	if (!refused(stat("/etc/passwd", &st)))
		return 6;
	if (mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED || errno != EPERM)
		return 7;
	if (!refused(pread(STDIN_FILENO, &c, 1, 0)))
		return 8;
	if (!refused(dup(STDIN_FILENO)))
		return 9;
	return 0;
}

TEST(whatever_reaches_out_is_refused)
{
	ASSERT_EQ(confined(tries, NULL, 0), 0);
}

static int computes(void)
{
	_cleanup_free_ char *memory = malloc(8 << 20);
	struct stat st;

	if (!memory)
		return 1;
	memset(memory, 1, 8 << 20);
	if (fstat(STDERR_FILENO, &st) < 0 || write(STDERR_FILENO, "", 0) < 0)
		return 2;
	return 0;
}

TEST(computing_and_the_descriptors_that_are_there_are_left)
{
	ASSERT_EQ(confined(computes, NULL, 0), 0);
}

static int copies(void)
{
	return dup(STDERR_FILENO) < 0 ? 1 : refused(open("/", O_RDONLY | O_CLOEXEC)) ? 0 : 2;
}

TEST(what_one_needs_more_is_added)
{
	static const int more[] = { SCMP_SYS(dup), SCMP_SYS(dup2) };

	ASSERT_EQ(confined(copies, more, ARRAY_SIZE(more)), 0);
}

static int gains(void)
{
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0);
}

TEST(no_privilege_can_be_gained)
{
	static const int more[] = { SCMP_SYS(prctl) };

	ASSERT_EQ(confined(gains, more, ARRAY_SIZE(more)), 1);
}

static int again(void)
{
	return confine_calls(NULL, 0) < 0 ? 0 : 1;
}

TEST(there_is_no_second_filter_that_could_be_wider)
{
	ASSERT_EQ(confined(again, NULL, 0), 0);
}
