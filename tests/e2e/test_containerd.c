/* Containers of a real containerd in virtual machines, driven by ctr. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"
#include "containerd.h"

/* What the shim may have for itself. */
#define SHIM_PRIVATE_MAX (UINT64_C(2048) << 10)

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
	       "ctr -a $PWD/c.sock run --rm --runtime io.containerd.skerry.v1 " CTD_IMAGE
	       " c1 cat <in >out && cmp in out");
	for (int i = 0; i < 5; i++)
		ctd_sh("test $(ctr -a $PWD/c.sock run --rm --runtime io.containerd.skerry.v1 " CTD_IMAGE
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

/* Writes down what containerd publishes, from now on. */
static void events_begin(void)
{
	ctd_sh("(ctr -a $PWD/c.sock events >events 2>&1 & echo $! >events.pid)");
	/* It does not say when it listens: something happens until it is heard. */
	ctd_sh("i=0; until test -s events; do i=$((i + 1)); ctr -a $PWD/c.sock namespaces create probe$i; sleep 0.1; "
	       "done");
}

/* Until a task is deleted. Owned by the caller. */
static char *events_end(void)
{
	_cleanup_free_ char *path = xasprintf("%s/events", test_tmpdir());
	_cleanup_buf_ struct buf events = {};

	ctd_sh("until grep -q /tasks/delete events; do sleep 0.1; done; kill $(cat events.pid)");
	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &events));
	return buf_take(&events);
}

/* What was published of tasks, one word each. */
static void assert_task_events(const char *events, const char *expected)
{
	static const char topic[] = " /tasks/";
	_cleanup_buf_ struct buf words = {};

	for (const char *p = events; (p = strstr(p, topic));) {
		p += strlen(topic);
		buf_addf(&words, "%s%.*s", words.len ? " " : "", (int)strcspn(p, " "), p);
	}
	ASSERT_STREQ(words.p, expected);
}

/* One shim for a machine, and small. */
static void check_shim(void)
{
	uint64_t private_bytes, pss, rss;
	char names[16384];
	unsigned n = 0;

	(void)cli_processes(names, sizeof(names));
	for (const char *p = names; (p = strstr(p, " skerry-shim\n")); p++)
		n++;
	ASSERT_EQ(n, 1);
	ASSERT_OK(process_memory(ctd_process("skerry-shim"), &private_bytes, &pss, &rss));
	if (private_bytes > SHIM_PRIVATE_MAX)
		test_fail(__FILE__, __LINE__, "the shim has %llu KiB", (unsigned long long)private_bytes >> 10);
}

TEST(processes_join_are_looked_at_paused_and_killed)
{
	int helper;
	_cleanup_free_ char *script = NULL, *events = NULL;
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	events_begin();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	/* What it uses on the host is accounted to its own cgroup there. */
	script = xasprintf("grep -q '/%s/c1$' /proc/%d/cgroup", ctd_namespace(), ctd_process("qemu-system-x86"));
	ctd_sh(script);
	/* So is what its network's helper uses, where there is one. */
	helper = ctd_process("passt");
	helper = helper ? helper : ctd_process("passt.avx2");
	if (helper) {
		free(script);
		script = xasprintf("grep -q '/%s/c1$' /proc/%d/cgroup", ctd_namespace(), helper);
		ctd_sh(script);
	}
	/* What is started runs a moment later. */
	r = ctr("task", "exec", "--exec-id", "e1", "c1", CLI_SHELL,
		"until grep -q ^sleep /proc/1/cmdline; do :; done; tr '\\0' ' ' </proc/1/cmdline; exit 7", NULL);
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
	check_shim();
	ctd_remove("c1");
	events = events_end();
	/* Of e2 nothing was to be started; who asks for a checkpoint pauses first. */
	assert_task_events(events, "create start exec-added exec-started exit exec-added exec-started exit exec-added "
				   "paused resumed paused resumed exit delete");
	ctd_nothing_left();
	ctd_sh("! find /sys/fs/cgroup -type d -path \"*/$CONTAINERD_NAMESPACE/c1\" | grep -q .");
}

