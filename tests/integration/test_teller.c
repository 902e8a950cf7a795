/* Clients of DHCP as distributions have them, and the kernel's own for router advertisements, against what tells a guest its addresses: behind an interface
 * that was taken over, in namespaces that the test makes. The clients' namespace has a TAP whose frames go both ways as an engine would carry them. */
#include "docker/teller.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "netns.h"
#include "test.h"
#include "wire/ndp.h"
#include "wire/packet.h"

enum { VNET_HEADER = 10, FRAME_MAX = 70000, NICS = 2, PORT = 5353 };
#define SOON_NS (120 * NS_PER_SEC)

/* ---- The container and its guest ---- */

struct pump {
	int tap, guest; /* the engine's end, and the guest's card */
};

struct bench {
	int inside, outside, guest;
	pid_t pid; /* of skerry-vm and the engine, so to speak */
};

static int card(int guest, int i)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI };
	int before = netns_enter(guest), fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);

	(void)snprintf(request.ifr_name, sizeof(request.ifr_name), "lan%d", i);
	ASSERT_OK(fd);
	ASSERT_OK(ioctl(fd, TUNSETIFF, &request));
	netns_leave(before);
	return fd;
}

static int on_tap(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct pump *p = data;
	static uint8_t b[FRAME_MAX];
	ssize_t n = read(fd, b, sizeof(b));

	(void)s;
	(void)events;
	if (n > VNET_HEADER)
		(void)!write(p->guest, b + VNET_HEADER, (size_t)n - VNET_HEADER);
	return 0;
}

static int on_card(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct pump *p = data;
	static uint8_t b[FRAME_MAX];
	ssize_t n;

	(void)s;
	(void)events;
	memset(b, 0, VNET_HEADER);
	n = read(fd, b + VNET_HEADER, sizeof(b) - VNET_HEADER);
	if (n > 0)
		(void)!write(p->tap, b, (size_t)n + VNET_HEADER);
	return 0;
}

/* What is asked of the control address is said again. */
static int on_question(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct sockaddr_storage from;
	socklen_t size = sizeof(from);
	char b[2000];
	ssize_t n = recvfrom(fd, b, sizeof(b), MSG_DONTWAIT, (struct sockaddr *)&from, &size);

	(void)s;
	(void)events;
	(void)data;
	if (n > 0)
		(void)sendto(fd, b, (size_t)n, 0, (const struct sockaddr *)&from, size);
	return 0;
}

static int on_connection(struct loop_source *s, int fd, uint32_t events, void *data)
{
	int conn = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

	(void)s;
	(void)events;
	(void)data;
	if (conn >= 0) {
		(void)!write(conn, "by stream\n", 10);
		close(conn);
	}
	return 0;
}

static int control_socket(int type)
{
	const struct sockaddr_in at = { .sin_family = AF_INET,
					.sin_port = htons(PORT),
					.sin_addr = { htonl(INADDR_ANY) } };
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	ASSERT_OK(bind(fd, (const struct sockaddr *)&at, sizeof(at)));
	if (type == SOCK_STREAM)
		ASSERT_OK(listen(fd, 4));
	return fd;
}

