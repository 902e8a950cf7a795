/* Containers of a real containerd in virtual machines, driven by ctr. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "containerd.h"

TEST(exit_codes_and_streams_are_the_containers)
{
	ctd_start();
	for (int i = 0; i < 4; i++) {
		static const int codes[] = { 0, 1, 42, 255 };
		_cleanup_free_ char *script = xasprintf("echo out; echo err >&2; exit %d", codes[i]);
		_cleanup_cli_ struct cli r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", CLI_SHELL, script, NULL);

		ASSERT_STATUS(r, codes[i]);
		ASSERT_STREQ(r.out, "out\n");
		ASSERT_STREQ(r.err, "err\n");
	}
	ctd_nothing_left();
}

TEST(it_is_a_machine_with_a_kernel_of_its_own)
{
	_cleanup_cli_ struct cli r = {};
	_cleanup_buf_ struct buf version = {};

	ctd_start();
	r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", "cat", "/proc/version", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_OK(file_read_at(AT_FDCWD, "/proc/version", 4096, &version));
	ASSERT(!streq(r.out, version.p));
}

TEST(not_one_byte_is_lost)
{
	ctd_start();
	ctd_sh("head -c 20971520 /dev/urandom >in && "
	       "ctr -a c.sock run --rm --runtime io.containerd.skerry.v1 " CTD_IMAGE " c1 cat <in >out && cmp in out");
	for (int i = 0; i < 5; i++)
		ctd_sh("test $(ctr -a c.sock run --rm --runtime io.containerd.skerry.v1 " CTD_IMAGE
		       " c1 sh -c 'head -c 8388608 /dev/zero' | wc -c) = 8388608");
	ctd_nothing_left();
}

TEST(what_cannot_be_run_is_said_in_one_line)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", "/nonexistent", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.err, "/nonexistent");
	cli_done(&r);
	r = ctr_run(NULL, "--rm", "--annotation", "io.skerry.shape=round", CTD_IMAGE, "c2", "true", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.err, "io.skerry.shape");
	ctd_nothing_left();
}

TEST(processes_join_are_looked_at_paused_and_killed)
{
	_cleanup_free_ char *script = NULL;
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	/* What it uses on the host is accounted to its own cgroup there. */
	script = xasprintf("grep -q '/default/c1$' /proc/%d/cgroup", ctd_process("qemu-system-x86"));
	ctd_sh(script);
	r = ctr("task", "exec", "--exec-id", "e1", "c1", CLI_SHELL, "tr '\\0' ' ' </proc/1/cmdline; exit 7", NULL);
	ASSERT_STATUS(r, 7);
	ASSERT_CONTAINS(r.out, "sleep 1000");
	cli_done(&r);
	r = ctr("task", "exec", "--exec-id", "e3", "--user", "7:8", "--cwd", "/tmp", "c1", CLI_SHELL,
		"id -u; id -g; pwd", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "7\n8\n/tmp\n");
	cli_done(&r);
	r = ctr("task", "exec", "--exec-id", "e2", "c1", "/nonexistent", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.err, "/nonexistent");
	cli_done(&r);
	r = ctr("task", "pause", "c1", NULL);
	ASSERT_STATUS(r, 0);
	ctd_wait_status("c1", "PAUSED");
	cli_done(&r);
	r = ctr("task", "resume", "c1", NULL);
	ASSERT_STATUS(r, 0);
	ctd_wait_status("c1", "RUNNING");
	cli_done(&r);
	r = ctr("task", "metrics", "c1", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "cpu.usage_usec");
	cli_done(&r);
	r = ctr("task", "checkpoint", "c1", NULL);
	ASSERT(r.status != 0);
	ctd_remove("c1");
	ctd_nothing_left();
	ctd_sh("! find /sys/fs/cgroup -type d -path '*/default/c1' | grep -q .");
}

TEST(limits_hold_and_out_of_memory_is_told)
{
	_cleanup_cli_ struct cli r = {};
	_cleanup_free_ char *path = xasprintf("%s/events", test_tmpdir());
	_cleanup_buf_ struct buf events = {};

	ctd_start();
	ctd_sh("(ctr -a c.sock events >events 2>&1 & echo $! >events.pid)");
	r = ctr_run(NULL, "--rm", "--memory-limit", "33554432", CTD_IMAGE, "c1", "tail", "/dev/zero", NULL);
	ASSERT_STATUS(r, 137);
	cli_done(&r);
	r = ctr_run(NULL, "--rm", "--cpus", "0.5", CTD_IMAGE, "c2", "nproc", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "1\n");
	ctd_sh("kill $(cat events.pid)");
	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &events));
	{
		const char *oom = strstr(events.p, "/tasks/oom"), *create = strstr(events.p, "/tasks/create"),
			   *start = strstr(events.p, "/tasks/start"), *end = strstr(events.p, "/tasks/exit"),
			   *deleted = strstr(events.p, "/tasks/delete");

		ASSERT(create && start && oom && end && deleted);
		ASSERT(create < start && start < oom && oom < end && end < deleted);
	}
	ctd_nothing_left();
}

