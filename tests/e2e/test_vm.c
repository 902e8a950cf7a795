/* skerry-vm as a program: what it does inside of any container, without one. (tests with a real docker: test_vm_docker.c) */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli.h"
#include "terminal.h"

/* A test has its port and the one after it. */
enum { UP_S = 600, ENDED_S = 300, PORT_FIRST = 20000, PORTS = 3999 };

static char *at(const char *name)
{
	return xasprintf("%s/%s", test_tmpdir(), name);
}

static struct cli script(const char *text)
{
	const char *argv[] = { CLI_SHELL, text, NULL };

	return cli_argv(argv, NULL, UP_S);
}

static void good(const char *text)
{
	_cleanup_cli_ struct cli r = script(text);

	ASSERT_STATUS(r, 0);
}

static char *contents(const char *name)
{
	_cleanup_free_ char *path = at(name);
	struct buf b = {};

	(void)file_read_at(AT_FDCWD, path, 4 << 20, &b);
	buf_adds(&b, "");
	return buf_take(&b);
}

static void set(const char *fmt, const char *value)
{
	_cleanup_free_ char *text = xasprintf("%s%s", fmt, value);

	cli_setenv(text);
}

/* Other tests have other ranges; those that the kernel gives out begin above all of them. */
static unsigned port(void)
{
	return PORT_FIRST + (unsigned)getpid() % PORTS;
}

/* The volume is this test's home; the base is the disk of the image 'debian' in it. */
static void prepare(void)
{
	_cleanup_free_ char *ports = xasprintf("127.0.0.1:%u:22", port()), *key = NULL, *out = NULL;
	_cleanup_cli_ struct cli image = {};

	set("SKERRY_RUN_DIR=", test_tmpdir());
	cli_home(true);
	image = cli("image", "inspect", "debian", NULL);
	if (image.status != 0)
		test_skip("the store has no image 'debian'");
	set("T=", test_tmpdir());
	set("VM=", VM_PROGRAM);
	set("PORT=", ports);
	set("PATH=", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
	good("mkdir $T/bin $T/base && ln -s \"$SKERRY_TEST_BIN\" $T/bin/skerry && ssh-keygen -q -t ed25519 -N '' -f "
	     "$T/key && "
	     "ln $(grep -l '\"recipe debian' $SKERRY_HOME/images/disks/*/meta.json | xargs dirname)/disk.raw "
	     "$T/base/base.img 2>/dev/null || "
	     "cp --sparse=always $(grep -l '\"recipe debian' $SKERRY_HOME/images/disks/*/meta.json | xargs "
	     "dirname)/disk.raw $T/base/base.img");
	out = xasprintf("PATH=%s/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", test_tmpdir());
	cli_setenv(out);
	key = contents("key.pub");
	set("SSH_KEYS=", key);
	set("PORTS=", ports);
	set("BOOT=", test_tmpdir());
	good("true");
	{
		_cleanup_free_ char *boot = at("base/base.img");

		set("BOOT=", boot);
	}
	cli_setenv("MEMORY=512m");
	cli_setenv("STORAGE=17g");
	cli_setenv("HOSTNAME_=harbour");
	cli_setenv("USER=ann");
	/* Emulated, on a busy host: a guest that shuts down is not cut short. */
	cli_setenv("STOP_TIMEOUT=250");
}

static int start(void)
{
	const char *argv[] = { CLI_SHELL, "exec \"$VM\" </dev/null >>$T/out 2>>$T/err", NULL };

	return cli_spawn(argv);
}

static void wait_up(void)
{
	uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;

	for (;;) {
		_cleanup_cli_ struct cli r = script("\"$VM\" healthcheck");
		_cleanup_free_ char *err = NULL;

		if (r.status == 0)
			return;
		err = contents("err");
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "not up: %s%s", r.out, err);
		(void)usleep(200000); /* lint: as a container's health check is done, again and again */
	}
}

