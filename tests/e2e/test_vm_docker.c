/* A virtual machine for each docker run, as its users have it: real images under a dockerd of the test's own. */
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "dockerd.h"
#include "websocket.h"

enum { UP_S = 600 };

/* As in the documentation, but for names, ports and time: emulated, on a busy host, no guest shuts down within docker's ten seconds. */
#define RUN(name, more)                                                                                 \
	"docker run -d --stop-timeout 300 -e STOP_TIMEOUT=290 --name " name                             \
	" -e SSH_KEYS=\"$(cat key.pub)\" -e MEMORY=512m -e HOSTNAME_=" name " -v " name ":/disks " more \
	" skerry/debian"
#define SSH(port, command)                                                               \
	"ssh -q -F none -i key -o BatchMode=yes -o StrictHostKeyChecking=accept-new -o " \
	"UserKnownHostsFile=known -o ConnectTimeout=60 -p " port " user@127.0.0.1 '" command "'"

static void prepare(void)
{
	cli_home(false);
	dockerd_start_with_network();
	dockerd_image("debian");
	dockerd_sh("ssh-keygen -q -t ed25519 -N '' -f key");
}

static char *output_of(const char *script)
{
	const char *argv[] = { CLI_SHELL, script, NULL };
	_cleanup_free_ char *line = xasprintf("cd '%s' && %s", test_tmpdir(), script);
	_cleanup_cli_ struct cli r = {};

	argv[2] = line;
	r = cli_argv(argv, NULL, UP_S);
	ASSERT_STATUS(r, 0);
	return TAKE_PTR(r.out);
}

/* A health check is docker's to make; the test does not wait for its interval. */
static void wait_up(const char *name)
{
	uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;

	for (;;) {
		_cleanup_cli_ struct cli r = docker("exec", name, "skerry-vm", "healthcheck", NULL);

		if (r.status == 0)
			return;
		if (clock_monotonic_ns() > deadline) {
			_cleanup_cli_ struct cli logs = docker("logs", "--tail", "30", name, NULL);

			test_fail(__FILE__, __LINE__, "not up: %s%s", logs.out, logs.err);
		}
		(void)usleep(300000); /* lint: docker's own health check asks again and again as well */
	}
}

/* sshd comes after the agent. What it says is what the try said that succeeded. */
static char *in_guest(const char *line)
{
	_cleanup_free_ char *script = xasprintf("until { %s; } >said; do sleep 1; done; cat said", line);

	return output_of(script);
}

static void stops(const char *name, const char *status)
{
	_cleanup_free_ char *script =
		xasprintf("docker stop %s >stopped && docker inspect --format '{{.State.ExitCode}}' %s", name, name);
	_cleanup_free_ char *out = output_of(script);

	ASSERT_STREQ(out, status);
}