static void live(const struct bench *b, int ready)
{
	struct net_request req = {};
	struct net_plan plan = {};
	struct strv search = {};
	struct teller_options o = { .plan = &plan, .host = "box", .search = &search };
	struct loop_source *sources[2 * NICS + 2] = {};
	struct pump pumps[NICS];
	struct teller *t = NULL;
	struct loop *loop;
	struct error e = {};
	int taps[NICS], helper_fd;
	pid_t helper;

	strv_add(&search, "example.org");
	strv_add(&search, "lan.example.org");
	(void)netns_enter(b->inside);
	ASSERT_OK(loop_new(&loop));
	if (net_mode_find("container")->plan(&req, &plan, &e) < 0 || teller_new(loop, &o, &t, &e) < 0 ||
	    net_mode_find("container")->prepare(&req, &plan, taps, &helper, &helper_fd, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT(plan.taken.n <= NICS);
	for (size_t i = 0; i < plan.taken.n; i++) {
		pumps[i] = (struct pump){ taps[i], card(b->guest, (int)i) };
		netns_run(b->guest, "ip link set lan%zu address %s", i, plan.taken.nics[i].mac);
		ASSERT_OK(loop_add_fd(loop, &sources[2 * i], pumps[i].tap, EPOLLIN, on_tap, &pumps[i]));
		ASSERT_OK(loop_add_fd(loop, &sources[2 * i + 1], pumps[i].guest, EPOLLIN, on_card, &pumps[i]));
	}
	ASSERT_OK(loop_add_fd(loop, &sources[2 * NICS], control_socket(SOCK_DGRAM), EPOLLIN, on_question, NULL));
	ASSERT_OK(loop_add_fd(loop, &sources[2 * NICS + 1], control_socket(SOCK_STREAM), EPOLLIN, on_connection, NULL));
	ASSERT_EQ(write(ready, "x", 1), 1);
	(void)loop_run(loop);
}

static void start(struct bench *b)
{
	int pipes[2];
	char byte;

	ASSERT_OK(pipe2(pipes, O_CLOEXEC));
	b->pid = fork();
	ASSERT_OK(b->pid);
	if (b->pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(pipes[0]);
		live(b, pipes[1]);
		_exit(1);
	}
	close(pipes[1]);
	if (read(pipes[0], &byte, 1) != 1)
		test_fail(__FILE__, __LINE__, "it did not start");
	close(pipes[0]);
}

static void finish(struct bench *b)
{
	(void)kill(b->pid, SIGKILL);
	(void)waitpid(b->pid, NULL, 0);
}

/* eth0 with a gateway outside that answers for both families; eth1 without any. */
static void make(struct bench *b)
{
	*b = (struct bench){ netns_new(), netns_new(), netns_new(), 0 };
	/* A guest that routed would send on what it is not yet the one for. */
	netns_run(b->guest, "busybox sysctl -w net.ipv4.ip_forward=0");
	/* The container's own stack asks nothing: what is heard outside is the guest's. */
	netns_run(b->inside, "busybox sysctl -w net.ipv6.conf.default.router_solicitations=0");
	netns_pair(b->inside, "eth0", b->outside, "out0");
	netns_run(b->inside, "ip link set eth0 address 02:42:ac:11:00:02");
	netns_run(b->inside, "ip link set eth0 mtu 1400");
	netns_run(b->inside, "ip address add 172.17.0.2/16 dev eth0");
	netns_run(b->inside, "ip address add fd00::2/64 dev eth0 nodad");
	netns_run(b->outside, "ip address add 172.17.0.1/16 dev out0");
	netns_run(b->outside, "ip address add fd00::1/64 dev out0 nodad");
	netns_run(b->outside, "ip address add 192.0.2.9/32 dev lo");
	netns_run(b->outside, "ip address add 2001:db8::9/128 dev lo nodad");
	netns_run(b->inside, "ip route add default via 172.17.0.1");
	netns_run(b->inside, "ip route add 10.66.0.0/16 via 172.17.0.9");
	netns_run(b->inside, "ip -6 route add default via fd00::1");
	netns_run(b->inside, "ip -6 route add 2001:db8:66::/48 via fd00::1");
	netns_pair(b->inside, "eth1", b->outside, "out1");
	netns_run(b->inside, "ip address add 10.9.0.2/24 dev eth1");
	netns_run(b->outside, "ip address add 10.9.0.1/24 dev out1");
}

/* ---- What the clients say ---- */

static char *script(const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", test_tmpdir(), name);
	_cleanup_free_ char *whole = xasprintf("#!/bin/sh\n DIR='%s'\n%s", test_tmpdir(), text);

	ASSERT_OK(file_write_at(AT_FDCWD, path, whole, strlen(whole), 0755, 0));
	return path;
}

static char *told(const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);
	_cleanup_buf_ struct buf b = {};

	if (file_read_at(AT_FDCWD, path, 1 << 20, &b) < 0)
		return xstrdup("");
	return buf_take(&b);
}

/* Until the output of @command has @text. */
static void comes(int ns, const char *command, const char *text)
{
	uint64_t deadline = clock_monotonic_ns() + SOON_NS;

	for (;;) {
		_cleanup_free_ char *out = netns_output(ns, command);

		if (strstr(out, text))
			return;
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "%s: no '%s' in '%s'", command, text, out);
		(void)usleep(50000); /* lint: the kernel's own client tells nobody when it is done */
	}
}

