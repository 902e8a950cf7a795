/* NETWORK=bridge as its users have it: guests with the addresses of their containers, under a dockerd of the test's own. */
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "dockerd.h"
#include "websocket.h"

enum { UP_S = 600 };

#define TOKEN "0123456789abcdefghij"

#define BRIDGE "-e NETWORK=bridge --cap-add NET_ADMIN --device /dev/net/tun "
#define RUN(name, more)                                                                                        \
	"docker run -d --stop-timeout 300 -e STOP_TIMEOUT=290 --name " name                                    \
	" -e SSH_KEYS=\"$(cat key.pub)\" -e MEMORY=512m -e HOSTNAME_=" name " -v " name ":/disks " BRIDGE more \
	" skerry/debian"
/* A command in the guest, by its agent. */
#define IN(name, command) "docker exec " name " skerry-vm exec sh -c '" command "'"

static void prepare(void)
{
	cli_home(false);
	dockerd_start_with_network();
	dockerd_image("debian");
	dockerd_sh("ssh-keygen -q -t ed25519 -N '' -f key");
}

static char *output_of(const char *script)
{
	_cleanup_free_ char *line = xasprintf("cd '%s' && %s", test_tmpdir(), script);
	const char *argv[] = { CLI_SHELL, line, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, UP_S);

	ASSERT_STATUS(r, 0);
	return TAKE_PTR(r.out);
}

/* The health that docker itself finds: it asks every five seconds. */
static void wait_healthy(const char *name)
{
	uint64_t deadline = clock_monotonic_ns() + UP_S * NS_PER_SEC;

	for (;;) {
		_cleanup_cli_ struct cli r = docker("inspect", "--format", "{{.State.Health.Status}}", name, NULL);

		if (r.status == 0 && streq(r.out, "healthy\n"))
			return;
		if (clock_monotonic_ns() > deadline) {
			_cleanup_cli_ struct cli logs = docker("logs", "--tail", "30", name, NULL);

			test_fail(__FILE__, __LINE__, "not healthy: %s%s", logs.out, logs.err);
		}
		(void)usleep(300000); /* lint: docker tells it to who asks only */
	}
}

/* Until it succeeds, and what it said then: sshd comes after the agent. */
static char *at_last(const char *line)
{
	_cleanup_free_ char *script = xasprintf("until { %s; } >said; do sleep 1; done; cat said", line);

	return output_of(script);
}

static void sees(const char *script, const char *text)
{
	_cleanup_free_ char *out = output_of(script);

	ASSERT_CONTAINS(out, text);
}

/* What goes through the network may be lost there, and is asked again. */
static void comes_to_see(const char *script, const char *text)
{
	_cleanup_free_ char *line = xasprintf("%s >seen && grep -F '%s' seen", script, text);

	free(at_last(line));
}

/* From outside: its ssh server answers. */
static void reached(const char *address)
{
	_cleanup_free_ char *line = xasprintf("timeout 60 perl -MIO::Socket::INET -e 'print "
					      "IO::Socket::INET->new(q(%s:22))->getline' 2>/dev/null | grep SSH",
					      address);

	free(at_last(line));
}

