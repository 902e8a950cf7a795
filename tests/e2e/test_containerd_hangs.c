/* A guest that stands still, or has closed its agent's connection, can be ended as any other. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "containerd.h"

#define AGENT_SOCKET "agent.sock"

enum { FDS_MAX = 256 };

static void begin(void)
{
	_cleanup_cli_ struct cli run = {};

	ctd_start();
	run = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	if (run.status != 0)
		test_fail(__FILE__, __LINE__, "%s", run.err);
	ctd_wait_status("c1", "RUNNING");
}

/* With the reason in the log. */
static void check_end(const char *reason)
{
	_cleanup_cli_ struct cli removed = {};

	ctd_wait_status("c1", "STOPPED");
	removed = ctr("task", "rm", "c1", NULL);
	ASSERT_STATUS(removed, 0);
	ASSERT_CONTAINS(removed.err, "exit code 137");
	ctd_wait_log(reason);
	ctd_sh("ctr -a $PWD/c.sock container rm c1");
	ctd_nothing_left();
}

TEST(a_guest_that_stands_still_is_ended_by_a_kill)
{
	_cleanup_cli_ struct cli asked = {}, killed = {};

	begin();
	ASSERT_OK(kill(ctd_process("qemu-system-x86"), SIGSTOP));
	/* Whoever asks nicely first does not wait for it. */
	asked = ctr("--timeout", "60s", "task", "kill", "-s", "TERM", "c1", NULL);
	if (asked.status != 0)
		test_fail(__FILE__, __LINE__, "%s", asked.err);
	killed = ctr("task", "kill", "-s", "KILL", "c1", NULL);
	if (killed.status != 0)
		test_fail(__FILE__, __LINE__, "%s", killed.err);
	check_end("did not end when it was killed");
}

/* A copy of @pid's descriptor whose other end is called @name; it must be there. */
static int find_socket(int pid, const char *name)
{
	int process = (int)syscall(SYS_pidfd_open, pid, 0);

	ASSERT_OK(process);
	for (int i = 3; i < FDS_MAX; i++) {
		int fd = (int)syscall(SYS_pidfd_getfd, process, i, 0);
		struct sockaddr_un a = {};
		socklen_t n = sizeof(a) - 1;

		if (fd < 0)
			continue;
		if (getpeername(fd, (struct sockaddr *)&a, &n) == 0 && a.sun_family == AF_UNIX &&
		    strstr(a.sun_path, name)) {
			close(process);
			return fd;
		}
		close(fd);
	}
	test_fail(__FILE__, __LINE__, "%d has no socket %s", pid, name);
}

TEST(a_guest_whose_agent_has_hung_up_is_ended)
{
	int fd;

	begin();
	fd = find_socket(ctd_process("skerry-shim"), AGENT_SOCKET);
	ASSERT_OK(shutdown(fd, SHUT_RDWR));
	close(fd);
	check_end("its agent broke the protocol or hung up");
}
