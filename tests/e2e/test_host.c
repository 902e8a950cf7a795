/* What a machine gives back to its host, how it is reached from there, and how it ends by itself. */
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

enum { MIB = 1 << 20 };

/* @shape NULL: the usual one. */
static void make_shaped(const char *memory, const char *shape)
{
	_cleanup_cli_ struct cli create = {}, start = {};

	cli_home(true);
	create = cli("create", "m", "--image", "tiny", "--memory", memory, shape ? "--shape" : NULL, shape, NULL);
	ASSERT_STATUS(create, 0);
	start = cli("start", "--wait", "m", NULL);
	ASSERT_STATUS(start, 0);
}

static void make_running(const char *memory)
{
	make_shaped(memory, NULL);
}

static void in_guest(const char *script)
{
	_cleanup_cli_ struct cli r = cli("exec", "m", CLI_SHELL, script, NULL);

	ASSERT_STATUS(r, 0);
}

/* Resident memory of the engine, in MiB. */
static unsigned engine_mib(void)
{
	_cleanup_cli_ struct cli pid = cli("pid", "m", NULL);
	unsigned long pages_total = 0, pages = 0;
	char path[64];
	FILE *f;

	ASSERT_STATUS(pid, 0);
	pid.out[strcspn(pid.out, "\n")] = '\0';
	snprintf(path, sizeof(path), "/proc/%.20s/statm", pid.out);
	f = fopen(path, "re");
	ASSERT(f != NULL);
	ASSERT_EQ(fscanf(f, "%lu %lu", &pages_total, &pages), 2); /* lint: proc(5) */
	fclose(f);
	return (unsigned)(pages * (unsigned long)sysconf(_SC_PAGESIZE) / MIB);
}

TEST(memory_that_the_guest_freed_goes_back_to_the_host)
{
	unsigned full, now;

	make_running("256M");
	in_guest("mount -t tmpfs none /mnt && dd if=/dev/urandom of=/mnt/x bs=1M count=100 2>/dev/null");
	full = engine_mib();
	in_guest("rm /mnt/x");
	now = engine_mib();
	/* The guest reports free pages every two seconds. */
	for (int i = 0; i < 600 && now + 60 > full; i++) {
		(void)poll(NULL, 0, 200); /* lint: nothing announces this */
		now = engine_mib();
	}
	printf("# %u MiB, then %u MiB\n", full, now);
	ASSERT(now + 60 <= full);
}

static unsigned disk_mib(void)
{
	_cleanup_cli_ struct cli path = cli("path", "m", "system", NULL);
	struct stat st;

	ASSERT_STATUS(path, 0);
	path.out[strcspn(path.out, "\n")] = '\0';
	ASSERT_EQ(stat(path.out, &st), 0);
	return (unsigned)(st.st_blocks * 512 / MIB);
}

TEST(a_disk_shrinks_when_files_were_deleted)
{
	_cleanup_cli_ struct cli trim = {};
	unsigned full, now;

	make_running("128M");
	in_guest("dd if=/dev/urandom of=/big bs=1M count=60 2>/dev/null; sync");
	full = disk_mib();
	ASSERT(full >= 60);
	in_guest("rm /big; sync");
	trim = cli("disk", "trim", "m", NULL);
	ASSERT_STATUS(trim, 0);
	now = disk_mib();
	printf("# %u MiB, then %u MiB\n", full, now);
	ASSERT(now <= 10);
}

TEST(a_published_port_reaches_the_guest)
{
	_cleanup_cli_ struct cli run = {}, port = {}, get = {};
	char script[400], *colon;
	int number = 0;

	cli_home(true);
	run = cli("run", "-d", "--name", "m", "--publish", "0:8080", "tiny", "httpd", "-f", "-p", "8080", "-h", "/etc",
		  NULL);
	ASSERT_STATUS(run, 0);
	port = cli("port", "m", "--format", "json", NULL);
	ASSERT_STATUS(port, 0);
	colon = strstr(port.out, "127.0.0.1:");
	ASSERT(colon != NULL);
	ASSERT_EQ(sscanf(colon, "127.0.0.1:%d", &number), 1); /* lint: our own output */
	snprintf(script, sizeof(script),
		 "while [ $SECONDS -lt 200 ]; do exec 3<>/dev/tcp/127.0.0.1/%d && printf 'GET /hostname "
		 "HTTP/1.0\\r\\n\\r\\n' "
		 ">&3 && "
		 "timeout 20 cat <&3 | grep -x m && exit 0; sleep 0.2; done; exit 1",
		 number);
	get = cli_argv((const char *[]){ "bash", "-c", script, NULL }, NULL, 300);
	ASSERT_STATUS(get, 0);
}