/* One that waits too long for its neighbour is dropped, so it is asked again until there is an answer. */
static void answers(int ns, const char *ping, const char *address)
{
	uint64_t deadline = clock_monotonic_ns() + SOON_NS;

	while (netns_try(ns, "busybox %s -c 1 -W 5 %s", ping, address) != 0)
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "%s %s: no answer", ping, address);
}

/* What leaves at out0 that has to do with configuration. */
static int listener(const struct bench *b)
{
	int before = netns_enter(b->outside),
	    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
	struct sockaddr_ll at = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct ifreq request = { .ifr_name = "out0" };
	const int room = 8 << 20;

	ASSERT_OK(fd);
	ASSERT_OK(setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)));
	ASSERT_OK(ioctl(fd, SIOCGIFINDEX, &request));
	at.sll_ifindex = request.ifr_ifindex;
	ASSERT_OK(bind(fd, (const struct sockaddr *)&at, sizeof(at)));
	netns_leave(before);
	return fd;
}

static void assert_nothing_left(int fd)
{
	uint8_t p[2048];
	size_t seen = 0;

	for (;;) {
		struct sockaddr_ll from = {};
		socklen_t size = sizeof(from);
		ssize_t n = recvfrom(fd, p, sizeof(p), MSG_DONTWAIT, (struct sockaddr *)&from, &size);

		if (n < 0)
			break;
		if (from.sll_pkttype == PACKET_OUTGOING || n < 14 + 40)
			continue;
		seen++;
		if (p[12] == 8 && p[13] == 0 && p[23] == 17)
			ASSERT(!(p[36] == 0 && (p[37] == 67 || p[37] == 68)));
		if (p[12] == 8 && p[13] == 6)
			ASSERT(memcmp(p + 38, "\xa9\xfe\xff", 3) != 0);
		if (p[12] != 0x86 || p[13] != 0xdd)
			continue;
		if (p[20] == 17)
			ASSERT(!(p[56] == 2 && (p[57] == 546 % 256 || p[57] == 547 % 256)));
		if (p[20] == 58)
			ASSERT(p[54] != 133 && p[54] != 134);
		ASSERT(memcmp(p + 38, "\xfe\x80\0\0\0\0\0\0\0\0\x5c\xe4", 12) != 0);
	}
	ASSERT(seen > 0);
	close(fd);
}

/* Says @text to the control address by UDP, and hears it; then what is said by TCP. */
static void speaks_with_control(int guest, const char *address, const char *scope)
{
	_cleanup_free_ char *line = script(
		"speak", "exec perl -e '"
			 "use Socket qw(:all); my ($a, $d) = @ARGV; my $six = $a =~ /:/;"
			 "my ($e, @r) = getaddrinfo($six ? \"$a%$d\" : $a, 5353, {flags => AI_NUMERICHOST});"
			 "alarm 100;"
			 "socket(my $u, $r[0]{family}, SOCK_DGRAM, 0); connect($u, $r[0]{addr}) or die qq(udp: $!);"
			 "my ($b, $in) = (q()); vec($in, fileno($u), 1) = 1;"
			 "do { send($u, q(by datagram), 0) } until select(my $r = $in, undef, undef, 1) and "
			 "defined recv($u, $b, 99, 0); print qq($b\\n);"
			 "socket(my $t, $r[0]{family}, SOCK_STREAM, 0); connect($t, $r[0]{addr}) or die qq(tcp: $!);"
			 "print <$t>' \"$@\" 2>&1\n");
	_cleanup_free_ char *command = xasprintf("%s %s %s", line, address, scope), *out = netns_output(guest, command);

	ASSERT_CONTAINS(out, "by datagram\n");
	ASSERT_CONTAINS(out, "by stream\n");
}

static void need(const char *program)
{
	if (access(program, X_OK) < 0)
		test_skip("%s is not installed", program);
}