/* As a user would log in; a test's own known hosts. */
#define SSH                                                                                 \
	"ssh -q -F none -i $T/key -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o " \
	"UserKnownHostsFile=$T/known -o ConnectTimeout=30 -p ${PORT#127.0.0.1:} ann@127.0.0.1 "

static struct cli in_guest(const char *command)
{
	_cleanup_free_ char *line = xasprintf("PORT=${PORT%%:22}; " SSH "'%s'", command);
	uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;

	for (;;) {
		struct cli r = script(line);

		/* The agent answers before sshd does. */
		if (r.status != 255 || clock_monotonic_ns() > deadline)
			return r;
		cli_done(&r);
		(void)usleep(200000); /* lint: sshd does not say when */
	}
}

/* For what ends the guest: the connection may end with it before the command's status is told. Until it was told, or nobody is up who could tell it. */
static void tell_guest(const char *command)
{
	_cleanup_free_ char *line = xasprintf("PORT=${PORT%%:22}; " SSH "'%s'", command);
	uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;

	for (;;) {
		_cleanup_cli_ struct cli r = script(line), health = {};

		if (r.status != 255)
			return;
		health = script("\"$VM\" healthcheck");
		if (health.status != 0)
			return;
		ASSERT(clock_monotonic_ns() < deadline);
		(void)usleep(200000); /* lint: a guest that ends does not say how far it is */
	}
}

static void stop(int pid, int expected)
{
	int status;

	ASSERT_OK(kill(pid, SIGTERM));
	status = cli_wait(pid, ENDED_S);
	if (status != expected) {
		_cleanup_free_ char *err = contents("err");

		test_fail(__FILE__, __LINE__, "status %d, expected %d: %s", status, expected, err);
	}
}

/* Processes of this test's home, by their names. */
#define KILL(names)                                                                                                 \
	"for p in $(grep -lz \"^SKERRY_HOME=$SKERRY_HOME\\$\" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do " \
	"case $(cat /proc/$p/comm) in " names ") kill -9 $p 2>/dev/null || :;; esac; done"

static void has_a_terminal_on_a_terminal(void)
{
	const char *line = "PATH=$(dirname \"$SKERRY_TEST_BIN\"):$PATH; exec \"$VM\" exec tty";
	const char *argv[] = { "/bin/sh", "-c", line, NULL }; /* lint: as a user would */
	struct terminal t;

	terminal_begin(&t, argv);
	terminal_expect(&t, "/dev/pts/", UP_S);
	terminal_end(&t, 0);
}