TEST(limits_hold_and_out_of_memory_is_told)
{
	_cleanup_cli_ struct cli r = {};
	_cleanup_free_ char *events = NULL;

	ctd_start();
	events_begin();
	r = ctr_run(NULL, "--rm", "--memory-limit", "33554432", CTD_IMAGE, "c1", "tail", "/dev/zero", NULL);
	ASSERT_STATUS(r, 137);
	cli_done(&r);
	r = ctr_run(NULL, "--rm", "--cpus", "0.5", CTD_IMAGE, "c2", "nproc", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "1\n");
	events = events_end();
	{
		const char *oom = strstr(events, "/tasks/oom"), *create = strstr(events, "/tasks/create"),
			   *start = strstr(events, "/tasks/start"), *end = strstr(events, "/tasks/exit"),
			   *deleted = strstr(events, "/tasks/delete");

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

/* Each writes down its name and the state that it is told, where the container writes as well: it goes on when it has seen the third. */
TEST(hooks_run_where_they_belong)
{
	_cleanup_free_ char *log = xasprintf("%s/r/log", test_tmpdir()),
			    *config = xasprintf("%s/config.json", test_tmpdir());
	_cleanup_buf_ struct buf text = {};
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	ctd_sh("cat >hook <<E\n"
	       "#!/bin/sh\n"
	       "echo \\$1 \\$(sed 's/.*\"status\":\"\\([a-z]*\\)\".*/\\1/') >>$PWD/r/log\n"
	       "E\n"
	       "cat >r/wait <<'E'\n"
	       "until grep -q poststart /log; do sleep 0.1; done\n"
	       "echo container >>/log\n"
	       "E\n"
	       "chmod 755 hook\n"
	       "hooks= ; for kind in poststop poststart createRuntime prestart; do\n"
	       "hooks=\"$hooks,\\\"$kind\\\":[{\\\"path\\\":\\\"$PWD/"
	       "hook\\\",\\\"args\\\":[\\\"hook\\\",\\\"$kind\\\"]}]\"\n"
	       "done\n"
	       "crun spec && sed -i \"1s|{|{ \\\"hooks\\\": {${hooks#,}},|; s|\\\"terminal\\\": true|\\\"terminal\\\": "
	       "false|; "
	       "s|\\\"sh\\\"|\\\"sh\\\", \\\"/wait\\\"|; s|\\\"rootfs\\\"|\\\"$PWD/r\\\"|; s|\\\"readonly\\\": "
	       "true|\\\"readonly\\\": false|\" config.json");
	r = ctr_run(NULL, "--rm", "--config", config, "c1", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_OK(file_read_at(AT_FDCWD, log, 4096, &text));
	ASSERT_STREQ(text.p, "prestart creating\ncreateRuntime creating\npoststart running\ncontainer\n"
			     "poststop stopped\n");
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

/* As a host does that shuts down. The pid of the shim; the others may have gone with it by the time that it is their turn. */
static int terminate_all(void)
{
	static const char *const all[] = { "skerry-shim", "qemu-system-x86", "virtiofsd" };
	int pids[ARRAY_SIZE(all)];

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		pids[i] = ctd_process(all[i]);
		ASSERT(pids[i] > 0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		ASSERT(kill(pids[i], SIGTERM) == 0 || (i > 0 && errno == ESRCH));
	return pids[0];
}

TEST(a_host_that_shuts_down_lets_the_container_end)
{
	_cleanup_free_ char *dir = xasprintf("type=bind,src=%s/b,dst=/v,options=rbind:rw", test_tmpdir());
	_cleanup_free_ char *gone = NULL;
	_cleanup_cli_ struct cli r = {}, e = {};

	ctd_start();
	ctd_sh("mkdir b");
	r = ctr_run(NULL, "-d", "--mount", dir, CTD_IMAGE, "c1", CLI_SHELL,
		    "trap 'echo bye >/v/f; exit' TERM; echo >/v/ready; while :; do sleep 0.1; done", NULL);
	ASSERT_STATUS(r, 0);
	ctd_sh("until test -e b/ready; do sleep 0.1; done");
	gone = xasprintf("while kill -0 %d; do sleep 0.1; done", terminate_all());
	ctd_sh(gone);
	ctd_sh("grep -q bye b/f");
	/* Of a shim that has gone containerd may have forgotten the task already. */
	e = ctr("task", "rm", "-f", "c1", NULL);
	cli_done(&e);
	e = ctr("container", "rm", "c1", NULL);
	ASSERT_STATUS(e, 0);
	ctd_nothing_left();
}

/* The memory of the machine that runs: QEMU's, as the guest's kernel has it at these addresses. */
static void write_guest_memory(uint64_t physical, const void *p, size_t n)
{
	_cleanup_free_ char *script =
		xasprintf("ls -l /proc/%d/fd | sed -n 's/.* \\([0-9]*\\) -> .memfd:memory.*/\\1/p'",
			  ctd_process("qemu-system-x86"));
	const char *argv[] = { CLI_SHELL, script, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, 120);
	_cleanup_free_ char *path =
		xasprintf("/proc/%d/fd/%d", ctd_process("qemu-system-x86"), atoi(r.out)); /* lint: ls printed it */
	_cleanup_close_ int fd = open(path, O_RDWR | O_CLOEXEC);

	ASSERT(fd >= 0);
	ASSERT_EQ(pwrite(fd, p, n, (off_t)physical), (ssize_t)n);
}

static void check_kernel_died(const char *why)
{
	_cleanup_cli_ struct cli d = {}, e = {};

	ctd_wait_status("c1", "STOPPED");
	d = ctr("task", "rm", "c1", NULL);
	ASSERT_CONTAINS(d.err, "exit code 137");
	e = ctr("container", "rm", "c1", NULL);
	ASSERT_STATUS(e, 0);
	ctd_wait_log(why);
	ctd_nothing_left();
}

/* A system call that nobody has made yet, and that becomes an instruction which is none. */
TEST(an_oops_of_the_guests_kernel_ends_the_container)
{
	static const uint8_t undefined[] = { 0x0f, 0x0b };
	const uint64_t kernel_map = UINT64_C(0xffffffff80000000); /* Linux, Documentation/x86/x86_64/mm.rst */
	_cleanup_cli_ struct cli r = {}, symbol = {}, killed = {};
	uint64_t address;

	ctd_start();
	r = ctr_run(NULL, "-d", "--privileged", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	symbol = ctr("task", "exec", "--exec-id", "e1", "c1", "grep", "-m1", " __x64_sys_swapoff$", "/proc/kallsyms",
		     NULL);
	ASSERT_STATUS(symbol, 0);
	symbol.out[strcspn(symbol.out, " ")] = '\0';
	address = strtoull(symbol.out, NULL, 16); /* lint: the kernel printed it */
	ASSERT(address > kernel_map);
	write_guest_memory(address - kernel_map, undefined, sizeof(undefined));
	killed = ctr("task", "exec", "--exec-id", "e2", "c1", "swapoff", "/etc/passwd", NULL);
	ASSERT(killed.status != 0);
	check_kernel_died("the guest's kernel panicked: Fatal exception");
}

TEST(a_panic_of_the_guests_kernel_ends_the_container)
{
	_cleanup_cli_ struct cli r = {}, killed = {};

	ctd_start();
	r = ctr_run(NULL, "-d", "--privileged", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	killed = ctr("task", "exec", "--exec-id", "e1", "c1", CLI_SHELL, "echo c >/proc/sysrq-trigger", NULL);
	ASSERT(killed.status != 0);
	check_kernel_died("the guest's kernel panicked: sysrq triggered crash");
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

TEST(a_configured_network_is_the_guests)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start_with_network();
	r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", CLI_SHELL,
		    "ip -4 a show eth0; ip r; cat /etc/resolv.conf; until ping -c1 -w10 10.77.0.1; do :; done", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "inet 10.77.0.");
	ASSERT_CONTAINS(r.out, "default via 10.77.0.1");
	ASSERT_CONTAINS(r.out, "nameserver 10.77.0.1");
	ASSERT_EQ(ctd_leases(), 0u);
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

/* As dockerd names it; what is the host's here is the test's. */
TEST(the_hosts_network_by_its_path_is_not_taken_over)
{
	_cleanup_free_ char *option = NULL;
	_cleanup_cli_ struct cli r = {};

	ctd_start_with_network();
	ctd_sh("ip link add d0 type veth peer name d1 && ip address add 10.99.0.1/24 dev d0 && ip link set d0 up");
	option = xasprintf("network:/proc/%d/ns/net", ctd_pid());
	r = ctr_run(NULL, "-d", "--with-ns", option, CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	ctd_sh("! ip link | grep sktap");
	cli_done(&r);
	r = ctr("task", "exec", "--exec-id", "e1", "c1", "ip", "-4", "a", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "10.0.2.15");
	ctd_remove("c1");
	ctd_nothing_left();
}

/* Whose interfaces they are keeps them, before and after what wanted them is cleaned up. */
TEST(the_network_of_another_is_not_taken_away)
{
	_cleanup_free_ char *option = NULL, *check = NULL;
	_cleanup_cli_ struct cli r = {}, refused = {}, removed = {};

	ctd_start_with_network();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	check = xasprintf(
		"until busybox ping -c 1 -w 20 10.77.0.2; do :; done && nsenter -t %d -n ip link | grep sktap",
		ctd_process("skerry-holder"));
	ctd_sh(check);
	option = xasprintf("network:/proc/%d/ns/net", ctd_process("skerry-holder"));
	refused = ctr_run(NULL, "--with-ns", option, CTD_IMAGE, "c2", "true", NULL);
	ASSERT(refused.status != 0);
	ASSERT_CONTAINS(refused.err, "has been taken over");
	ctd_sh(check);
	removed = ctr("container", "rm", "c2", NULL);
	ctd_sh(check);
	ctd_remove("c1");
	ctd_nothing_left();
}

TEST(the_network_of_a_process_is_not_taken_away)
{
	_cleanup_cli_ struct cli r = {};
	_cleanup_free_ char *option = NULL, *check = NULL;
	int pid;

	ctd_start_with_network();
	pid = cli_spawn((const char *const[]){ "unshare", "--net", "sleep", "1000", NULL });
	check = xasprintf("ip link add skt1 type veth peer name skt2 && until test $(readlink /proc/%d/ns/net) != "
			  "$(readlink /proc/self/ns/net); do :; done && ip link set skt2 netns %d && nsenter -t %d -n "
			  "ip addr add 10.78.0.2/24 dev skt2 && nsenter -t %d -n ip link set skt2 up",
			  pid, pid, pid, pid);
	ctd_sh(check);
	option = xasprintf("network:/proc/%d/ns/net", pid);
	r = ctr_run(NULL, "--with-ns", option, CTD_IMAGE, "c1", "true", NULL);
	ASSERT(r.status != 0);
	ASSERT_CONTAINS(r.err, "is a process's");
	free(check);
	check = xasprintf("! nsenter -t %d -n ip link | grep sktap", pid);
	ctd_sh(check);
	ASSERT_OK(kill(pid, SIGKILL));
	(void)cli_wait(pid, 120);
	ctd_nothing_left();
}

/* Rules that a plugin made elsewhere are found by what it sees in the namespace. */
TEST(what_a_network_has_set_up_elsewhere_goes)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start_with_network();
	if (cli_wait(cli_spawn((const char *const[]){ "iptables", "-t", "nat", "-S", NULL }), 120) != 0)
		test_skip("there is no iptables");
	ctd_sh("sed -i 's/\"isGateway\"/\"ipMasq\":true,&/' cni/t.conflist");
	r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", CLI_SHELL, "ip -4 a show eth0", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "inet 10.77.0.");
	ctd_nothing_left();
	ctd_sh("! iptables -t nat -S | grep CNI-");
}

/* A shim is killed, and the plugin does not answer in the time that "delete" has. */
static void leave_a_lease(const char *id)
{
	_cleanup_free_ char *script =
		xasprintf("until ! test -e ctd-state/io.containerd.runtime.v2.task/%s/%s; do sleep 0.2; done",
			  ctd_namespace(), id);
	_cleanup_cli_ struct cli r = ctr_run(NULL, "-d", CTD_IMAGE, id, "sleep", "1000", NULL), d = {};

	ASSERT_STATUS(r, 0);
	ctd_sh("rm -f slept");
	ASSERT_OK(kill(ctd_process("skerry-shim"), SIGKILL));
	ctd_sh(script);
	ctd_sh("test -e slept");
	ASSERT_EQ(ctd_leases(), 1u);
	d = ctr("container", "rm", id, NULL);
	ASSERT_STATUS(d, 0);
}

TEST(an_address_that_was_not_taken_back_in_time_is_later)
{
	_cleanup_cli_ struct cli r = {}, recovered = {};

	ctd_start_with_network();
	ctd_sh("mkdir plugins && cp /usr/lib/cni/bridge /usr/lib/cni/host-local plugins/ && mount --bind plugins "
	       "/opt/cni/bin && "
	       "printf '#!/bin/sh\n[ $CNI_COMMAND = DEL ] && ! [ -e %s/slept ] && { touch %s/slept; exec sleep 30; }\n"
	       "exec /usr/lib/cni/bridge\n' $PWD $PWD >plugins/slow && chmod +x plugins/slow && "
	       "sed -i 's/\"type\":\"bridge\"/\"type\":\"slow\"/' cni/t.conflist");
	leave_a_lease("c1");
	/* A start gives it two seconds: where that is too little, it is for the next one. */
	for (uint64_t deadline = clock_monotonic_ns() + 120 * NS_PER_SEC; ctd_leases();) {
		ASSERT(clock_monotonic_ns() < deadline);
		cli_done(&r);
		r = ctr_run(NULL, "--rm", CTD_IMAGE, "c2", CLI_SHELL, "ip -4 a show eth0", NULL);
		ASSERT_STATUS(r, 0);
	}
	ctd_nothing_left();
	leave_a_lease("c3");
	recovered = cli("system", "recover", NULL);
	ASSERT_STATUS(recovered, 0);
	ASSERT_CONTAINS(recovered.out, "c3: its network took back what it had given");
	ctd_nothing_left();
}

TEST(a_killed_shims_address_is_given_back)
{
	_cleanup_cli_ struct cli r = {}, d = {};

	ctd_start_with_network();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_EQ(ctd_leases(), 1u);
	ASSERT_OK(kill(ctd_process("skerry-shim"), SIGKILL));
	ctd_nothing_left();
	d = ctr("container", "rm", "c1", NULL);
	ASSERT_STATUS(d, 0);
}

/* Neither the shim nor containerd is there to clean up. */
TEST(what_both_have_left_is_recovered)
{
	_cleanup_cli_ struct cli r = {}, recovered = {}, again = {}, d = {};
	int shim;

	ctd_start_with_network();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	recovered = cli("system", "recover", NULL);
	ASSERT_STATUS(recovered, 0);
	ASSERT_STREQ(recovered.out, "");
	cli_done(&recovered);
	shim = ctd_process("skerry-shim");
	ASSERT(shim > 0);
	ctd_stop(SIGKILL);
	cli_kill(shim);
	ASSERT(cli_processes_gone(120));
	ASSERT_EQ(ctd_leases(), 1u);
	recovered = cli("system", "recover", NULL);
	ASSERT_STATUS(recovered, 0);
	ASSERT_CONTAINS(recovered.out, "/c1: its shim was killed");
	ASSERT_EQ(ctd_leases(), 0u);
	again = cli("system", "recover", NULL);
	ASSERT_STATUS(again, 0);
	ASSERT_STREQ(again.out, "");
	ctd_restart();
	d = ctr("container", "rm", "c1", NULL);
	ASSERT_STATUS(d, 0);
	ctd_nothing_left();
}

TEST(the_network_may_come_before_the_start)
{
	_cleanup_free_ char *script = NULL;

	ctd_start_with_network();
	script = xasprintf("nsenter -t %d --net --mount ctr -a '%s/c.sock' run --rm --cni --runtime "
			   "io.containerd.skerry.v1 " CTD_IMAGE
			   " c1 sh -c 'ip -4 a show eth0; until ping -c1 -w10 10.77.0.1; do :; done'",
			   ctd_pid(), test_tmpdir());
	ctd_sh(script);
	ASSERT_EQ(ctd_leases(), 0u);
	ctd_nothing_left();
}
