/* Pods of a real containerd's CRI plugin, each in a virtual machine, driven as a kubelet does. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "containerd.h"
#include "cri.h"

enum { WAIT_S = 120 };

/* The parent of the pods' cgroups is a kubelet's; the test is ours. */
static void remove_parent(void)
{
	_cleanup_free_ char *script =
		xasprintf("find /sys/fs/cgroup -depth -type d '(' -path '*/skerry-test-pods-%d' -o -path "
			  "'*/skerry-test-pods-%d/*' ')' -exec rmdir {} ';'",
			  (int)getpid(), (int)getpid());

	(void)cli_wait(cli_spawn((const char *const[]){ CLI_SHELL, script, NULL }), 120);
}

static void begin(void)
{
	/* Before everything else: so it is the last that is done. */
	atexit(remove_parent);
	ctd_start_with_cri();
	cri_wait_ready();
}

/* No process, mount, address, network namespace or cgroup. */
static void nothing_left(void)
{
	_cleanup_free_ char *script =
		xasprintf("! find /sys/fs/cgroup -type d -path '*/skerry-test-pods-%d/*' | grep . && "
			  "! ls ctd-state/io.containerd.grpc.v1.cri/netns | grep . && "
			  "! ls ipam/t 2>/dev/null | grep '^10[.]' && ! ip -o link show type veth | grep .",
			  (int)getpid());

	ctd_nothing_left();
	ctd_sh(script);
}

static unsigned count(const char *name)
{
	_cleanup_free_ char *want = xasprintf(" %s\n", name);
	char all[16384];
	unsigned n = 0;

	(void)cli_processes(all, sizeof(all));
	for (const char *p = strstr(all, want); p; p = strstr(p + 1, want))
		n++;
	return n;
}

/* The plugin writes in its own time what containers have said. */
static void expect_log(const char *name, const char *text)
{
	_cleanup_free_ char *path = xasprintf("%s/logs/%s.log", test_tmpdir(), name);
	uint64_t deadline_ns = clock_monotonic_ns() + WAIT_S * NS_PER_SEC;

	for (;;) {
		_cleanup_buf_ struct buf log = {};

		ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &log));
		if (log.len && strstr(log.p, text))
			return;
		if (clock_monotonic_ns() > deadline_ns)
			test_fail(__FILE__, __LINE__, "no '%s' in the log, but: %s", text, log.len ? log.p : "");
		(void)usleep(50000); /* lint: the plugin does not tell when it has written */
	}
}

/* What the plugin is told of a container's end and what it is told of the kernel's doing come by two ways. */
static void expect_end(const char *container, int code, const char *expected)
{
	uint64_t deadline_ns = clock_monotonic_ns() + WAIT_S * NS_PER_SEC;

	for (;;) {
		_cleanup_free_ char *reason = NULL;

		ASSERT_EQ(cri_wait_exit(container, &reason), code);
		if (streq(reason, expected))
			return;
		if (clock_monotonic_ns() > deadline_ns)
			test_fail(__FILE__, __LINE__, "not %s, but: %s", expected, reason);
		(void)usleep(50000); /* lint: the plugin has no call that waits */
	}
}

/* The host's neighbour tables give up sooner than a busy guest answers. */
#define PING "until busybox ping -c 1 -W 20 %s >/dev/null; do sleep 1; done"

static void check_exec(const char *container, const char *script, const char *expected)
{
	int code;
	_cleanup_free_ char *out = cri_exec(container, script, &code, NULL);

	ASSERT_EQ(code, 0);
	ASSERT_STREQ(out, expected);
}