/* ---- Tests ---- */

TEST(udhcpc_gets_what_the_container_has_and_names_from_the_control_address)
{
	struct bench b;
	_cleanup_free_ char *
		path = script(
		       "lease",
		       "env >\"$DIR/$1\"\n[ \"$1\" = bound ] || exit 0\nip address add $ip/$mask dev $interface\n"
		       "set -- $staticroutes\nwhile [ $# -gt 1 ]; do\n"
		       "[ $2 = 0.0.0.0 ] && ip route add $1 dev $interface || ip route add $1 via $2\nshift 2\ndone\n"),
	       *bound = NULL, *second = NULL;
	int heard;

	need("/usr/bin/busybox");
	make(&b);
	heard = listener(&b);
	start(&b);
	netns_run(b.guest, "ip link set lan0 up");
	netns_run(b.guest,
		  "busybox udhcpc -f -q -n -i lan0 -t 60 -T 1 -s %s -O staticroutes -O search -O mtu -O hostname",
		  path);
	bound = told("bound");
	ASSERT_CONTAINS(bound, "ip=172.17.0.2\n");
	ASSERT_CONTAINS(bound, "subnet=255.255.0.0\n");
	ASSERT_CONTAINS(bound, "router=172.17.0.1\n");
	ASSERT_CONTAINS(bound, "dns=169.254.255.1\n");
	ASSERT_CONTAINS(bound, "mtu=1400\n");
	ASSERT_CONTAINS(bound, "hostname=box\n");
	ASSERT_CONTAINS(bound, "domain=example.org\n");
	ASSERT_CONTAINS(bound, "search=example.org lan.example.org\n");
	ASSERT_CONTAINS(bound, "staticroutes=169.254.255.1/32 0.0.0.0 ");
	ASSERT_CONTAINS(bound, "10.66.0.0/16 172.17.0.9");
	/* The world, and who answers it for names. */
	answers(b.guest, "ping", "192.0.2.9");
	speaks_with_control(b.guest, "169.254.255.1", "lan0");
	/* A client that takes no routes sends it to its gateway, whoever that is. */
	netns_run(b.guest, "ip route del 169.254.255.1/32");
	speaks_with_control(b.guest, "169.254.255.1", "lan0");
	/* Another network, another card: nothing leads through it but its own. */
	netns_run(b.guest, "ip link set lan1 up");
	netns_run(b.guest, "busybox udhcpc -f -q -n -i lan1 -t 60 -T 1 -s %s -O staticroutes", path);
	second = told("bound");
	ASSERT_CONTAINS(second, "ip=10.9.0.2\n");
	ASSERT(!strstr(second, "router=") && !strstr(second, "dns=") && !strstr(second, "staticroutes="));
	answers(b.guest, "ping", "10.9.0.1");
	/* With another address than the card's nobody is there. */
	netns_run(b.guest, "ip link set lan1 down");
	netns_run(b.guest, "ip link set lan1 address 02:00:00:00:00:77");
	netns_run(b.guest, "ip link set lan1 up");
	ASSERT(netns_try(b.guest, "busybox udhcpc -f -q -n -i lan1 -t 2 -T 1 -s %s", path) != 0);
	assert_nothing_left(heard);
	finish(&b);
}

/* They go on in the background, each with a file that tells its number. */
static void stop_clients(void)
{
	static const char *const files[] = { "p4", "p6" };

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), files[i]);
		_cleanup_buf_ struct buf text = {};
		uint64_t pid;

		if (file_read_at(AT_FDCWD, path, 64, &text) < 0 || !text.len)
			continue;
		text.p[strcspn(text.p, "\n")] = '\0';
		if (parse_u64(text.p, 2, INT32_MAX, &pid) >= 0)
			(void)kill((pid_t)pid, SIGKILL);
	}
}