/* In a network namespace with the usual rule; containers often have another. Prints the engine's capabilities. */
#define AS_ROOT_BELOW_1024                                                                                             \
	"ip link set lo up && echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start || exit 90\n"                   \
	"\"$0\" run -d --name m -p \"$1\":8080 tiny httpd -f -p 8080 -h /etc || exit 91\n"                             \
	"grep CapEff /proc/$(\"$0\" pid m)/status\n"                                                                   \
	"while [ $SECONDS -lt 200 ]; do exec 3<>/dev/tcp/127.0.0.1/\"$1\" && printf 'GET /hostname HTTP/1.0\r\n\r\n' " \
	">&3 && timeout 20 cat <&3 | grep -x m && break; sleep 0.2; done\n"                                            \
	"\"$0\" delete -y --force m"

TEST(root_publishes_a_port_that_is_root_s)
{
	static const char *const ports[] = { "80", "8080" };
	static const char *const capabilities[] = { "CapEff:\t0000000000000400\nm\n",
						    "CapEff:\t0000000000000000\nm\n" };

	if (geteuid() != 0)
		test_skip("needs root, whose ports these are");
	cli_home(true);
	for (size_t i = 0; i < 2; i++) {
		_cleanup_cli_ struct cli r =
			cli_argv((const char *[]){ "unshare", "-n", "bash", "-c", AS_ROOT_BELOW_1024, cli_skerry(),
						   ports[i], NULL },
				 NULL, 300);

		ASSERT_STATUS(r, 0);
		ASSERT_CONTAINS(r.out, capabilities[i]);
	}
}

TEST(a_port_that_is_taken_is_told_with_the_way_to_another)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	_cleanup_cli_ struct cli create = {}, start = {}, six = {};
	socklen_t n = sizeof(a);
	char publish[40];
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ASSERT_OK(bind(fd, (struct sockaddr *)&a, n));
	ASSERT_OK(listen(fd, 1));
	ASSERT_OK(getsockname(fd, (struct sockaddr *)&a, &n));
	snprintf(publish, sizeof(publish), "%u:80", ntohs(a.sin_port));
	cli_home(true);
	create = cli("create", "m", "--image", "tiny", "--publish", publish, NULL);
	ASSERT_STATUS(create, 0);
	start = cli("start", "m", NULL);
	ASSERT_STATUS(start, 75);
	ASSERT_CONTAINS(start.err, "is in use");
	ASSERT_CONTAINS(start.err, "skerry path m spec");
	close(fd);
	six = cli("create", "six", "--image", "tiny", "--publish", "[::1]:8080:80", NULL);
	ASSERT_STATUS(six, 64);
	ASSERT_CONTAINS(six.err, "IPv4 only");
}

static void assert_status_says(const char *word)
{
	_cleanup_cli_ struct cli r = cli("status", "m", NULL);

	ASSERT_CONTAINS(r.out, word);
}

static void reboots_and_powers_off(const char *shape)
{
	_cleanup_cli_ struct cli reboot = {}, off = {}, wait = {};

	make_shaped("128M", shape);
	in_guest("touch /mark; touch /run/volatile");
	reboot = cli("exec", "m", "reboot", NULL);
	for (int i = 0; i < 600; i++) {
		_cleanup_cli_ struct cli look =
			cli("exec", "m", CLI_SHELL, "test -e /mark && test ! -e /run/volatile", NULL);

		if (look.status == 0)
			break;
		if (i == 599) {
			_cleanup_cli_ struct cli inspect = cli("inspect", "m", NULL);

			test_fail(__FILE__, __LINE__, "status %d: %s%s", look.status, look.err, inspect.out);
		}
		(void)poll(NULL, 0, 200); /* lint: nothing announces this */
	}
	assert_status_says("running");
	off = cli("exec", "m", "poweroff", NULL);
	wait = cli("wait", "--timeout", "120", "m", NULL);
	ASSERT_STATUS(wait, 0);
	assert_status_says("powered off by the guest");
}

TEST(a_guest_reboots_and_powers_off_by_itself)
{
	reboots_and_powers_off("micro");
}

TEST(a_guest_of_the_larger_shape_reboots_and_powers_off_by_itself)
{
	reboots_and_powers_off("full");
}

TEST(a_panic_is_no_reboot_whatever_the_shape)
{
	static const char *const shapes[] = { "micro", "full" };

	for (size_t i = 0; i < 2; i++) {
		_cleanup_cli_ struct cli gone = {}, wait = {}, inspect = {}, rm = {};

		make_shaped("128M", shapes[i]);
		gone = cli("exec", "m", CLI_SHELL, "echo c >/proc/sysrq-trigger", NULL);
		wait = cli("wait", "--timeout", "120", "m", NULL);
		ASSERT_STATUS(wait, 0);
		assert_status_says("panic");
		assert_status_says("failed");
		inspect = cli("inspect", "m", NULL);
		ASSERT(!strstr(inspect.out, "\"restarts\": 1"));
		ASSERT(cli_processes_gone(120));
		rm = cli("delete", "-y", "m", NULL);
		ASSERT_STATUS(rm, 0);
	}
}

