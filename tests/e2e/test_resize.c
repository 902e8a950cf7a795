/* Machines that become larger and smaller while their containers run: as limits say, and as load does. */
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "containerd.h"
#include "cri.h"

enum { WAIT_S = 120 };

/* Before containerd starts, whose environment tells where the file is. */
static void configure(const char *text)
{
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *assignment = xasprintf("SKERRY_CONFIG=%s/shim.yaml", test_tmpdir());

	ASSERT_OK(file_write_at(dir, "shim.yaml", text, strlen(text), 0600, 0));
	cli_setenv(assignment);
}

/* @script in the container c1: what it prints. */
static char *look(const char *script)
{
	static int n; /* lint: names of processes are used once */
	_cleanup_free_ char *exec_id = xasprintf("e%d", ++n);
	_cleanup_cli_ struct cli r = ctr("task", "exec", "--exec-id", exec_id, "c1", CLI_SHELL, script, NULL);

	ASSERT_STATUS(r, 0);
	return xstrdup(r.out);
}

static void wait_for(const char *script, const char *expected)
{
	uint64_t deadline = clock_monotonic_ns() + WAIT_S * NS_PER_SEC;

	for (;;) {
		_cleanup_free_ char *is = look(script);

		if (streq(is, expected))
			return;
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "%s: still %s", script, is);
		(void)usleep(3000000); /* lint: the guest's kernel tells nobody; and whoever looks is a load himself */
	}
}

static void end_container(void)
{
	_cleanup_cli_ struct cli a = ctr("task", "rm", "-f", "c1", NULL), b = ctr("container", "rm", "c1", NULL);

	ASSERT_STATUS(a, 0);
	ASSERT_STATUS(b, 0);
	ctd_nothing_left();
}

/* Whether the machine's memory in MiB, less what is in its balloon, is between these two. */
#define GUEST_MIB                                                                                           \
	"t=$(awk '/MemTotal/ { print int($2/1024) }' /proc/meminfo); "                                      \
	"b=$(awk '/^balloon_inflate / { i=$2 } /^balloon_deflate / { d=$2 } END { print int((i-d)/256) }' " \
	"/proc/vmstat); "                                                                                   \
	"m=$((t-b)); "

/* @more: of the section, beside the policy. */
static void check_processors(const char *more)
{
	_cleanup_cli_ struct cli r = {};
	_cleanup_free_ char *config =
		xasprintf("containerd:\n%s  cpu_hotplug:\n    enable: true\n    monitor_interval: 500ms\n"
			  "    scale_up_cooldown: 1s\n    scale_down_cooldown: 2s\n    scale_down_stability: 3\n",
			  more);

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		test_skip("there is one processor only");
	configure(config);
	ctd_start();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", CLI_SHELL,
		    "while :; do if [ -e /tmp/burn ]; then i=0; while [ $i -lt 5000 ]; do i=$((i+1)); done; else "
		    "sleep 1; fi; done",
		    NULL);
	ASSERT_STATUS(r, 0);
	wait_for("nproc; cat /sys/devices/system/cpu/online", "1\n0\n");
	free(look("touch /tmp/burn"));
	wait_for("nproc; cat /sys/devices/system/cpu/online", "2\n0-1\n");
	free(look("rm /tmp/burn"));
	wait_for("nproc; cat /sys/devices/system/cpu/online", "1\n0\n");
	end_container();
}

TEST(processors_follow_the_load)
{
	check_processors("");
}

TEST(processors_follow_the_load_on_the_other_shape)
{
	check_processors("  shape: full\n");
}

TEST(processors_follow_the_load_with_a_distributions_kernel)
{
	check_processors("  kernel: debian\n");
}