TEST(dhclient_and_the_kernel_get_both_families)
{
	struct bench b;
	_cleanup_free_ char
		*four = NULL,
		*six = NULL,
		*path = script(
			"lease",
			"env >>\"$DIR/$reason\"\n"
			"[ $reason != PREINIT6 ] || exec ip link set $interface up\n"
			"[ $reason != BOUND ] || exec ip address add $new_ip_address/$new_subnet_mask dev $interface\n"
			"[ $reason != BOUND6 ] || exec ip address add $new_ip6_address/128 dev $interface nodad\n"
			"exit 0\n"),
		*conf = xasprintf("%s/conf", test_tmpdir());
	static const char options[] =
		"option rfc3442 code 121 = string;\nsend dhcp6.rapid-commit;\nrequest subnet-mask, routers, "
		"domain-name-servers, domain-search, host-name, interface-mtu, rfc3442;\nalso request "
		"dhcp6.name-servers, dhcp6.domain-search;\n";
	int heard;

	need("/sbin/dhclient");
	atexit(stop_clients);
	ASSERT_OK(file_write_at(AT_FDCWD, conf, options, strlen(options), 0644, 0));
	make(&b);
	heard = listener(&b);
	start(&b);
	netns_run(b.guest, "ip link set lan0 up");
	netns_run(b.guest, "dhclient -4 -1 -q -cf %s -lf %s/l4 -pf %s/p4 -sf %s lan0", conf, test_tmpdir(),
		  test_tmpdir(), path);
	four = told("BOUND");
	ASSERT_CONTAINS(four, "new_ip_address=172.17.0.2\n");
	ASSERT_CONTAINS(four, "new_subnet_mask=255.255.0.0\n");
	ASSERT_CONTAINS(four, "new_routers=172.17.0.1\n");
	ASSERT_CONTAINS(four, "new_domain_name_servers=169.254.255.1\n");
	ASSERT_CONTAINS(four, "new_domain_search=example.org. lan.example.org.\n");
	ASSERT_CONTAINS(four, "new_host_name=box\n");
	ASSERT_CONTAINS(four, "new_interface_mtu=1400\n");
	/* The kernel asks for routers by itself, and DHCP needs its link-local address. */
	comes(b.guest, "ip -6 route show default", "via fe80::5ce4:ffff:2 dev lan0");
	comes(b.guest, "ip -6 route", "fd00::/64 dev lan0 proto kernel");
	comes(b.guest, "ip -6 address show dev lan0 scope link -tentative", "fe80::");
	netns_run(b.guest, "dhclient -6 -1 -q -cf %s -lf %s/l6 -pf %s/p6 -sf %s lan0", conf, test_tmpdir(),
		  test_tmpdir(), path);
	six = told("BOUND6");
	ASSERT_CONTAINS(six, "new_ip6_address=fd00::2\n");
	ASSERT_CONTAINS(six, "new_dhcp6_name_servers=fe80::5ce4:ffff:1\n");
	ASSERT_CONTAINS(six, "new_dhcp6_domain_search=example.org. lan.example.org.\n");
	/* On the link, and by the router whose address is none of a router's. */
	answers(b.guest, "ping6", "fd00::1");
	answers(b.guest, "ping6", "2001:db8::9");
	speaks_with_control(b.guest, "fe80::5ce4:ffff:1", "lan0");
	assert_nothing_left(heard);
	/* Neither leases nor releases change anything. */
	netns_run(b.guest, "dhclient -6 -r -q -cf %s -lf %s/l6 -pf %s/p6 -sf %s lan0", conf, test_tmpdir(),
		  test_tmpdir(), path);
	finish(&b);
}

/* An advertisement of fe80::bad's, to all nodes: a router, and 2001:db8:bad::/64. @header: of what is put before it, an empty one; -1 = nothing. */
static void advertises(int out, int header)
{
	struct told bad = { .default6 = true, .n_sixes = 1, .sixes = { { { 0x20, 1, 0x0d, 0xb8, 0x0b, 0xad }, 64 } } };
	struct packet_ends ends = { .to = { 0x33, 0x33, 0, 0, 0, 1 },
				    .from = { 2, 0, 0, 0, 0x0b, 0xad },
				    .six = true,
				    .source = { 0xfe, 0x80, [14] = 0x0b, [15] = 0xad },
				    .destination = { 0xff, 2, [15] = 1 } };
	uint8_t message[NDP_MAX], frame[2000];
	size_t n = ndp_write_router_advertisement(&bad, NULL, message, sizeof(message));

	n = packet_write_icmp6(&ends, message, n, frame, sizeof(frame) - 8);
	ASSERT(n > 0);
	if (header >= 0) {
		memmove(frame + 62, frame + 54, n - 54);
		memcpy(frame + 54, "\x3a\0\1\4\0\0\0\0", 8);
		frame[20] = (uint8_t)header;
		frame[19] = (uint8_t)(frame[19] + 8);
		n += 8;
	}
	ASSERT_EQ(write(out, frame, n), (ssize_t)n);
}