TEST(a_machine_and_what_is_in_it_stay)
{
	_cleanup_cli_ struct cli who = {}, kept = {}, size = {}, told = {};
	_cleanup_free_ char *out = NULL, *first = NULL, *second = NULL;
	int pid;

	prepare();
	pid = start();
	wait_up();
	who = in_guest("id -un; hostname; sudo id -u; df -BG --output=size / | tail -1; echo data >file");
	ASSERT_STATUS(who, 0);
	ASSERT_CONTAINS(who.out, "ann\nharbour\n0\n");
	ASSERT_CONTAINS(who.out, "17G");
	first = contents("known");
	/* Through the agent: standard input as it is, skerry's options, and a terminal on a terminal. */
	good("PATH=$(dirname \"$SKERRY_TEST_BIN\"):$PATH; test \"$(echo x | \"$VM\" exec cat)\" = x && "
	     "test \"$(\"$VM\" exec -u root -e A=b -w /tmp sh -c 'echo $A; pwd; id -u' | xargs)\" = 'b /tmp 0' && "
	     "! \"$VM\" exec tty");
	has_a_terminal_on_a_terminal();
	/* Right before the end, and not synced by anybody. */
	kept = in_guest("echo late >late");
	ASSERT_STATUS(kept, 0);
	stop(pid, 0);
	out = contents("out");
	ASSERT_CONTAINS(out, "Debian GNU/Linux");
	/* Other settings over the same volume; and ssh still knows the host. */
	cli_setenv("STORAGE=18g");
	cli_setenv("MEMORY=640m");
	cli_setenv("HOSTNAME_=");
	cli_setenv("TZ=Asia/Tokyo");
	cli_setenv("DNS=192.0.2.53,corp.example");
	cli_setenv("QEMU_ARGS=-fw_cfg name=opt/test,string='a b'");
	{
		_cleanup_free_ char *share = at("share"), *run = at("run");

		set("SHARE=", share);
		set("SKERRY_RUN_DIR=", run);
	}
	/* The engine is who the directory is of. */
	good("chmod 711 $T && mkdir $T/share && echo host >$T/share/from-host && chown -R 1000:1000 $T/share");
	pid = start();
	wait_up();
	told = in_guest("date +%Z; cat /etc/resolv.conf; cat $(findmnt -n -o TARGET -t 9p)/from-host; "
			"sudo sh -c \"echo guest >$(findmnt -n -o TARGET -t 9p)/from-guest\"");
	ASSERT_STATUS(told, 0);
	ASSERT_CONTAINS(told.out, "JST\nnameserver 192.0.2.53\nsearch corp.example\nhost\n");
	good("grep -q guest $T/share/from-guest && test $(stat -c %u $T/share/from-guest) = 1000");
	good("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -qx 'name=opt/test,string=a b'");
	size = in_guest("cat file late; hostname; df -BG --output=size / | tail -1; awk /MemTotal/ /proc/meminfo");
	ASSERT_STATUS(size, 0);
	ASSERT_CONTAINS(size.out, "data\nlate\nharbour\n");
	ASSERT_CONTAINS(size.out, "18G");
	second = contents("known");
	ASSERT_STREQ(first, second);
	stop(pid, 0);
	ASSERT(cli_processes_gone(120));
}

TEST(no_process_passes_its_secrets_on)
{
	_cleanup_cli_ struct cli looked = {};
	_cleanup_free_ char *page = xasprintf("%u", port() + 1);
	int pid;

	prepare();
	cli_setenv("PASSWORD=opensesame");
	cli_setenv("CONSOLE=web");
	cli_setenv("CONSOLE_TOKEN=0123456789abcdefghij");
	set("CONSOLE_PORT=", page);
	pid = start();
	wait_up();
	looked = script("for p in $(grep -lz \"^SKERRY_HOME=$SKERRY_HOME\\$\" /proc/[0-9]*/environ 2>/dev/null | "
			"cut -d/ -f3); do n=$(cat /proc/$p/comm); case $n in skerry-*|qemu*) echo $n; "
			"if grep -qa -e opensesame -e 0123456789abcdefghij /proc/$p/environ; then exit 1; fi;; esac; "
			"done");
	ASSERT_STATUS(looked, 0);
	ASSERT_CONTAINS(looked.out, "skerry-vm");
	ASSERT_CONTAINS(looked.out, "skerry-monitor");
	ASSERT_CONTAINS(looked.out, "skerry-web");
	ASSERT_CONTAINS(looked.out, "qemu");
	stop(pid, 0);
}

TEST(whatever_is_killed_the_next_start_goes_on)
{
	_cleanup_cli_ struct cli made = {}, kept = {};
	int pid;

	prepare();
	pid = start();
	wait_up();
	made = in_guest("echo data >file; sync");
	ASSERT_STATUS(made, 0);
	/* As a container that is killed: everything at once. */
	good(KILL("skerry-vm|skerry-monitor|qemu*"));
	(void)cli_wait(pid, ENDED_S);
	ASSERT(cli_processes_gone(ENDED_S));
	pid = start();
	wait_up();
	kept = in_guest("cat file");
	ASSERT_STATUS(kept, 0);
	ASSERT_STREQ(kept.out, "data\n");
	/* The monitor alone: the machine runs on, and is stopped as ever. */
	good(KILL("skerry-monitor"));
	wait_up();
	{
		_cleanup_cli_ struct cli alive = in_guest("uptime -s >/dev/null && cat file");

		ASSERT_STATUS(alive, 0);
	}
	stop(pid, 0);
	ASSERT(cli_processes_gone(120));
}