static void check_memory(const char *more)
{
	_cleanup_cli_ struct cli r = {};
	_cleanup_free_ char *config = xasprintf(
		"containerd:\n%s  memory: 1G\n  memory_hotplug:\n    enable: true\n    monitor_interval: 500ms\n"
		"    scale_up_cooldown: 1s\n    scale_down_cooldown: 2s\n    scale_up_stability: 1\n"
		"    scale_down_stability: 3\n    min_memory: 256M\n    increment_size: 64M\n    oom_safety_margin: "
		"64M\n",
		more);

	configure(config);
	ctd_start();
	r = ctr_run(NULL, "-d", CTD_IMAGE, "c1", "sleep", "1000", NULL);
	ASSERT_STATUS(r, 0);
	/* What looks is something that runs there too: a step more than the least may be what it keeps. */
	wait_for(GUEST_MIB "[ $m -lt 400 ] && echo small || echo $m", "small\n");
	/* More at once than it has: the balloon gives way, nobody is killed. */
	cli_done(&r);
	r = ctr("task", "exec", "--detach", "--exec-id", "eater", "c1", CLI_SHELL,
		"dd if=/dev/zero bs=400M count=1 | (until [ -e /tmp/enough ]; do sleep 1; done; head -c 1 | wc -c "
		">/tmp/eaten)",
		NULL);
	ASSERT_STATUS(r, 0);
	wait_for(GUEST_MIB "[ $m -gt 500 ] && echo large || echo $m", "large\n");
	free(look("touch /tmp/enough"));
	wait_for("cat /tmp/eaten || true", "1\n");
	wait_for(GUEST_MIB "[ $m -lt 400 ] && echo small || echo $m", "small\n");
	end_container();
}

TEST(memory_follows_what_is_used)
{
	check_memory("");
}

TEST(memory_follows_what_is_used_with_a_distributions_kernel)
{
	check_memory("  kernel: debian\n");
}

TEST(a_wrong_file_is_said_and_nothing_starts)
{
	_cleanup_cli_ struct cli r = {};

	configure("containerd:\n  cpu_hotplug:\n    scale_up_threshold: much\n");
	ctd_start();
	r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", "true", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.err, "shim.yaml: containerd.cpu_hotplug.scale_up_threshold: expected a number from 1 to 100");
	ctd_nothing_left();
	/* Right again, it is taken at once. */
	configure("containerd:\n  cpus: 1\n  memory: 200M\n");
	cli_done(&r);
	r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", CLI_SHELL,
		    "nproc; awk '/MemTotal/ { print ($2 < 200*1024) }' /proc/meminfo", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "1\n1\n");
	ctd_nothing_left();
}

static void is_updated(const char *container, int64_t cpu_quota, int64_t memory_bytes)
{
	_cleanup_grpc_ struct grpc_answer a = cri_try_update(container, cpu_quota, memory_bytes);

	if (a.status != 0)
		test_fail(__FILE__, __LINE__, "update: %d: %s", a.status, a.text);
}

static void check_exec(const char *container, const char *script, const char *expected)
{
	int code;
	_cleanup_free_ char *is = cri_exec(container, script, &code, NULL);

	ASSERT_EQ(code, 0);
	ASSERT_STREQ(is, expected);
}

TEST(a_larger_limit_makes_a_larger_machine)
{
	static const struct cri_pod pod = { .name = "grows", .memory_bytes = 64 << 20, .cpu_quota = 100000 };
	_cleanup_free_ char *id = NULL, *k = NULL;
	_cleanup_grpc_ struct grpc_answer a = {};

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		test_skip("there is one processor only");
	configure("containerd:\n  max_memory: 512M\n");
	ctd_start_with_cri();
	cri_wait_ready();
	id = cri_run_pod(&pod);
	k = cri_start(&pod, id, "one", "exec sleep 1000", 64 << 20);
	check_exec(k, "nproc", "1\n");
	cri_exec_until(k, GUEST_MIB "test $m -lt 200");
	is_updated(k, 200000, 300 << 20);
	/* The guest's kernel lets what runs use a new processor when it comes to it. */
	cri_exec_until(k, "test $(nproc) = 2");
	check_exec(k, "nproc; cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/cpu.max", "2\n314572800\n200000 100000\n");
	cri_exec_until(k, GUEST_MIB "test $m -gt 300");
	check_exec(k, "dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null && echo there", "there\n");
	/* And smaller, as far as the pod was promised. */
	is_updated(k, 50000, 64 << 20);
	cri_exec_until(k, "test $(nproc) = 1");
	cri_exec_until(k, GUEST_MIB "test $m -lt 200");
	a = cri_try_update(k, 0, 2000 << 20);
	ASSERT(a.status > 0);
	ASSERT_CONTAINS(a.text, "the machine can have 512 (containerd.max_memory in ");
	check_exec(k, "cat /sys/fs/cgroup/memory.max", "67108864\n");
	cri_remove_pod(id);
}