/* The console's page stays where it was published; every other port is the guest's. */
static void page_is_the_containers(uint16_t port)
{
	_cleanup_websocket_ struct websocket ws = { .fd = -1 };
	_cleanup_buf_ struct buf b = {};

	ASSERT_EQ(http_ask(port, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", UP_S, &b), 401);
	ASSERT_EQ(websocket_open(&ws, port, "/console?token=" TOKEN, "console", ""), 101);
	ASSERT(websocket_shows(&ws, "Debian GNU/Linux", UP_S));
	sees("timeout 60 perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(q(172.30.0.11:8080)) or die $!; print "
	     "$s "
	     "qq(GET / HTTP/1.0\\r\\n\\r\\n); print $s->getline'",
	     " 401 ");
}

/* What a client of DHCP does with what it was told. */
static const char lease[] =
	"[ \"$1\" = bound ] || exit 0\n"
	"ip address add $ip/$mask dev $interface\n"
	"set -- $staticroutes\n"
	"while [ $# -gt 1 ]; do\n"
	"  if [ $2 = 0.0.0.0 ]; then ip route add $1 dev $interface; else ip route add $1 via $2; fi\n"
	"  shift 2\n"
	"done\n"
	"for s in $dns; do echo nameserver $s; done >/etc/resolv.conf\n"
	"echo search $search >>/etc/resolv.conf\n";

/* The guest forgets what it was told before its start, and asks, as one does that nobody could tell: by DHCP, and its kernel for routers. The client is
 * the container's, carried in. */
static void asks_for_its_addresses(const char *name)
{
	_cleanup_free_ char *script = xasprintf(
		"cat >lease <<'END'\n#!/bin/sh\n%sEND\n"
		"docker exec %s cat /usr/bin/busybox >busybox && chmod 755 busybox lease\n"
		"cat >ask <<'END'\n"
		"set -e; cd /tmp; tar xf -; i=$(ls /sys/class/net | grep -v lo)\n"
		"rm -f /etc/resolv.conf; ip address flush dev $i; ip link set $i down; ip link set $i up\n"
		"if ip address show dev $i | grep 172.30; then exit 1; fi\n"
		"./busybox udhcpc -f -q -n -t 40 -i $i -s /tmp/lease -O staticroutes -O search >asked 2>&1 || "
		"{ cat asked; exit 1; }\n"
		"END\n"
		"tar cf - busybox lease | docker exec -i %s skerry exec -i vm sudo sh -c \"$(cat ask)\"\n",
		lease, name, name);

	dockerd_sh(script);
}

TEST(two_guests_have_their_containers_addresses_and_reach_each_other_by_name)
{
	_cleanup_free_ char *mac = NULL, *link = NULL, *banner = NULL, *health = NULL;

	prepare();
	dockerd_sh("docker network create --subnet 172.30.0.0/16 --ipv6 --subnet fd00:30::/64 -o "
		   "com.docker.network.driver.mtu=1400 lan >network");
	dockerd_sh(RUN("one", "--network lan --ip 172.30.0.11 --ip6 fd00:30::11 --dns-search example.org -p "
			      "127.0.0.1:2501:22 "
			      "-p 127.0.0.1:2508:8080 -e CONSOLE=web -e CONSOLE_TOKEN=" TOKEN));
	dockerd_sh(RUN("two", "--network lan --ip 172.30.0.12 --ip6 fd00:30::12"));
	wait_healthy("one");
	wait_healthy("two");
	mac = output_of("docker inspect --format '{{.NetworkSettings.Networks.lan.MacAddress}}' one");
	mac[strcspn(mac, "\n")] = '\0';
	link = output_of(IN("one", "ip address show"));
	ASSERT_CONTAINS(link, mac);
	ASSERT_CONTAINS(link, "mtu 1400");
	ASSERT_CONTAINS(link, "172.30.0.11/16");
	ASSERT_CONTAINS(link, "fd00:30::11/64");
	sees(IN("one", "ip route; ip -6 route"), "default via 172.30.0.1 ");
	sees(IN("one", "ip route; ip -6 route"), "default via fd00:30::1 ");
	sees(IN("one", "cat /etc/resolv.conf"), "example.org");
	/* Names of containers, over both families and both ways. */
	comes_to_see(IN("one", "getent ahostsv4 two"), "172.30.0.12");
	comes_to_see(IN("two", "getent hosts one"), "fd00:30::11");
	comes_to_see(IN("one", "ping -4 -c 1 -W 20 two"), "1 received");
	comes_to_see(IN("two", "ping -6 -c 1 -W 20 one"), "1 received");
	comes_to_see(IN("one", "ping -4 -c 1 -W 20 -s 1300 -M do 172.30.0.1"), "1 received");
	/* What is published arrives at the guest, and what runs in the container reaches it too. */
	banner = at_last(
		"ssh -q -F none -i key -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null "
		"-o ConnectTimeout=60 -p 2501 user@127.0.0.1 hostname");
	ASSERT_STREQ(banner, "one\n");
	health = output_of("docker exec two skerry-vm healthcheck");
	ASSERT_CONTAINS(health, "booted");
	page_is_the_containers(2508);
	asks_for_its_addresses("two");
	sees(IN("two", "ip address"), "172.30.0.12/16");
	sees(IN("two", "cat /etc/resolv.conf"), "nameserver 169.254.255.1");
	comes_to_see(IN("two", "getent ahostsv4 one"), "172.30.0.11");
	comes_to_see(IN("two", "ping -4 -c 1 -W 20 one"), "1 received");
	free(at_last(IN("two", "ip -6 route show default | grep via.fe80::5ce4:ffff:2")));
	/* As a client of DHCP sets it; the network around it came from the router. */
	comes_to_see(IN("two", "sudo ip address replace fd00:30::12/128 dev eth0 nodad && ping -6 -c 1 -W 20 one"),
		     "1 received");
	reached("172.30.0.12");
	sees("docker stop one >stopped && docker inspect --format '{{.State.ExitCode}}' one", "0\n");
	dockerd_sh("docker rm -f -v one two >removed && docker volume rm one two >volumes");
}

TEST(several_networks_are_several_interfaces_and_an_address_may_change)
{
	_cleanup_free_ char *links = NULL, *keys = NULL, *again = NULL;

	prepare();
	dockerd_sh("docker network create --subnet 172.31.0.0/16 lan >network && docker network create --subnet "
		   "172.29.0.0/24 "
		   "--internal back >network");
	dockerd_sh(RUN("box", "--network lan --ip 172.31.0.11") " >id && docker stop -t 0 box >stopped");
	dockerd_sh("docker network connect --ip 172.29.0.5 back box && docker start box >started");
	wait_healthy("box");
	links = output_of(IN("box", "ip -br address; cat /sys/class/net/*/address"));
	ASSERT_CONTAINS(links, "172.31.0.11/16");
	ASSERT_CONTAINS(links, "172.29.0.5/24");
	ASSERT_CONTAINS(links, "02:42:ac:1f:00:0b");
	ASSERT_CONTAINS(links, "02:42:ac:1d:00:05");
	reached("172.29.0.5");
	reached("172.31.0.11");
	keys = output_of("docker exec box skerry-vm ssh-keys");
	dockerd_sh(IN("box", "echo kept >~user/kept; sync"));
	/* Elsewhere, under another address. */
	dockerd_sh("docker stop box >stopped && docker network disconnect back box && docker network disconnect lan "
		   "box && "
		   "docker network connect --ip 172.31.0.99 lan box && docker start box >started");
	wait_healthy("box");
	sees(IN("box", "ip -br address; cat ~user/kept"), "172.31.0.99/16");
	sees(IN("box", "cat ~user/kept"), "kept");
	reached("172.31.0.99");
	again = output_of("docker exec box skerry-vm ssh-keys");
	ASSERT_STREQ(again, keys);
	dockerd_sh("docker rm -f -v box >removed && docker volume rm box >volume");
}

/* A name server outside, that Docker's asks from inside the container's namespace, by UDP and, when it says so, by TCP. */
static const char name_server[] =
	"use IO::Socket::INET; use IO::Select;\n"
	"$u = IO::Socket::INET->new(LocalAddr => '172.28.0.1', LocalPort => 53, Proto => 'udp') or die;\n"
	"$t = IO::Socket::INET->new(LocalAddr => '172.28.0.1', LocalPort => 53, Listen => 5, ReuseAddr => 1) or die;\n"
	"sub answer { my ($q, $tcp) = @_; my $n = index($q, qq(\\0), 12) + 5; my $name = substr($q, 12, $n - 12);\n"
	"  return substr($q, 0, 2) . qq(\\x83\\x80\\0\\1\\0\\0\\0\\0\\0\\0) . $name if $name =~ /long/ && !$tcp;\n"
	"  my $a = substr($name, -4, 2) eq qq(\\0\\1);\n"
	"  return substr($q, 0, 2) . qq(\\x81\\x80\\0\\1\\0) . chr($a) . qq(\\0\\0\\0\\0) . $name .\n"
	"    ($a ? qq(\\xc0\\x0c\\0\\1\\0\\1\\0\\0\\0\\x3c\\0\\4\\xc0\\0\\2\\7) : '') }\n"
	"$s = IO::Select->new($u, $t); $SIG{ALRM} = sub { exit }; alarm 2400;\n"
	"while (@r = $s->can_read) { for (@r) {\n"
	"  if ($_ == $u) { $u->recv($q, 600); $u->send(answer($q, 0)) }\n"
	"  else { $c = $t->accept; read $c, $q, 2; read $c, $q, unpack('n', $q); $a = answer($q, 1);\n"
	"    print $c pack('n', length $a) . $a; close $c } } }\n";

TEST(names_of_the_world_are_asked_of_the_networks_own_server_too)
{
	_cleanup_free_ char *script = xasprintf("cat >names.pl <<'END'\n%sEND", name_server);

	prepare();
	dockerd_sh("docker network create --subnet 172.28.0.0/16 lan >network");
	dockerd_sh(script);
	dockerd_sh("setsid -f perl names.pl </dev/null >names.out 2>&1");
	dockerd_sh(RUN("box", "--network lan --dns 172.28.0.1"));
	wait_healthy("box");
	comes_to_see(IN("box", "getent ahostsv4 short.example.org"), "192.0.2.7");
	/* Cut short over UDP: the resolver asks again by TCP. */
	comes_to_see(IN("box", "getent ahostsv4 long.example.org"), "192.0.2.7");
	dockerd_sh("docker rm -f -v box >removed && docker volume rm box >volume");
}

TEST(what_a_kill_leaves_is_no_obstacle_to_the_next_start)
{
	_cleanup_free_ char *left = NULL, *after = NULL;

	prepare();
	/* The namespace is of a container that lives on, as a pod's is. */
	dockerd_sh("docker network create --subnet 172.27.0.0/16 lan >network && docker run -d --name holder --network "
		   "lan --ip "
		   "172.27.0.9 --entrypoint /bin/sleep skerry/debian 100000 >id");
	dockerd_sh(RUN("box", "--network container:holder"));
	wait_healthy("box");
	dockerd_sh("docker kill -s KILL box >killed");
	left = output_of("docker exec holder ip link");
	ASSERT_CONTAINS(left, "sktap");
	dockerd_sh("docker start box >started");
	wait_healthy("box");
	sees(IN("box", "ip -br address"), "172.27.0.9/16");
	reached("172.27.0.9");
	/* The record has gone as well: another container over the same volume. */
	dockerd_sh("docker kill -s KILL box >killed && docker rm box >removed");
	dockerd_sh(RUN("box", "--network container:holder"));
	wait_healthy("box");
	reached("172.27.0.9");
	/* A clean end puts everything back. */
	dockerd_sh("docker stop box >stopped");
	after = output_of("docker exec holder ip link");
	ASSERT(!strstr(after, "sktap"));
	/* Its own stack says that nobody listens. */
	sees("perl -MIO::Socket::INET -e '$SIG{ALRM} = sub { die }; alarm 120; "
	     "IO::Socket::INET->new(q(172.27.0.9:22)); "
	     "print $!'",
	     "refused");
	dockerd_sh("docker rm -f -v box holder >removed && docker volume rm box >volume");
}

TEST(the_ports_of_a_host_are_not_the_guests)
{
	_cleanup_cli_ struct cli all = {};

	prepare();
	all = docker("run", "--rm", "--network", "host", "skerry/debian", NULL);
	ASSERT_STATUS(all, 78);
	ASSERT_CONTAINS(all.err, "list PORTS, or leave `--network host` out");
	dockerd_sh("docker run -d --stop-timeout 300 -e STOP_TIMEOUT=290 --name box --network host -e PORTS=12222:22 "
		   "-e MEMORY=512m "
		   "skerry/debian");
	wait_healthy("box");
	dockerd_sh("docker rm -f -v box >removed");
}

TEST(what_is_missing_is_named_with_its_flag)
{
	_cleanup_cli_ struct cli bare = {}, no_tun = {}, no_right = {}, user = {}, none = {}, host = {}, dropped = {};

	prepare();
	bare = docker("run", "--rm", "-e", "NETWORK=bridge", "skerry/debian", NULL);
	ASSERT_STATUS(bare, 78);
	ASSERT_CONTAINS(bare.err, "--cap-add NET_ADMIN");
	ASSERT_CONTAINS(bare.err, "--device /dev/net/tun");
	no_tun = docker("run", "--rm", "-e", "NETWORK=bridge", "--cap-add", "NET_ADMIN", "skerry/debian", NULL);
	ASSERT_STATUS(no_tun, 78);
	ASSERT(!strstr(no_tun.err, "NET_ADMIN"));
	ASSERT_CONTAINS(no_tun.err, "--device /dev/net/tun");
	no_right = docker("run", "--rm", "-e", "NETWORK=bridge", "--device", "/dev/net/tun", "skerry/debian", NULL);
	ASSERT_STATUS(no_right, 78);
	ASSERT_CONTAINS(no_right.err, "--cap-add NET_ADMIN");
	ASSERT(!strstr(no_right.err, "--device"));
	user = docker("run", "--rm", "--user", "skerry", "-e", "NETWORK=bridge", "--cap-add", "NET_ADMIN", "--device",
		      "/dev/net/tun", "skerry/debian", NULL);
	ASSERT_STATUS(user, 78);
	ASSERT_CONTAINS(user.err, "leave `--user` out");
	none = docker("run", "--rm", "--network", "none", "-e", "NETWORK=bridge", "--cap-add", "NET_ADMIN", "--device",
		      "/dev/net/tun", "skerry/debian", NULL);
	ASSERT_STATUS(none, 78);
	ASSERT_CONTAINS(none.err, "docker run --network");
	host = docker("run", "--rm", "--network", "host", "-e", "NETWORK=bridge", "--cap-add", "NET_ADMIN", "--device",
		      "/dev/net/tun", "skerry/debian", NULL);
	ASSERT_STATUS(host, 78);
	ASSERT_CONTAINS(host.err, "--network host");
	dropped = docker("run", "--rm", "--cap-drop", "ALL", "skerry/debian", NULL);
	ASSERT_STATUS(dropped, 78);
	ASSERT_CONTAINS(dropped.err, "--user skerry");
}