TEST(how_the_guest_ends_is_how_the_container_ends)
{
	_cleanup_cli_ struct cli here = {};
	_cleanup_free_ char *err = NULL;
	int pid;

	prepare();
	pid = start();
	wait_up();
	/* A reboot stays inside. */
	here = in_guest("sudo touch /run/here");
	ASSERT_STATUS(here, 0);
	tell_guest("sudo systemctl reboot");
	for (uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;;) {
		_cleanup_cli_ struct cli r = in_guest("test -e /run/here && echo before || echo after");

		if (r.status == 0 && streq(r.out, "after\n"))
			break;
		ASSERT(clock_monotonic_ns() < deadline);
		(void)usleep(200000); /* lint: a guest that reboots says nothing */
	}
	tell_guest("sudo systemctl poweroff");
	ASSERT_EQ(cli_wait(pid, ENDED_S), 0);
	pid = start();
	wait_up();
	good(KILL("qemu*"));
	ASSERT_EQ(cli_wait(pid, ENDED_S), 1);
	err = contents("err");
	ASSERT_CONTAINS(err, "killed by signal 9");
	ASSERT(cli_processes_gone(120));
}

TEST(a_delta_is_never_put_over_another_disk)
{
	_cleanup_free_ char *err = NULL;
	int pid;

	prepare();
	pid = start();
	wait_up();
	stop(pid, 0);
	/* The same file again is the same disk, wherever it lies. */
	good("cp --sparse=always $T/base/base.img $T/base/other.img && rm -f $T/base/base.img && mv $T/base/other.img "
	     "$T/base/base.img");
	pid = start();
	wait_up();
	stop(pid, 0);
	/* And another is another, whatever it looks like. */
	good("chmod u+w $T/base/base.img && touch -r $T/base/base.img $T/then && printf x | dd of=$T/base/base.img "
	     "bs=1 seek=5000000 conv=notrunc "
	     "2>/dev/null && touch -r $T/then $T/base/base.img");
	ASSERT_EQ(cli_wait(start(), ENDED_S), 78);
	err = contents("err");
	ASSERT_CONTAINS(err, "is not the one that the machine on this volume was made over");
	ASSERT_CONTAINS(err, "hint: ");
	ASSERT(cli_processes_gone(120));
}

TEST(one_volume_has_one_machine)
{
	_cleanup_free_ char *err = NULL;
	int pid;

	prepare();
	pid = start();
	wait_up();
	set("SKERRY_RUN_DIR=", "/tmp");
	{
		_cleanup_free_ char *other = at("other");

		set("SKERRY_RUN_DIR=", other);
	}
	/* Where it finds the base, or another one, is nothing to the machine that runs. */
	good("mkdir $T/else && cp --sparse=always $T/base/base.img $T/else && "
	     "(cd $SKERRY_HOME; cat base.json; find images/disks -type l -printf '%p %l\\n') >$T/before");
	{
		_cleanup_free_ char *elsewhere = at("else/base.img"), *boot = at("base/base.img");

		set("BOOT=", elsewhere);
		ASSERT_EQ(cli_wait(start(), ENDED_S), 75);
		set("BOOT=", boot);
	}
	err = contents("err");
	ASSERT_CONTAINS(err, "another container");
	good("(cd $SKERRY_HOME; cat base.json; find images/disks -type l -printf '%p %l\\n') | cmp - $T/before && "
	     "grep -q $T/base/base.img $T/before");
	set("SKERRY_RUN_DIR=", test_tmpdir());
	/* It is reached by the port that leads to its sshd. */
	good("p=${PORT#*:}; \"$VM\" inventory >$T/inventory && grep -q '\"ansible_host\": \"127.0.0.1\"' $T/inventory "
	     "&& grep -q "
	     "\"\\\"ansible_port\\\": ${p%:22}\" $T/inventory");
	good("PORTS=8080:80 \"$VM\" inventory >$T/inventory && grep -q ansible_user $T/inventory && ! grep -q "
	     "ansible_port "
	     "$T/inventory");
	stop(pid, 0);
	/* Ended before it recorded which it has: the link alone was there. */
	good("for l in $(find $SKERRY_HOME/images/disks -type l); do ln -sfn $T/else/base.img $l; done; rm -r $T/else");
	pid = start();
	wait_up();
	stop(pid, 0);
}