TEST(nobody_else_on_the_network_is_believed)
{
	struct bench b;
	_cleanup_free_ char *routes = NULL;
	int out;

	make(&b);
	start(&b);
	out = listener(&b);
	netns_run(b.guest, "ip link set lan0 up");
	comes(b.guest, "ip -6 route show default", "via fe80::5ce4:ffff:2 dev lan0");
	comes(b.guest, "ip -6 address show dev lan0 scope link -tentative", "fe80::");
	advertises(out, -1);
	advertises(out, 60);
	advertises(out, 0);
	/* What comes after them is there after them. */
	netns_run(b.guest, "ip address add fd00::2/64 dev lan0 nodad");
	answers(b.outside, "ping6", "fd00::2");
	routes = netns_output(b.guest, "ip -6 route");
	if (strstr(routes, "bad"))
		test_fail(__FILE__, __LINE__, "%s", routes);
	finish(&b);
	close(out);
}

static char *settled(int ns)
{
	uint64_t deadline = clock_monotonic_ns() + SOON_NS;

	/* Addresses that the kernel makes by itself are there, and it is sure of them. */
	for (;;) {
		_cleanup_free_ char *now = netns_output(ns, "ip -6 address show scope link");

		if (!strstr(now, "tentative") && strstr(now, "eth0") && strstr(now, "eth1"))
			return netns_picture(ns, "eth0");
		if (clock_monotonic_ns() > deadline)
			test_fail(__FILE__, __LINE__, "not settled: %s", now);
		(void)usleep(50000); /* lint: no event tells it */
	}
}

/* A machine that is started again in the same container: its interfaces are joined anew, and what stands aside has stayed. */
TEST(what_stands_aside_outlives_a_machine_and_leaves_nothing)
{
	struct bench b;
	_cleanup_free_ char *before = NULL, *after = NULL, *parted = NULL, *filters = NULL;
	const struct net_mode *mode = net_mode_find("container");
	struct net_request req = {};
	struct net_plan plan = {}, again = {};
	struct teller_options o = { .plan = &plan };
	struct teller *t = NULL, *second = NULL;
	struct loop *loop;
	struct error e = {};
	int taps[NICS], helper_fd, left;
	pid_t helper;

	make(&b);
	before = settled(b.inside);
	left = netns_enter(b.inside);
	ASSERT_OK(loop_new(&loop));
	ASSERT_OK(mode->plan(&req, &plan, &e));
	ASSERT_OK(teller_new(loop, &o, &t, &e));
	for (int i = 0; i < 2; i++) {
		ASSERT_OK(mode->prepare(&req, &plan, taps, &helper, &helper_fd, &e));
		for (size_t k = 0; k < plan.taken.n; k++)
			close(taps[k]);
		mode->release(&req);
	}
	/* None of what is ours is taken for the container's. */
	ASSERT_OK(mode->plan(&req, &again, &e));
	ASSERT_EQ(again.taken.n, plan.taken.n);
	/* One at a time. */
	ASSERT_EQ(teller_new(loop, &o, &second, &e), -EBUSY);
	ASSERT_CONTAINS(e.msg, "a machine runs in this container's network");
	netns_leave(left);
	filters = xasprintf("tc filter show dev skask%u ingress", plan.taken.nics[0].index);
	parted = netns_output(b.inside, filters);
	ASSERT(!strstr(parted, "mirred"));
	t = teller_free(t);
	after = netns_picture(b.inside, "eth0");
	ASSERT_STREQ(after, before);
	error_done(&e);
	net_plan_done(&plan);
	net_plan_done(&again);
	loop_free(loop);
}