/* As somebody does who has read the log: the address with its token, and what the console has shown. */
static void console_is_on_a_page(const char *name, uint16_t port)
{
	_cleanup_free_ char *script = xasprintf("docker logs %s 2>&1 | sed -n 's,.*/?token=\\([0-9a-f]*\\).*,\\1,p'",
						name),
			    *token = output_of(script), *target = NULL, *page = NULL;
	_cleanup_websocket_ struct websocket ws = { .fd = -1 };
	_cleanup_buf_ struct buf b = {};

	token[strcspn(token, "\n")] = '\0';
	page = xasprintf("GET /?token=%s HTTP/1.1\r\nHost: localhost\r\n\r\n", token);
	target = xasprintf("/console?token=%s", token);
	ASSERT_EQ(http_ask(port, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", UP_S, &b), 401);
	ASSERT(http_ask(port, page, UP_S, &b) / 100 < 4);
	ASSERT_EQ(websocket_open(&ws, port, "/console?token=wrong", "console", ""), 403);
	websocket_done(&ws);
	ASSERT_EQ(websocket_open(&ws, port, target, "console", ""), 101);
	ASSERT(websocket_shows(&ws, "Debian GNU/Linux", UP_S));
}

TEST(the_quick_start_a_stop_and_a_start)
{
	_cleanup_free_ char *who = NULL, *logs = NULL, *again = NULL, *status = NULL;

	prepare();
	dockerd_sh(RUN("box", "-p 127.0.0.1:2222:22 -p 127.0.0.1:2280:8080 -e CONSOLE=web"));
	wait_up("box");
	who = in_guest(SSH("2222", "id -un; hostname; sudo id -u; echo late >file"));
	ASSERT_STREQ(who, "user\nbox\n0\n");
	console_is_on_a_page("box", 2280);
	status = output_of("docker exec box skerry-vm status --json");
	ASSERT_CONTAINS(status, "\"running\"");
	stops("box", "0\n");
	logs = output_of("docker logs box");
	ASSERT_CONTAINS(logs, "Debian GNU/Linux");
	/* Another container over the same volume is the same machine. */
	dockerd_sh("docker rm box >removed");
	dockerd_sh(RUN("box", "-p 127.0.0.1:2222:22 -e STORAGE=30g"));
	wait_up("box");
	again = in_guest(SSH("2222", "cat file; df -BG --output=size / | tail -1"));
	ASSERT_CONTAINS(again, "late\n");
	ASSERT_CONTAINS(again, "30G");
	/* As the host crashes. */
	dockerd_sh("docker kill -s KILL box >killed && docker start box >started");
	wait_up("box");
	free(again);
	again = in_guest(SSH("2222", "cat file"));
	ASSERT_STREQ(again, "late\n");
	dockerd_sh("docker rm -f -v box >removed && docker volume rm box >volume");
}

TEST(whatever_port_is_published_leads_to_the_guest)
{
	_cleanup_free_ char *out = NULL, *udp = NULL, *peer = NULL;

	prepare();
	dockerd_sh("docker network create lan >network");
	dockerd_sh(RUN("one", "--network lan -p 127.0.0.1:2301:22 -p 127.0.0.1:2380:8080 -p 127.0.0.1:2353:853/udp"));
	dockerd_sh(RUN("two", "--network lan -p 127.0.0.1:2302:22"));
	wait_up("one");
	wait_up("two");
	/* What is in every Debian: perl. */
	dockerd_sh("cat >tcp.pl <<'END'\n"
		   "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1);\n"
		   "while ($c = $s->accept) { print $c qq(hello\\n); close $c }\n"
		   "END\n"
		   "cat >udp.pl <<'END'\n"
		   "use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 853, Proto => 'udp');\n"
		   "while ($s->recv($b, 99)) { $s->send(qq(re:$b)) }\n"
		   "END\n"
		   "cat >ask.pl <<'END'\n"
		   "use IO::Socket::INET; print IO::Socket::INET->new($ARGV[0])->getline\n"
		   "END\n"
		   "cat >ask-udp.pl <<'END'\n"
		   "use IO::Socket::INET; $s = IO::Socket::INET->new(PeerAddr => $ARGV[0], Proto => 'udp');\n"
		   "$s->send('x'); $s->recv($b, 99); print $b\n"
		   "END");
	free(in_guest(SSH("2301", "cat >tcp.pl") " <tcp.pl && " SSH("2301", "cat >udp.pl") " <udp.pl && " SSH(
		"2301", "for p in tcp udp; do sudo setsid -f perl $p.pl </dev/null >/dev/null 2>&1; done")));
	out = in_guest("timeout 30 perl ask.pl 127.0.0.1:2380 2>/dev/null | grep hello");
	ASSERT_STREQ(out, "hello\n");
	udp = in_guest("timeout 30 perl ask-udp.pl 127.0.0.1:2353 | grep re");
	ASSERT_CONTAINS(udp, "re:x");
	/* From one guest to the other by the container's name, nothing published. */
	peer = in_guest(SSH("2302", "cat >ask.pl") " <ask.pl && " SSH("2302", "perl ask.pl one:8080"));
	ASSERT_STREQ(peer, "hello\n");
	stops("two", "0\n");
	dockerd_sh("docker rm -f -v one two >removed && docker volume rm one two >volumes");
}

TEST(what_is_wrong_ends_the_container_with_its_reasons)
{
	_cleanup_cli_ struct cli r = {}, none = {}, full = {};

	prepare();
	r = docker("run", "--rm", "-e", "CPU=x", "-e", "MEMORY=1k", "-e", "NETWORK=mesh", "-e", "SSH_KEYS=me",
		   "skerry/debian", NULL);
	ASSERT_STATUS(r, 78);
	ASSERT_CONTAINS(r.err, "CPU: ");
	ASSERT_CONTAINS(r.err, "MEMORY: ");
	ASSERT_CONTAINS(r.err, "NETWORK: ");
	ASSERT_CONTAINS(r.err, "SSH_KEYS: ");
	none = docker("run", "--rm", "skerry/runtime", NULL);
	ASSERT_STATUS(none, 78);
	ASSERT_CONTAINS(none.err, "no base disk");
	full = docker("run", "--rm", "--read-only", "--tmpfs", "/run/skerry", "--tmpfs", "/tmp", "--tmpfs",
		      "/disks:size=64k", "skerry/debian", NULL);
	ASSERT(full.status != 0 && full.status != 125);
	ASSERT_CONTAINS(full.err, "skerry-vm: ");
}

TEST(nobody_has_to_be_root)
{
	_cleanup_free_ char *who = NULL;

	prepare();
	/* Another port of the container, and a directory of the host. */
	dockerd_sh("mkdir share && echo host >share/file && chown -R 1000:1000 share");
	dockerd_sh(RUN("box",
		       "--user 1000:1000 --cap-drop ALL --read-only --tmpfs /run/skerry:uid=1000 --tmpfs /tmp -p "
		       "127.0.0.1:2401:2022 -e PORTS=2022:22 -v \"$PWD/share:/shared\""));
	wait_up("box");
	who = in_guest(SSH("2401", "id -un; cat /shared/file; sudo sh -c \"echo guest >/shared/new\""));
	ASSERT_STREQ(who, "user\nhost\n");
	dockerd_sh("grep -q guest share/new && test $(stat -c %u share/new) = 1000");
	stops("box", "0\n");
	dockerd_sh("docker rm -f -v box >removed && docker volume rm box >volume");
}

/* The compose file as it is shipped; its ports are in the test's own network. */
TEST(compose_brings_it_up_and_down)
{
	_cleanup_free_ char *who = NULL, *kept = NULL,
			    *file = xasprintf("SKERRY_COMPOSE=%s/deploy/docker/compose.yaml", SOURCE_DIR);
	const char *have[] = { CLI_SHELL, "command -v docker-compose", NULL };
	_cleanup_cli_ struct cli r = cli_argv(have, NULL, UP_S);

	if (r.status != 0)
		test_skip("docker-compose is not installed");
	prepare();
	cli_setenv(file);
	/* What it asks of the daemon takes as long as it takes. */
	cli_setenv("COMPOSE_HTTP_TIMEOUT=600");
	dockerd_sh("cp \"$SKERRY_COMPOSE\" compose.yaml && printf 'SSH_KEYS_PATH=%s/key.pub\nCOMPOSE_PROJECT_NAME=c\n' "
		   "\"$PWD\" "
		   ">.env && docker-compose -f compose.yaml up -d >up 2>&1");
	wait_up("c_box_1");
	/* Synced: the shipped file gives a guest a minute to end, and that is as long as it is on any host. */
	who = in_guest(SSH("2222", "id -un; hostname; echo kept >file; sync"));
	ASSERT_STREQ(who, "user\nbox\n");
	/* Made anew, over the same volume. */
	dockerd_sh("docker-compose -f compose.yaml down >down 2>&1 && ! docker ps -a | grep c_box && docker-compose -f "
		   "compose.yaml up -d >up 2>&1");
	wait_up("c_box_1");
	kept = in_guest(SSH("2222", "cat file; hostname"));
	ASSERT_STREQ(kept, "kept\nbox\n");
	dockerd_sh("docker-compose -f compose.yaml down -v >down 2>&1 && ! docker volume ls | grep c_box");
}

/* Prints its letter on the serial port and switches off: a disk that is over in a second. */
#define BOOT_SECTOR(file, letter)                                                                                 \
	"printf '\\260\\" letter "\\272\\370\\003\\356\\272\\004\\006\\270\\000\\040\\357\\364\\353\\375' >" file \
	" && truncate -s 1M " file " && printf '\\125\\252' | dd of=" file                                        \
	" bs=1 seek=510 conv=notrunc 2>/dev/null && "

TEST(what_is_given_and_cannot_be_used_is_told)
{
	_cleanup_cli_ struct cli first = {}, other = {}, again = {}, read_only = {}, kvm = {}, share = {};

	prepare();
	dockerd_sh("mkdir one two && " BOOT_SECTOR("one/disk.img", "101") BOOT_SECTOR(
		"two/disk.img",
		"102") "for i in one two; do printf 'FROM skerry/runtime\\nCOPY disk.img /image/disk.img\\nENV "
		       "FIRMWARE=bios\\n' "
		       ">$i/Dockerfile && DOCKER_BUILDKIT=0 docker build -q -t $i $i >built || exit 1; done");
	/* An image whose base disk is another, over a volume. */
	first = docker("run", "--rm", "-v", "bios:/disks", "one", NULL);
	ASSERT_STATUS(first, 0);
	ASSERT_CONTAINS(first.out, "A");
	other = docker("run", "--rm", "-v", "bios:/disks", "two", NULL);
	ASSERT_STATUS(other, 78);
	ASSERT_CONTAINS(other.err, "is not the one that the machine on this volume was made over");
	again = docker("run", "--rm", "-v", "bios:/disks", "one", NULL);
	ASSERT_STATUS(again, 0);
	read_only = docker("run", "--rm", "-v", "bios:/disks:ro", "one", NULL);
	ASSERT_STATUS(read_only, 73);
	ASSERT_CONTAINS(read_only.err, "Read-only file system");
	/* It is there, and it is none. */
	kvm = docker("run", "--rm", "--device", "/dev/null:/dev/kvm", "-e", "ACCEL=kvm", "one", NULL);
	ASSERT(kvm.status != 0 && kvm.status != 125);
	ASSERT_CONTAINS(kvm.err, "kvm");
	cli_done(&kvm);
	kvm = docker("run", "--rm", "--device", "/dev/null:/dev/kvm", "one", NULL);
	ASSERT_STATUS(kvm, 0);
	share = docker("run", "--rm", "-e", "SHARE=/not/mounted", "one", NULL);
	ASSERT_STATUS(share, 78);
	ASSERT_CONTAINS(share.err, "SHARE: '/not/mounted' is no directory of the container");
	dockerd_sh("docker volume rm bios >volume");
}