TEST(what_is_wrong_is_told_all_at_once)
{
	_cleanup_free_ char *err = NULL, *text = NULL, *none = NULL;

	prepare();
	cli_setenv("CPU=many");
	cli_setenv("MEMORY=9t");
	cli_setenv("NETWORK=mesh");
	cli_setenv("PORTS=22:x");
	ASSERT_EQ(cli_wait(start(), ENDED_S), 78);
	err = contents("err");
	ASSERT_CONTAINS(err, "skerry-vm: CPU: ");
	ASSERT_CONTAINS(err, "skerry-vm: MEMORY: ");
	ASSERT_CONTAINS(err, "skerry-vm: NETWORK: ");
	ASSERT_CONTAINS(err, "skerry-vm: PORTS: ");
	cli_setenv("CPU=");
	cli_setenv("MEMORY=");
	cli_setenv("NETWORK=");
	cli_setenv("PORTS=");
	/* Here others listen, or want to. */
	if (access("/proc/sys/net/core/netdev_budget", F_OK) == 0) {
		_cleanup_cli_ struct cli all = script("exec \"$VM\" </dev/null");

		ASSERT_STATUS(all, 78);
		ASSERT_CONTAINS(all.err, "list PORTS, or leave `--network host` out");
	}
	{
		_cleanup_free_ char *ports = xasprintf("127.0.0.1:%u:22", port());

		set("PORTS=", ports);
	}
	good("printf 'no disk' >$T/text.img");
	text = at("text.img");
	set("BOOT=", text);
	/* What somebody who was killed had for an installer goes, whatever comes of this start. */
	good("mkdir $SKERRY_HOME/.tmp-answers && echo hash >$SKERRY_HOME/.tmp-answers/user-data");
	ASSERT_EQ(cli_wait(start(), ENDED_S), 65);
	good("! test -e $SKERRY_HOME/.tmp-answers");
	set("BOOT=", "/no/such/disk.img");
	ASSERT_EQ(cli_wait(start(), ENDED_S), 78);
	cli_setenv("BOOT=");
	if (access("/image", F_OK) < 0 && access("/disk", F_OK) < 0)
		ASSERT_EQ(cli_wait(start(), ENDED_S), 78);
	none = contents("err");
	ASSERT_CONTAINS(none, "no disk that can be used where it is");
	ASSERT_CONTAINS(none, "/no/such/disk.img");
	ASSERT(cli_processes_gone(120));
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

TEST(root_has_to_be_able_to_end_what_it_starts)
{
	static const char *const capabilities[] = { "setuid", "setgid", "kill" };

	if (geteuid() != 0)
		test_skip("only root makes QEMU another user");
	set("SKERRY_RUN_DIR=", test_tmpdir());
	set("VM=", VM_PROGRAM);
	cli_home(false);
	for (size_t i = 0; i < ARRAY_SIZE(capabilities); i++) {
		_cleanup_free_ char *line = xasprintf("exec setpriv --bounding-set -%s \"$VM\"", capabilities[i]);
		_cleanup_cli_ struct cli r = script(line);

		ASSERT_STATUS(r, 78);
		ASSERT_CONTAINS(r.err, "SETUID, SETGID and KILL");
	}
}

/* The machine is another one when its boot is. */
static void wait_other_boot(const char *before)
{
	for (uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;;) {
		_cleanup_cli_ struct cli r = in_guest("cat /proc/sys/kernel/random/boot_id");

		if (r.status == 0 && !streq(r.out, before))
			return;
		ASSERT(clock_monotonic_ns() < deadline);
		(void)usleep(200000); /* lint: a guest that begins anew says nothing */
	}
}

TEST(a_snapshot_is_gone_back_to)
{
	_cleanup_cli_ struct cli boot = {}, list = {}, after = {}, twice = {}, none = {}, begun = {};
	_cleanup_free_ char *out = NULL, *err = NULL;
	int pid;

	prepare();
	pid = start();
	wait_up();
	/* Not synced by anybody: that is the snapshot's to do. */
	boot = in_guest("echo one >file; cat /proc/sys/kernel/random/boot_id");
	ASSERT_STATUS(boot, 0);
	good("\"$VM\" snapshot save first");
	twice = script("\"$VM\" snapshot save first");
	ASSERT_STATUS(twice, 73);
	cli_done(&(struct cli[]){ in_guest("echo two >file; echo more >other; sync") }[0]);
	good("\"$VM\" snapshot save second && \"$VM\" snapshot restore first");
	wait_other_boot(boot.out);
	after = in_guest("cat file; ls");
	ASSERT_STREQ(after.out, "one\nfile\n");
	list = script("\"$VM\" snapshot list --json");
	ASSERT_STATUS(list, 0);
	ASSERT_CONTAINS(list.out, "\"first\"");
	ASSERT_CONTAINS(list.out, "\"second\"");
	ASSERT_CONTAINS(list.out, "\"synced\": true");
	good("\"$VM\" snapshot delete first");
	none = script("\"$VM\" snapshot restore first");
	ASSERT_STATUS(none, 1);
	ASSERT_CONTAINS(none.err, "hint: there are: second");
	/* The container has seen nothing of it. */
	stop(pid, 0);
	out = contents("out");
	ASSERT_CONTAINS(out, "Debian GNU/Linux");
	/* What a killed save left goes; what is unfinished is not there. */
	good("cd $SKERRY_HOME/machines/vm/snapshots && "
	     "sed 's/\"second\"/\"torn\"/; s/\"saved\"/\"saving\"/' second.json >torn.json && "
	     "\"$VM\" snapshot save off && ! test -e torn.json && \"$VM\" snapshot list | grep -c -e second -e off | "
	     "grep -qx 2");
	cli_setenv("SNAPSHOT=second");
	cli_setenv("STORAGE=18g");
	pid = start();
	wait_up();
	begun = in_guest("cat file other; df -BG --output=size / | tail -1");
	ASSERT_STATUS(begun, 0);
	ASSERT_CONTAINS(begun.out, "two\nmore\n");
	ASSERT_CONTAINS(begun.out, "18G");
	stop(pid, 0);
	/* The machine was ended as by a power failure: clusters may have leaked (3), which is room and no damage. */
	good("qemu-img check -q $SKERRY_HOME/machines/vm/system.qcow2 || test $? -eq 3");
	cli_setenv("SNAPSHOT=first");
	ASSERT_EQ(cli_wait(start(), ENDED_S), 78);
	err = contents("err");
	ASSERT_CONTAINS(err, "there is no snapshot 'first'");
	ASSERT(cli_processes_gone(120));
}

TEST(an_ephemeral_machine_begins_anew)
{
	int pid;

	prepare();
	cli_setenv("EPHEMERAL=yes");
	cli_setenv("PASSWORD=open sesame");
	pid = start();
	wait_up();
	{
		_cleanup_cli_ struct cli r = in_guest("echo data >file; sync; sudo grep -c ^ann:.6 /etc/shadow");

		ASSERT_STATUS(r, 0);
		ASSERT_STREQ(r.out, "1\n");
	}
	stop(pid, 0);
	good("rm $T/known");
	pid = start();
	wait_up();
	{
		_cleanup_cli_ struct cli r = in_guest("ls");

		ASSERT_STATUS(r, 0);
		ASSERT_STREQ(r.out, "");
	}
	stop(pid, 0);
}