TEST(the_specification_is_kept_whole)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	r = ctr_run(NULL, "--rm", "--read-only", CTD_IMAGE, "c1", "touch", "/x", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.err, "Read-only");
	cli_done(&r);
	r = ctr_run(NULL, "--rm", "--seccomp", CTD_IMAGE, "c1", CLI_SHELL,
		    "grep Seccomp: /proc/self/status; unshare -m true", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.out, "2");
	cli_done(&r);
	r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", "mount", "-t", "tmpfs", "x", "/tmp", NULL);
	ASSERT(r.status != 0);
	cli_done(&r);
	r = ctr_run(NULL, "--rm", "--privileged", CTD_IMAGE, "c1", "mount", "-t", "tmpfs", "x", "/tmp", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	r = ctr_run(NULL, "--rm", "--env", "A=b", "--cwd", "/root", CTD_IMAGE, "c1", CLI_SHELL, "echo $A; pwd; id -u",
		    NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "b\n/root\n0\n");
	ctd_nothing_left();
}

TEST(directories_and_files_of_the_host_are_seen_live)
{
	_cleanup_cli_ struct cli r = {};
	_cleanup_free_ char *dir = xasprintf("type=bind,src=%s/b,dst=/mnt,options=rbind:ro", test_tmpdir());
	_cleanup_free_ char *file = xasprintf("type=bind,src=%s/b/f,dst=/etc/f,options=bind:rw", test_tmpdir());

	ctd_start();
	ctd_sh("mkdir b && echo one >b/f");
	r = ctr_run(NULL, "--rm", "--mount", dir, "--mount", file, CTD_IMAGE, "c1", CLI_SHELL,
		    "cat /mnt/f; touch /mnt/x && exit 9; echo two >/etc/f", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "one\n");
	ctd_sh("grep -q two b/f && test ! -e b/x");
	ctd_nothing_left();
}

TEST(whoever_is_killed_nothing_is_left)
{
	static const char *const victims[] = { "qemu-system-x86", "skerry-shim", "virtiofsd" };

	ctd_start();
	for (size_t i = 0; i < ARRAY_SIZE(victims); i++) {
		_cleanup_cli_ struct cli r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL), d = {},
					 e = {};
		int pid = ctd_process(victims[i]);

		ASSERT_STATUS(r, 0);
		if (pid <= 0)
			test_fail(__FILE__, __LINE__, "%s does not run", victims[i]);
		ASSERT_OK(kill(pid, SIGKILL));
		if (!streq(victims[i], "skerry-shim"))
			ctd_wait_status("c1", "STOPPED");
		/* Of a shim that was killed containerd has forgotten the task already. */
		d = ctr("task", "rm", "-f", "c1", NULL);
		ASSERT(d.status >= 0);
		e = ctr("container", "rm", "c1", NULL);
		ASSERT_STATUS(e, 0);
		ctd_nothing_left();
	}
}

TEST(a_restarted_containerd_finds_its_containers)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	ctd_stop(SIGKILL);
	ctd_restart();
	ctd_wait_status("c1", "RUNNING");
	r = ctr("task", "exec", "--exec-id", "e1", "c1", "echo", "still here", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "still here\n");
	ctd_remove("c1");
	ctd_nothing_left();
}

static int leases(void)
{
	_cleanup_free_ char *script = xasprintf("ls '%s/ipam/t' | grep -c '^10[.]'", test_tmpdir());
	const char *argv[] = { CLI_SHELL, script, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, 20);

	return atoi(r.out); /* lint: what grep -c prints */
}

TEST(a_configured_network_is_the_guests)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start_with_network();
	r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", CLI_SHELL,
		    "ip -4 a show eth0; ip r; cat /etc/resolv.conf; ping -c1 -w10 10.77.0.1", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "inet 10.77.0.");
	ASSERT_CONTAINS(r.out, "default via 10.77.0.1");
	ASSERT_CONTAINS(r.out, "nameserver 10.77.0.1");
	ASSERT_EQ(leases(), 0);
	cli_done(&r);
	r = ctr_run(NULL, "--rm", "--annotation", "io.skerry.network=none", CTD_IMAGE, "c2", "ls", "/sys/class/net",
		    NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "lo\n");
	cli_done(&r);
	r = ctr_run(NULL, "--rm", "--annotation", "io.skerry.network=user", CTD_IMAGE, "c3", "ip", "-4", "a", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "10.0.2.15");
	ctd_nothing_left();
}

TEST(a_killed_shims_address_is_given_back)
{
	_cleanup_cli_ struct cli r = {}, d = {};

	ctd_start_with_network();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_EQ(leases(), 1);
	ASSERT_OK(kill(ctd_process("skerry-shim"), SIGKILL));
	ctd_nothing_left();
	ASSERT_EQ(leases(), 0);
	d = ctr("container", "rm", "c1", NULL);
	ASSERT_STATUS(d, 0);
}

TEST(the_network_may_come_before_the_start)
{
	_cleanup_free_ char *script = NULL;

	ctd_start_with_network();
	script =
		xasprintf("nsenter -t %d --net --mount ctr -a '%s/c.sock' run --rm --cni --runtime "
			  "io.containerd.skerry.v1 " CTD_IMAGE " c1 sh -c 'ip -4 a show eth0; ping -c1 -w10 10.77.0.1'",
			  ctd_pid(), test_tmpdir());
	ctd_sh(script);
	ASSERT_EQ(leases(), 0);
	ctd_nothing_left();
}