TEST(a_pods_containers_share_one_machine)
{
	static const struct cri_pod pod = { .name = "web" };
	_cleanup_free_ char *id = NULL, *server = NULL, *client = NULL, *address = NULL, *from_host = NULL;

	begin();
	id = cri_run_pod(&pod);
	address = cri_pod_address(id);
	ASSERT(after_prefix(address, "10.77.0."));
	server = cri_start(&pod, id, "server", "hostname; exec nc -ll -p 7000 -e echo from the server", 0);
	client = cri_start(&pod, id, "client", "echo out; echo err >&2; exec sleep 1000", 0);
	/* What stands for the pod has no machine, nor a process in it, of its own. */
	ASSERT_EQ(count("qemu-system-x86"), 1);
	ASSERT_EQ(count("skerry-shim"), 1);
	cri_exec_until(client, "nc -w 60 127.0.0.1 7000 </dev/null | grep -q 'from the server'");
	check_exec(client, "hostname", "web\n");
	check_exec(server, "hostname", "web\n");
	/* What they share as memory is the guest's, of the size that the plugin has made it. */
	check_exec(server, "echo shared >/dev/shm/f; stat -f -c %T /dev/shm", "tmpfs\n");
	check_exec(client, "cat /dev/shm/f; stat -f -c %T /dev/shm; df -k /dev/shm | awk 'NR == 2 { print $2 }'",
		   "shared\ntmpfs\n65536\n");
	/* Each has its own files, processes and cgroup, and the pod's address. */
	check_exec(server, "touch /tmp/mine; pidof sleep; true", "");
	check_exec(client, "ls /tmp; pidof nc; true", "");
	from_host =
		xasprintf(PING " && busybox nc -w 60 %s 7000 </dev/null | grep -q 'from the server'", address, address);
	ctd_sh(from_host);
	expect_log("client", " stdout F out\n");
	expect_log("client", " stderr F err\n");
	ASSERT(cri_pod_ready(id));
	cri_remove_pod(id);
	nothing_left();
}

TEST(processes_join_with_their_output_and_exit_code)
{
	static const struct cri_pod pod = { .name = "exec" };
	_cleanup_free_ char *id = NULL, *k = NULL, *out = NULL, *err = NULL, *big = NULL;
	int code;

	begin();
	id = cri_run_pod(&pod);
	k = cri_start(&pod, id, "one", "exec sleep 1000", 0);
	out = cri_exec(k, "echo out; echo err >&2; exit 42", &code, &err);
	ASSERT_EQ(code, 42);
	ASSERT_STREQ(out, "out\n");
	ASSERT_STREQ(err, "err\n");
	big = cri_exec(k, "head -c 1000000 /dev/zero | tr '\\0' x", &code, NULL);
	ASSERT_EQ(code, 0);
	ASSERT_EQ(strlen(big), 1000000);
	for (int i = 0; i < 10; i++)
		check_exec(k, "echo again", "again\n");
	check_exec(k, "ulimit -Hn; ulimit -Sn", "1048576\n1048576\n");
	cri_remove_pod(id);
	nothing_left();
}

TEST(a_pod_may_share_its_processes)
{
	static const struct cri_pod pod = { .name = "pids", .shared_pids = true };
	static const struct cri_pod apart = { .name = "apart" };
	_cleanup_free_ char *a = NULL, *b = NULL, *one = NULL, *two = NULL, *three = NULL, *four = NULL;

	begin();
	a = cri_run_pod(&pod);
	one = cri_start(&pod, a, "one", "exec sleep 1234", 0);
	two = cri_start(&pod, a, "two", "exec sleep 1000", 0);
	cri_exec_until(two, "ps | grep -q '[s]leep 1234'");
	check_exec(two, "ps | grep -c '[s]leep 1234'", "1\n");
	b = cri_run_pod(&apart);
	three = cri_start(&apart, b, "three", "exec sleep 1234", 0);
	four = cri_start(&apart, b, "four", "exec sleep 1000", 0);
	check_exec(four, "ps | grep -c '[s]leep 1234'; true", "0\n");
	ASSERT_EQ(count("qemu-system-x86"), 2);
	cri_remove_pod(a);
	cri_remove_pod(b);
	nothing_left();
}

TEST(containers_come_and_go_while_the_pod_stays)
{
	static const struct cri_pod pod = { .name = "stays" };
	static const char *const missing[] = { "/nonexistent", NULL };
	_cleanup_grpc_ struct grpc_answer a = {};
	_cleanup_free_ char *id = NULL, *k = NULL;
	int qemu;

	begin();
	id = cri_run_pod(&pod);
	k = cri_start(&pod, id, "main", "exec sleep 1000", 0);
	qemu = ctd_process("qemu-system-x86");
	for (int i = 0; i < 3; i++) {
		_cleanup_free_ char *name = xasprintf("job%d", i), *script = xasprintf("echo job; exit %d", i);
		_cleanup_free_ char *job = cri_start(&pod, id, name, script, 0);

		ASSERT_EQ(cri_wait_exit(job, NULL), i);
		cri_remove(job);
	}
	expect_log("job2", " stdout F job\n");
	a = cri_try_start(&pod, id, "broken", missing);
	ASSERT(a.status > 0);
	ASSERT_CONTAINS(a.text, "/nonexistent");
	/* TERM means nothing to a PID 1 that does not ask for it. */
	cri_stop(k, 1);
	ASSERT_EQ(cri_wait_exit(k, NULL), 137);
	cri_remove(k);
	ASSERT(cri_pod_ready(id));
	ASSERT_EQ(ctd_process("qemu-system-x86"), qemu);
	cri_remove_pod(id);
	nothing_left();
}

