#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "test.h"

static pid_t sleeper(int *ret_pidfd)
{
	pid_t pid = fork();

	ASSERT(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	*ret_pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	ASSERT(*ret_pidfd >= 0);
	return pid;
}

TEST(a_process_is_found_again)
{
	struct process_id id = {};
	_cleanup_close_ int fd = -EBADF;

	ASSERT_OK(process_identify(getpid(), &id));
	ASSERT_EQ(id.pid, getpid());
	ASSERT(id.start_time > 0);
	ASSERT(process_alive(&id));
	fd = process_open(&id);
	ASSERT_OK(fd);
	ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ASSERT(!process_ending(&id));
}

TEST(another_start_time_is_another_process)
{
	struct process_id id;

	ASSERT_OK(process_identify(getpid(), &id));
	id.start_time++;
	ASSERT_EQ(process_open(&id), -ESRCH);
	ASSERT(!process_alive(&id));
}

TEST(nobody_is_nobody)
{
	struct process_id id = {};

	ASSERT_EQ(process_open(&id), -ESRCH);
	id.pid = -1;
	ASSERT_EQ(process_open(&id), -ESRCH);
	ASSERT_EQ(process_identify(0, &id), -ESRCH);
	ASSERT_EQ(process_identify(-5, &id), -ESRCH);
	ASSERT_EQ(process_identify(0x3fffffff, &id), -ESRCH);
}

TEST(a_name_cannot_forge_the_start_time)
{
	struct process_id before, after;

	ASSERT_OK(process_identify(getpid(), &before));
	ASSERT_OK(prctl(PR_SET_NAME, "x) Z 1 2 3 ("));
	ASSERT_OK(process_identify(getpid(), &after));
	ASSERT_EQ(after.start_time, before.start_time);
	ASSERT(process_alive(&after));
}

TEST(a_zombie_is_gone)
{
	struct process_id id;
	int pidfd, status;
	pid_t pid = sleeper(&pidfd);

	ASSERT_OK(process_identify(pid, &id));
	ASSERT(process_alive(&id));
	ASSERT_EQ(pidfd_reap(pidfd, &status), -EAGAIN);
	ASSERT_OK(pidfd_kill(pidfd, SIGKILL));
	ASSERT_OK(pidfd_wait_exit(pidfd, clock_monotonic_ns() + 100 * NS_PER_SEC));
	ASSERT(!process_alive(&id));
	ASSERT_OK(pidfd_reap(pidfd, &status));
	ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ASSERT_EQ(pidfd_reap(pidfd, &status), -ECHILD);
	ASSERT_EQ(pidfd_kill(pidfd, SIGKILL), -ESRCH);
	ASSERT(!process_alive(&id));
}

static _Noreturn void *stay(void *data)
{
	(void)data;
	for (;;)
		pause();
}

/* Its state is a zombie's from the end of its first thread on. */
TEST(a_process_is_there_until_its_last_thread_has_ended)
{
	_cleanup_close_ int pidfd = -EBADF;
	struct process_id id;
	pid_t pid = fork();
	char path[64], line[512] = "";

	ASSERT(pid >= 0);
	if (pid == 0) {
		pthread_t t;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (pthread_create(&t, NULL, stay, NULL) == 0)
			pthread_exit(NULL);
		_exit(1);
	}
	ASSERT_OK(process_identify(pid, &id));
	(void)snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	while (!strstr(line, ") Z ")) {
		FILE *f = fopen(path, "re");

		ASSERT(f && fgets(line, sizeof(line), f));
		fclose(f);
	}
	pidfd = process_open(&id);
	ASSERT_OK(pidfd);
	ASSERT(process_ending(&id));
	ASSERT_EQ(pidfd_wait_exit(pidfd, clock_monotonic_ns()), -ETIMEDOUT);
	ASSERT_OK(pidfd_kill(pidfd, SIGKILL));
	ASSERT_OK(pidfd_wait_exit(pidfd, clock_monotonic_ns() + 60 * NS_PER_SEC));
	ASSERT_EQ(process_open(&id), -ESRCH);
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
}

TEST(waiting_ends_at_the_deadline)
{
	int pidfd;
	uint64_t began = clock_monotonic_ns();

	sleeper(&pidfd);
	ASSERT_EQ(pidfd_wait_exit(pidfd, began + 30 * NS_PER_MS), -ETIMEDOUT);
	ASSERT(clock_monotonic_ns() - began >= 30 * NS_PER_MS);
	ASSERT_EQ(pidfd_wait_exit(pidfd, 0), -ETIMEDOUT);
	ASSERT_OK(pidfd_kill(pidfd, SIGKILL));
	ASSERT_OK(pidfd_wait_exit(pidfd, UINT64_MAX));
	ASSERT_OK(pidfd_reap(pidfd, NULL));
}

TEST(exit_statuses_are_whole)
{
	for (int want = 0; want < 256; want += 51) {
		pid_t pid = fork();
		int pidfd, status;

		if (pid == 0)
			_exit(want);
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		ASSERT_OK(pidfd_wait_exit(pidfd, UINT64_MAX));
		ASSERT_OK(pidfd_reap(pidfd, &status));
		ASSERT(WIFEXITED(status));
		ASSERT_EQ(WEXITSTATUS(status), want);
		close(pidfd);
	}
}

TEST(statuses_read_well)
{
	char out[64];

	ASSERT_STREQ(wait_status_text(0, out, sizeof(out)), "exited with status 0");
	ASSERT_STREQ(wait_status_text(3 << 8, out, sizeof(out)), "exited with status 3");
	ASSERT_STREQ(wait_status_text(9, out, sizeof(out)), "killed by signal 9 (KILL)");
	ASSERT_STREQ(wait_status_text(11 | 0x80, out, sizeof(out)), "killed by signal 11 (SEGV)");
	ASSERT_STREQ(wait_status_text(50, out, sizeof(out)), "killed by signal 50");
	ASSERT_CONTAINS(wait_status_text(-1, out, sizeof(out)), "status");
}

TEST(the_boot_has_an_id)
{
	ASSERT_EQ(strlen(boot_id()), 36);
	ASSERT_EQ(boot_id()[8], '-');
	ASSERT_STREQ(boot_id(), boot_id());
}

TEST(memory_is_counted)
{
	uint64_t private_bytes, pss, rss, before;
	size_t n = 8 << 20;
	char *p;

	ASSERT_OK(process_memory(getpid(), &before, NULL, NULL));
	p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 1, n);
	ASSERT_OK(process_memory(getpid(), &private_bytes, &pss, &rss));
	ASSERT(private_bytes >= before + n - 65536);
	ASSERT(pss >= private_bytes && rss >= pss);
	ASSERT_EQ(process_memory(0x3fffffff, &private_bytes, NULL, NULL), -ESRCH);
	ASSERT_EQ(process_memory(0, &private_bytes, NULL, NULL), -ESRCH);
	munmap(p, n);
}
