#include "base/lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"

static int dir(void)
{
	int fd = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT(fd >= 0);
	return fd;
}

/* So that the other process is likely waiting by now: the tests hold in either case. */
static void give_time(void)
{
	usleep(30000); /* lint: nothing tells from outside that a process waits for a lock */
}

TEST(the_holder_is_named)
{
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int d = dir(), fd = lock_acquire(d, "lock", "machine 'web'", 0, &e);
	_cleanup_free_ char *pid = xasprintf("machine 'web' is in use by pid %d (", (int)getpid());

	ASSERT_OK(fd);
	ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ASSERT_EQ(lock_acquire(d, "lock", "machine 'web'", 0, &e), -EBUSY);
	ASSERT_CONTAINS(e.msg, pid);
	ASSERT_CONTAINS(e.msg, "test_base_lock");
	ASSERT_EQ(e.kind, ERROR_BUSY);
	ASSERT_EQ(error_exit_status(&e), 75);
	ASSERT_STREQ(e.hint, "try again, or wait with --lock-wait where the command has it");
}

TEST(it_is_free_once_its_descriptor_is_closed)
{
	_cleanup_close_ int d = dir();
	int fd = lock_acquire(d, "lock", "x", 0, NULL);

	ASSERT_OK(fd);
	close(fd);
	fd = lock_acquire(d, "lock", "x", 0, NULL);
	ASSERT_OK(fd);
	ASSERT_EQ(lock_acquire(d, "lock", "x", 0, NULL), -EBUSY);
	close(fd);
}

TEST(waiting_ends_with_the_holder)
{
	_cleanup_close_ int d = dir(), fd = -EBADF;
	int p[2], seen[2];
	pid_t pid;
	char c;

	ASSERT_OK(pipe2(p, O_CLOEXEC));
	ASSERT_OK(pipe2(seen, O_CLOEXEC));
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (lock_acquire(d, "lock", "x", 0, NULL) < 0)
			_exit(1);
		(void)write_full(p[1], "x", 1);
		/* The other one has seen that it is busy. */
		(void)read_full(seen[0], &c, 1);
		give_time();
		_exit(0);
	}
	ASSERT_OK(read_full(p[0], &c, 1));
	ASSERT_EQ(lock_acquire(d, "lock", "x", 0, NULL), -EBUSY);
	ASSERT_OK(write_full(seen[1], "x", 1));
	fd = lock_acquire(d, "lock", "x", 100 * NS_PER_SEC, NULL);
	ASSERT_OK(fd);
	waitpid(pid, NULL, 0);
}

TEST(waiting_without_end_works_too)
{
	_cleanup_close_ int d = dir(), fd = -EBADF;
	int p[2];
	pid_t pid;
	char c;

	ASSERT_OK(pipe2(p, O_CLOEXEC));
	pid = fork();
	if (pid == 0) {
		if (lock_acquire(d, "lock", "x", 0, NULL) < 0)
			_exit(1);
		(void)write_full(p[1], "x", 1);
		give_time();
		_exit(0);
	}
	ASSERT_OK(read_full(p[0], &c, 1));
	fd = lock_acquire(d, "lock", "x", UINT64_MAX, NULL);
	ASSERT_OK(fd);
	waitpid(pid, NULL, 0);
}

TEST(waiting_ends_at_the_deadline)
{
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int d = dir(), fd = lock_acquire(d, "lock", "x", 0, NULL);
	uint64_t began = clock_monotonic_ns();

	ASSERT_OK(fd);
	ASSERT_EQ(lock_acquire(d, "lock", "x", 60 * NS_PER_MS, &e), -EBUSY);
	ASSERT(clock_monotonic_ns() - began >= 60 * NS_PER_MS);
	ASSERT_CONTAINS(e.msg, "is in use by pid");
}

TEST(a_lock_removed_while_waiting_is_not_the_one)
{
	_cleanup_close_ int d = dir(), old = lock_acquire(d, "lock", "x", 0, NULL), fd = -EBADF;
	int p[2], status;
	pid_t pid;
	char c;

	ASSERT_OK(old);
	ASSERT_OK(pipe2(p, O_CLOEXEC));
	pid = fork();
	if (pid == 0) {
		close(old);
		(void)write_full(p[1], "x", 1);
		fd = lock_acquire(d, "lock", "x", 100 * NS_PER_SEC, NULL);
		/* What it got must be the file that has the name now. */
		_exit(fd >= 0 && lock_acquire(d, "lock", "x", 0, NULL) == -EBUSY ? 0 : 1);
	}
	ASSERT_OK(read_full(p[0], &c, 1));
	give_time();
	ASSERT_OK(unlinkat(d, "lock", 0));
	old = safe_close(old);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	ASSERT_OK(faccessat(d, "lock", F_OK, 0));
}

TEST(what_stands_in_the_file_is_only_shown)
{
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int d = dir(), fd = lock_acquire(d, "lock", "x", 0, NULL);

	ASSERT_OK(pwrite_full(fd, "7 \033[2J\nmore", 11, 0));
	ASSERT_EQ(lock_acquire(d, "lock", "x", 0, &e), -EBUSY);
	ASSERT_STREQ(e.msg, "x is in use by pid 7 (?[2J)");
	ASSERT_OK(ftruncate(fd, 0));
	ASSERT_EQ(lock_acquire(d, "lock", "x", 0, &e), -EBUSY);
	ASSERT_STREQ(e.msg, "x is in use by another process");
	ASSERT_OK(pwrite_full(fd, "%s%n garbage", 12, 0));
	ASSERT_EQ(lock_acquire(d, "lock", "x", 0, &e), -EBUSY);
	ASSERT_STREQ(e.msg, "x is in use by another process");
}

TEST(a_child_that_was_passed_the_lock_shares_it)
{
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int d = dir();
	int fd = lock_acquire(d, "lock", "x", 0, NULL), p[2], back[2];
	_cleanup_free_ char *want = NULL;
	pid_t pid;
	char c;

	ASSERT_OK(fd);
	ASSERT_OK(pipe2(p, O_CLOEXEC));
	ASSERT_OK(pipe2(back, O_CLOEXEC));
	pid = fork();
	if (pid == 0) {
		close(p[1]);
		lock_describe(fd);
		(void)write_full(back[1], "x", 1);
		(void)read_full(p[0], &c, 1);
		_exit(0);
	}
	close(fd);
	ASSERT_OK(read_full(back[0], &c, 1));
	ASSERT_EQ(lock_acquire(d, "lock", "x", 0, &e), -EBUSY);
	want = xasprintf("pid %d (", (int)pid);
	ASSERT_CONTAINS(e.msg, want);
	close(p[1]);
	waitpid(pid, NULL, 0);
	fd = lock_acquire(d, "lock", "x", 0, NULL);
	ASSERT_OK(fd);
}

TEST(errors_name_the_object)
{
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int d = dir();

	ASSERT_EQ(lock_acquire(d, "none/lock", "machine 'x'", 0, &e), -ENOENT);
	ASSERT_CONTAINS(e.msg, "machine 'x'");
	ASSERT_OK(symlinkat("/etc/passwd", d, "link"));
	ASSERT_EQ(lock_acquire(d, "link", "x", 0, &e), -ELOOP);
}