TEST(what_a_removed_container_wrote_is_free_again)
{
	static const struct cri_pod pod = { .name = "crashes" };
	_cleanup_free_ char *id = NULL, *k = NULL, *job = NULL, *held = NULL, *freed = NULL;
	int pid;

	begin();
	id = cri_run_pod(&pod);
	k = cri_start(&pod, id, "main", "exec sleep 1000", 0);
	job = cri_start(&pod, id, "job",
			"for i in 1 2 3 4 5; do dd if=/dev/zero of=/large-$i bs=1M count=10 2>/dev/null; cat /large-$i "
			">/dev/null; done",
			0);
	ASSERT_EQ(cri_wait_exit(job, NULL), 0);
	/* It has a process of its own for its files. */
	pid = ctd_process("virtiofsd");
	held = xasprintf("ls -l /proc/%d/fd $(sed 's|[0-9]*|/proc/&/fd|' /proc/%d/task/%d/children) | grep -q large-",
			 pid, pid, pid);
	/* Whether it has them until then is a matter of time: the guest forgets what it last looked up more than a second before. */
	freed = xasprintf("while %s; do sleep 0.1; done", held);
	cri_remove(job);
	ctd_sh(freed);
	check_exec(k, "echo still here", "still here\n");
	cri_remove_pod(id);
	nothing_left();
}

TEST(a_volume_that_was_mounted_after_the_pods_start_is_seen)
{
	_cleanup_free_ char *volume = xasprintf("%s/secret", test_tmpdir());
	struct cri_pod pod = { .name = "volume" };
	_cleanup_free_ char *id = NULL, *k = NULL;

	begin();
	id = cri_run_pod(&pod);
	ctd_sh("mkdir secret && mount -t tmpfs secret secret && echo hidden >secret/key");
	pod.volume = volume;
	k = cri_start(&pod, id, "one", "exec sleep 1000", 0);
	check_exec(k, "cat /volume/key; touch /volume/x 2>/dev/null || echo read-only", "hidden\nread-only\n");
	/* As a kubelet does when a secret has changed: another file takes the name. */
	ctd_sh("echo other >secret/new && mv secret/new secret/key");
	cri_exec_until(k, "grep -q other /volume/key");
	cri_remove_pod(id);
	ctd_sh("umount secret");
	nothing_left();
}