TEST(what_was_written_before_a_stop_outlives_a_guest_that_is_too_slow)
{
	_cleanup_cli_ struct cli run = {}, stop = {}, inspect = {}, start = {};

	cli_home(true);
	run = cli("run", "-d", "--name", "m", "tiny", CLI_SHELL, "trap '' TERM; while :; do sleep 1; done", NULL);
	ASSERT_STATUS(run, 0);
	in_guest("head -c 1000000 /dev/urandom >/root/file && sha256sum /root/file >/root/sum");
	/* In the guest a process is given five seconds. */
	stop = cli("stop", "--timeout", "4", "m", NULL);
	ASSERT_STATUS(stop, 0);
	inspect = cli("inspect", "m", NULL);
	ASSERT_CONTAINS(inspect.out, "stopped (quit)");
	start = cli("start", "--wait", "m", NULL);
	ASSERT_STATUS(start, 0);
	in_guest("sha256sum -c /root/sum");
}

TEST(the_restart_policy_brings_a_killed_machine_back)
{
	_cleanup_cli_ struct cli create = {}, start = {}, pid = {}, inspect = {};

	cli_home(true);
	create = cli("create", "m", "--image", "tiny", "--restart", "on-failure:1", NULL);
	ASSERT_STATUS(create, 0);
	start = cli("start", "--wait", "m", NULL);
	ASSERT_STATUS(start, 0);
	pid = cli("pid", "m", NULL);
	pid.out[strcspn(pid.out, "\n")] = '\0';
	cli_kill((int)strtol(pid.out, NULL, 10)); /* lint: our own program printed it */
	for (int i = 0; i < 600; i++) {
		_cleanup_cli_ struct cli again = cli("pid", "m", NULL);

		again.out[strcspn(again.out, "\n")] = '\0';
		if (again.status == 0 && strcmp(again.out, pid.out) != 0)
			break;
		ASSERT(i < 599);
		(void)poll(NULL, 0, 200); /* lint: nothing announces this */
	}
	inspect = cli("inspect", "m", NULL);
	ASSERT_CONTAINS(inspect.out, "\"restarts\": 1");
}

/* The last words of /proc/PID/cgroup's lines that name one of ours, or "". */
static char *engine_cgroup(const char *pid)
{
	char path[64], line[1024], *name = NULL;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.20s/cgroup", pid);
	f = fopen(path, "re");
	ASSERT(f != NULL);
	while (!name && fgets(line, sizeof(line), f)) {
		char *at = strstr(line, "/skerry-");

		line[strcspn(line, "\n")] = '\0';
		if (at)
			name = strdup(at + 1);
	}
	fclose(f);
	return name;
}

static int cgroups_named(const char *name)
{
	const char *argv[] = { "find", "/sys/fs/cgroup", "-type", "d", "-name", name, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, 60);
	int n = 0;

	for (const char *p = r.out; (p = strchr(p, '\n')); p++)
		n++;
	return n;
}

TEST(the_engine_has_a_cgroup_of_its_own_and_leaves_none)
{
	_cleanup_cli_ struct cli pid = {}, killed = {}, again = {}, stop = {};
	char *name;

	make_running("96M");
	pid = cli("pid", "m", NULL);
	ASSERT_STATUS(pid, 0);
	pid.out[strcspn(pid.out, "\n")] = '\0';
	name = engine_cgroup(pid.out);
	if (!name)
		test_skip("no cgroup of this host is left to us");
	ASSERT(cgroups_named(name) > 0);
	killed = cli("kill", "m", NULL);
	ASSERT_STATUS(killed, 0);
	ASSERT(cli_processes_gone(120));
	ASSERT_EQ(cgroups_named(name), 0);
	again = cli("start", "m", NULL);
	ASSERT_STATUS(again, 0);
	ASSERT(cgroups_named(name) > 0);
	/* Nobody is left to tidy up but the next command that looks. */
	{
		_cleanup_cli_ struct cli run = cli("path", "m", "run", NULL);
		const char *argv[] = { CLI_SHELL,
				       "kill -9 $(sed -n 's/.*\"\\(monitor\\|engine\\)_pid\": \\([0-9]*\\).*/\\2/p' "
				       "\"$0/state.json\")",
				       run.out, NULL };
		_cleanup_cli_ struct cli kill = {};

		run.out[strcspn(run.out, "\n")] = '\0';
		kill = cli_argv(argv, NULL, 120);
		ASSERT_STATUS(kill, 0);
	}
	ASSERT(cli_processes_gone(120));
	stop = cli("delete", "-y", "m", NULL);
	ASSERT_STATUS(stop, 0);
	ASSERT_EQ(cgroups_named(name), 0);
	free(name);
}