TEST(limits_hold_and_what_is_used_is_told)
{
	static const struct cri_pod pod = { .name = "limits", .memory_bytes = 256 << 20, .cpu_quota = 100000 };
	_cleanup_free_ char *id = NULL, *k = NULL, *greedy = NULL, *big = NULL;
	uint64_t cpu_ns, memory_bytes, before_ns;
	int code;

	begin();
	id = cri_run_pod(&pod);
	k = cri_start(&pod, id, "modest", "exec sleep 1000", 64 << 20);
	greedy = cri_start(&pod, id, "greedy", "exec tail /dev/zero", 32 << 20);
	expect_end(greedy, 137, "OOMKilled");
	/* The machine is what the pod's containers were promised, and what its kernel needs. */
	big = cri_exec(k, "nproc; awk '/MemTotal/ { print ($2 > 200000 && $2 < 400000) }' /proc/meminfo", &code, NULL);
	ASSERT_EQ(code, 0);
	ASSERT_STREQ(big, "1\n1\n");
	cri_usage(k, &before_ns, &memory_bytes);
	ASSERT(memory_bytes > 0 && memory_bytes < 64 << 20);
	free(cri_exec(k, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done", &code, NULL));
	ASSERT_EQ(code, 0);
	cri_usage(k, &cpu_ns, &memory_bytes);
	ASSERT(cpu_ns > before_ns);
	cri_pod_usage(id, &cpu_ns, &memory_bytes);
	ASSERT(cpu_ns > 0 && memory_bytes > 0);
	cri_limit_memory(k, 48 << 20);
	check_exec(k, "cat /sys/fs/cgroup/memory.max", "50331648\n");
	cri_remove_pod(id);
	nothing_left();
}

TEST(a_killed_machine_is_reported)
{
	static const char *const victims[] = { "qemu-system-x86", "skerry-shim" };

	begin();
	for (size_t i = 0; i < ARRAY_SIZE(victims); i++) {
		static const struct cri_pod pod = { .name = "victim" };
		_cleanup_free_ char *id = cri_run_pod(&pod);
		_cleanup_free_ char *k = cri_start(&pod, id, "one", "exec sleep 1000", 0);
		uint64_t deadline_ns;
		int pid = ctd_process(victims[i]);

		ASSERT(pid > 0);
		ASSERT_OK(kill(pid, SIGKILL));
		/* That of a shim that is gone is not known. */
		ASSERT_EQ(cri_wait_exit(k, NULL), streq(victims[i], "skerry-shim") ? 255 : 137);
		deadline_ns = clock_monotonic_ns() + WAIT_S * NS_PER_SEC;
		while (cri_pod_ready(id)) {
			ASSERT(clock_monotonic_ns() < deadline_ns);
			(void)usleep(100000); /* lint: the plugin has no call that waits */
		}
		cri_remove_pod(id);
		nothing_left();
	}
}

TEST(a_restarted_containerd_finds_its_pods)
{
	static const struct cri_pod pod = { .name = "restart" };
	_cleanup_free_ char *id = NULL, *k = NULL, *again = NULL;

	begin();
	id = cri_run_pod(&pod);
	k = cri_start(&pod, id, "one", "exec sleep 1000", 0);
	ctd_stop(SIGKILL);
	ctd_restart();
	cri_wait_ready();
	ASSERT(cri_pod_ready(id));
	ASSERT_EQ(cri_state(k), CRI__CONTAINER_STATE__RUNNING);
	check_exec(k, "echo still here", "still here\n");
	again = cri_start(&pod, id, "two", "echo new; exec sleep 1000", 0);
	check_exec(again, "hostname", "restart\n");
	cri_remove_pod(id);
	nothing_left();
}

TEST(a_pod_on_the_hosts_network_has_the_users)
{
	static const struct cri_pod pod = { .name = "host", .host_network = true };
	_cleanup_free_ char *id = NULL, *k = NULL;

	begin();
	id = cri_run_pod(&pod);
	k = cri_start(&pod, id, "one", "exec sleep 1000", 0);
	check_exec(k, "ip -4 -o a show eth0 | grep -c 10.0.2.15", "1\n");
	cri_remove_pod(id);
	nothing_left();
}

TEST(a_pod_may_have_no_network_but_none_that_leads_round_its_own)
{
	static const struct cri_pod none = { .name = "none", .annotation = "io.skerry.network", .value = "none" },
				    user = { .name = "user", .annotation = "io.skerry.network", .value = "user" };
	_cleanup_free_ char *id = NULL, *k = NULL;
	_cleanup_grpc_ struct grpc_answer a = {};

	begin();
	id = cri_run_pod(&none);
	k = cri_start(&none, id, "one", "exec sleep 1000", 0);
	check_exec(k, "ls /sys/class/net", "lo\n");
	cri_remove_pod(id);
	a = cri_try_pod(&user);
	ASSERT(a.status != 0);
	ASSERT_CONTAINS(a.text, "io.skerry.network: 'user' would lead round");
	nothing_left();
}

/* As of a kubelet with systemd's driver, whose slice is within others of which containerd tells nothing. */
TEST(a_pods_slice_is_where_its_machine_is)
{
	_cleanup_free_ char *parent = xasprintf("/skt%d.slice/skt%d-pod.slice", (int)getpid(), (int)getpid());
	_cleanup_free_ char *make = NULL, *check = NULL, *remove = NULL, *id = NULL;
	struct cri_pod pod = { .name = "slice", .parent = parent };

	begin();
	make = xasprintf("m=/sys/fs/cgroup/memory; [ -d $m ] || m=/sys/fs/cgroup; mkdir -p $m%s", parent);
	ctd_sh(make);
	id = cri_run_pod(&pod);
	check = xasprintf("grep '^[0-9]*:memory:\\|^0::/.' /proc/%d/cgroup | grep -q ':%s/cri-containerd-%s.scope$'",
			  ctd_process("qemu-system-x86"), parent, id);
	ctd_sh(check);
	cri_remove_pod(id);
	nothing_left();
	/* What was there stays. */
	remove = xasprintf("m=/sys/fs/cgroup/memory; [ -d $m ] || m=/sys/fs/cgroup; rmdir $m%s && "
			   "rmdir $m/skt%d.slice && ! find /sys/fs/cgroup -type d -path '*/skt%d.slice*' | grep .",
			   parent, (int)getpid(), (int)getpid());
	ctd_sh(remove);
}

/* Where the class says sandboxer = "shim" there is no container that stands for the pod: containerd 2.x speaks of it to the shim alone. */
TEST(a_pod_may_be_left_to_the_shim)
{
	static const struct cri_pod pod = { .name = "alone",
					    .handler = "skerry-shim",
					    .name_server = "10.77.0.9",
					    .memory_bytes = 256 << 20,
					    .cpu_quota = 100000,
					    .oom_score = 500 };
	static const struct cri_pod wrong = {
		.name = "wrong", .handler = "skerry-shim", .annotation = "io.skerry.shape", .value = "round"
	};
	_cleanup_free_ char *id = NULL, *server = NULL, *client = NULL, *address = NULL, *from_host = NULL,
			    *scores = NULL;
	_cleanup_grpc_ struct grpc_answer refused = {};
	uint64_t cpu_ns, memory_bytes;
	int qemu;

	if (!getenv("SKERRY_TEST_SECOND"))
		test_skip("containerd 2.x has sandboxers");
	ctd_configure("[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.skerry-shim]\n"
		      "runtime_type = 'io.containerd.skerry.v1'\nsandboxer = 'shim'\n"
		      "pod_annotations = ['io.skerry.*']\n");
	begin();
	id = cri_run_pod(&pod);
	address = cri_pod_address(id);
	ASSERT(after_prefix(address, "10.77.0."));
	server = cri_start(&pod, id, "server", "hostname; exec nc -ll -p 7000 -e echo from the server", 0);
	client = cri_start(&pod, id, "client", "echo out; echo err >&2; exec sleep 1000", 64 << 20);
	ASSERT_EQ(count("qemu-system-x86"), 1);
	ASSERT_EQ(count("skerry-shim"), 1);
	cri_exec_until(client, "nc -w 60 127.0.0.1 7000 </dev/null | grep -q 'from the server'");
	check_exec(server, "hostname; touch /tmp/mine", "alone\n");
	check_exec(client, "hostname; ls /tmp; pidof nc; true", "alone\n");
	/* As large as the pod's limits, not as a machine that nothing is said of. */
	check_exec(client, "nproc; awk '/MemTotal/ { print ($2 > 200000 && $2 < 400000) }' /proc/meminfo", "1\n1\n");
	/* What containerd has files for where it makes the sandbox itself. */
	check_exec(client, "cat /etc/resolv.conf; grep -c ' /dev/shm ' /proc/mounts",
		   "nameserver 10.77.0.9\nsearch pods.test\noptions ndots:5\n1\n");
	check_exec(client,
		   "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; cut -f 2 /proc/sys/net/ipv4/ping_group_range",
		   "0\n2147483647\n");
	from_host = xasprintf(PING, address);
	ctd_sh(from_host);
	/* The host's kernel ends it where it would end its containers. */
	scores = xasprintf("cat /proc/%d/oom_score_adj | grep -qx 500 && cat /proc/%d/oom_score_adj | grep -qx 500",
			   ctd_process("qemu-system-x86"), ctd_process("virtiofsd"));
	ctd_sh(scores);
	expect_log("client", " stdout F out\n");
	expect_log("client", " stderr F err\n");
	cri_usage(client, &cpu_ns, &memory_bytes);
	ASSERT(memory_bytes > 0);
	/* One goes and another comes, in the same machine; also past containerd's restart. */
	qemu = ctd_process("qemu-system-x86");
	cri_stop(server, 1);
	cri_remove(server);
	ctd_stop(SIGKILL);
	ctd_restart();
	cri_wait_ready();
	ASSERT(cri_pod_ready(id));
	free(server);
	server = cri_start(&pod, id, "again", "exit 7", 0);
	ASSERT_EQ(cri_wait_exit(server, NULL), 7);
	ASSERT_EQ(ctd_process("qemu-system-x86"), qemu);
	refused = cri_try_pod(&wrong);
	ASSERT(refused.status > 0);
	ASSERT_CONTAINS(refused.text, "io.skerry.shape");
	cri_remove_pod(id);
	nothing_left();
}

TEST(a_pod_that_cannot_run_says_why_and_leaves_nothing)
{
	static const struct cri_pod pod = { .name = "wrong", .annotation = "io.skerry.shape", .value = "round" };
	_cleanup_grpc_ struct grpc_answer a = {};

	begin();
	a = cri_try_pod(&pod);
	ASSERT(a.status > 0);
	ASSERT_CONTAINS(a.text, "io.skerry.shape");
	nothing_left();
}
