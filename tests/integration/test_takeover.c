/* Interfaces taken over, in network namespaces that the tests make: what is read, which frames come out where, and that everything is as before
 * afterwards, wherever it was broken off. The modules are compiled in with their fault points. */
#include "net/takeover.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "netns.h"
#include "test.h"

enum { VNET_HEADER = 10, FRAME_MAX = 10000 };

struct pair {
	int inside, outside;
};

/* eth0 inside, out0 outside; addresses as a bridge's container has them. */
static struct pair make_pair(void)
{
	struct pair p = { netns_new(), netns_new() };

	netns_pair(p.inside, "eth0", p.outside, "out0");
	netns_run(p.inside, "ip link set eth0 address 02:42:ac:11:00:02");
	netns_run(p.inside, "ip address add 172.17.0.2/16 dev eth0");
	netns_run(p.inside, "ip address add fd00::2/64 dev eth0 nodad");
	netns_run(p.inside, "ip route add default via 172.17.0.1");
	netns_run(p.inside, "ip -6 route add default via fd00::1");
	return p;
}

static size_t occurrences(const char *text, const char *what)
{
	size_t n = 0;

	for (const char *p = strstr(text, what); p; p = strstr(p + 1, what))
		n++;
	return n;
}

/* A picture of what stays as it is: every interface but lo has got its link-local address, for good. */
static char *settled(int ns, const char *interface)
{
	uint64_t deadline = clock_monotonic_ns() + 20 * NS_PER_SEC;
	const struct sockaddr_nl changes = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_IPV6_IFADDR };
	int before = netns_enter(ns), fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	ASSERT_EQ(bind(fd, (const struct sockaddr *)&changes, sizeof(changes)), 0);
	netns_leave(before);
	for (;;) {
		_cleanup_free_ char *now = netns_output(ns, "ip -6 address show up");
		struct pollfd p = { fd, POLLIN, 0 };
		char event[4096];

		if (!strstr(now, " tentative") && occurrences(now, "scope link") + 1 == occurrences(now, ": <"))
			break;
		if (poll(&p, 1, clock_poll_timeout(deadline)) <= 0)
			test_fail(__FILE__, __LINE__, "no link-local address: %s", now);
		ASSERT(read(fd, event, sizeof(event)) > 0);
	}
	close(fd);
	return netns_picture(ns, interface);
}

static struct net_takeover inspected(int ns)
{
	struct net_takeover t = {};
	struct error e = {};

	if (net_takeover_inspect(ns, NULL, &t, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return t;
}

static int attached(int ns, const struct net_takeover_nic *nic)
{
	struct error e = {};
	int fd = -1;

	if (net_takeover_attach(ns, nic, &fd, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s (%s)", e.msg, e.hint ? e.hint : "");
	return fd;
}

static void released(int ns)
{
	struct error e = {};

	if (net_takeover_release(ns, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static void refused(int ns, const struct strv *names, enum error_kind kind, const char *text)
{
	struct net_takeover t = {};
	struct error e = {};

	ASSERT(net_takeover_inspect(ns, names, &t, &e) < 0);
	ASSERT_EQ(e.kind, kind);
	ASSERT_CONTAINS(e.msg, text);
	error_done(&e);
}

static bool has_route(const struct net_takeover_nic *nic, const char *destination, const char *gateway,
		      const char *source, uint32_t metric)
{
	for (size_t i = 0; i < nic->n_routes; i++) {
		const struct net_route *r = &nic->routes[i];

		if (streq(r->destination, destination) && streq(r->gateway, gateway) && streq(r->source, source) &&
		    r->metric == metric)
			return true;
	}
	return false;
}

/* ---- Reading ---- */

TEST(what_was_set_is_what_is_read)
{
	struct pair p = make_pair();
	struct net_takeover t;
	struct net_takeover_nic *nic;

	netns_run(p.inside, "ip link set eth0 mtu 1450");
	netns_run(p.inside, "ip address add 10.9.0.7/24 dev eth0");
	netns_run(p.inside, "ip route add 10.0.0.0/8 via 172.17.0.9 metric 50 src 10.9.0.7");
	netns_run(p.inside, "ip route add 192.0.2.0/24 dev eth0");
	netns_run(p.inside, "ip route add default via 172.17.0.8 metric 200");
	netns_run(p.inside, "ip route add 198.51.100.0/24 nexthop via 172.17.0.3 nexthop via 172.17.0.4");
	netns_run(p.inside, "ip route add blackhole 203.0.113.0/24");
	netns_run(p.inside, "ip route add 10.77.0.0/16 via 172.17.0.1 table 77");
	netns_run(p.inside, "ip -6 route add 2001:db8::/32 via fe80::99 dev eth0 metric 33");
	netns_run(p.inside, "ip route add 203.0.113.128/25 via inet6 fe80::98 dev eth0");
	netns_run(p.inside, "ip neighbour add 172.17.0.1 lladdr 0a:00:00:00:00:01 dev eth0 nud permanent");
	netns_run(p.inside, "ip neighbour add 172.17.0.5 lladdr 0a:00:00:00:00:05 dev eth0 nud stale");
	free(settled(p.inside, "eth0"));
	t = inspected(p.inside);
	ASSERT_EQ(t.n, 1);
	nic = &t.nics[0];
	ASSERT_STREQ(nic->name, "eth0");
	ASSERT_STREQ(nic->mac, "02:42:ac:11:00:02");
	ASSERT_EQ(nic->mtu, 1450);
	ASSERT_EQ(nic->addresses.n, 3);
	ASSERT(strv_has(&nic->addresses, "172.17.0.2/16"));
	ASSERT(strv_has(&nic->addresses, "10.9.0.7/24"));
	ASSERT(strv_has(&nic->addresses, "fd00::2/64"));
	ASSERT_STREQ(nic->gateway, "172.17.0.1");
	ASSERT_STREQ(nic->gateway6, "fd00::1");
	ASSERT(has_route(nic, "0.0.0.0/0", "172.17.0.1", "", 0));
	ASSERT(has_route(nic, "0.0.0.0/0", "172.17.0.8", "", 200));
	ASSERT(has_route(nic, "10.0.0.0/8", "172.17.0.9", "10.9.0.7", 50));
	ASSERT(has_route(nic, "192.0.2.0/24", "", "", 0));
	ASSERT(has_route(nic, "198.51.100.0/24", "172.17.0.3", "", 0));
	ASSERT(has_route(nic, "::/0", "fd00::1", "", 1024));
	ASSERT(has_route(nic, "2001:db8::/32", "fe80::99", "", 33));
	ASSERT(has_route(nic, "203.0.113.128/25", "fe80::98", "", 0));
	ASSERT_EQ(nic->n_routes, 8);
	ASSERT_STREQ(nic->routes[0].gateway, "");
	ASSERT_EQ(nic->n_neighbours, 1);
	ASSERT_STREQ(nic->neighbours[0].address, "172.17.0.1");
	ASSERT_STREQ(nic->neighbours[0].mac, "0a:00:00:00:00:01");
	net_takeover_done(&t);
}

TEST(a_gateway_outside_of_the_network_comes_behind_the_way_to_it)
{
	struct pair p = { netns_new(), netns_new() };
	struct net_takeover t;

	/* As Calico does it: one address, everything by a gateway that only answers for others. */
	netns_pair(p.inside, "eth0", p.outside, "cali0");
	netns_run(p.inside, "ip address add 10.244.1.7/32 dev eth0");
	netns_run(p.inside, "ip route add 169.254.1.1 dev eth0 scope link");
	netns_run(p.inside, "ip route add default via 169.254.1.1 dev eth0");
	t = inspected(p.inside);
	ASSERT_EQ(t.n, 1);
	ASSERT_EQ(t.nics[0].addresses.n, 1);
	ASSERT_STREQ(t.nics[0].addresses.items[0], "10.244.1.7/32");
	ASSERT_EQ(t.nics[0].n_routes, 2);
	ASSERT_STREQ(t.nics[0].routes[0].destination, "169.254.1.1/32");
	ASSERT_STREQ(t.nics[0].routes[0].gateway, "");
	ASSERT_STREQ(t.nics[0].routes[1].destination, "0.0.0.0/0");
	ASSERT_STREQ(t.nics[0].routes[1].gateway, "169.254.1.1");
	ASSERT_STREQ(t.nics[0].gateway, "169.254.1.1");
	net_takeover_done(&t);
}

TEST(the_other_end_of_an_address_is_a_route)
{
	struct pair p = { netns_new(), netns_new() };
	struct net_takeover t;

	netns_pair(p.inside, "eth0", p.outside, "out0");
	netns_run(p.inside, "ip address add 10.1.1.2 peer 10.1.1.1/32 dev eth0");
	t = inspected(p.inside);
	ASSERT_EQ(t.nics[0].addresses.n, 1);
	ASSERT_STREQ(t.nics[0].addresses.items[0], "10.1.1.2/32");
	ASSERT_EQ(t.nics[0].n_routes, 1);
	ASSERT(has_route(&t.nics[0], "10.1.1.1/32", "", "10.1.1.2", 0));
	net_takeover_done(&t);
}

TEST(several_interfaces_are_all_found_or_those_that_are_named)
{
	struct pair p = make_pair();
	_cleanup_strv_ struct strv names = {};
	struct net_takeover t;
	struct error e = {};

	netns_pair(p.inside, "net1", p.outside, "out1");
	netns_run(p.inside, "ip address add 10.2.0.2/24 dev net1");
	netns_pair(p.inside, "bare", p.outside, "out2");
	t = inspected(p.inside);
	ASSERT_EQ(t.n, 2);
	ASSERT_STREQ(t.nics[0].name, "eth0");
	ASSERT_STREQ(t.nics[1].name, "net1");
	ASSERT_EQ(t.nics[1].n_routes, 0);
	ASSERT(t.nics[0].index < t.nics[1].index);
	net_takeover_done(&t);
	strv_add(&names, "bare");
	ASSERT_OK(net_takeover_inspect(p.inside, &names, &t, &e));
	ASSERT_EQ(t.n, 1);
	ASSERT_STREQ(t.nics[0].name, "bare");
	ASSERT_EQ(t.nics[0].addresses.n, 0);
	net_takeover_done(&t);
	strv_add(&names, "nothing");
	refused(p.inside, &names, ERROR_NOT_FOUND, "interface 'nothing' does not exist");
}

TEST(a_namespace_with_nothing_holds_nothing)
{
	struct net_takeover t = inspected(netns_new());

	ASSERT_EQ(t.n, 0);
	net_takeover_done(&t);
}

TEST(what_cannot_be_handed_over_is_named)
{
	struct pair p = make_pair();
	_cleanup_strv_ struct strv names = {};

	netns_run(p.inside, "ip link set eth0 arp off");
	refused(p.inside, NULL, ERROR_CONFIG, "'eth0' cannot be handed to a guest: it does not resolve");
	netns_run(p.inside, "ip link set eth0 arp on");
	strv_add(&names, "lo");
	refused(p.inside, &names, ERROR_CONFIG, "'lo' cannot be handed to a guest: it is the loopback");
	netns_run(p.inside, "ip link set eth0 down");
	strv_done(&names);
	strv_add(&names, "eth0");
	refused(p.inside, &names, ERROR_CONFIG, "it is down");
	netns_run(p.inside, "ip link set eth0 up");
	netns_run(p.inside, "ip tuntap add vpn0 mode tun");
	netns_run(p.inside, "ip link set vpn0 up");
	netns_run(p.inside, "ip address add 10.8.0.2/24 dev vpn0");
	refused(p.inside, NULL, ERROR_CONFIG, "'vpn0' cannot be handed to a guest: it is no Ethernet");
}

TEST(two_with_one_hardware_address_are_refused)
{
	struct pair p = make_pair();

	netns_pair(p.inside, "net1", p.outside, "out1");
	netns_run(p.inside, "ip link set net1 address 02:42:ac:11:00:02");
	netns_run(p.inside, "ip address add 10.2.0.2/24 dev net1");
	refused(p.inside, NULL, ERROR_CONFIG, "same hardware address");
}

TEST(an_ipvlan_that_routes_is_refused_one_that_switches_is_not)
{
	struct pair p = { netns_new(), netns_new() };
	struct net_takeover t;

	netns_pair(p.inside, "base0", p.outside, "out0");
	if (netns_try(p.inside, "ip link add link base0 name ipvl0 type ipvlan mode l3") != 0)
		test_skip("this kernel has no ipvlan");
	netns_run(p.inside, "ip link set ipvl0 up");
	netns_run(p.inside, "ip address add 10.3.0.2/24 dev ipvl0");
	refused(p.inside, NULL, ERROR_CONFIG, "mode l3");
	netns_run(p.inside, "ip link set ipvl0 type ipvlan mode l2");
	t = inspected(p.inside);
	ASSERT_EQ(t.n, 1);
	net_takeover_done(&t);
}

/* ---- Frames ---- */

static int packet_socket(int ns, const char *interface)
{
	int before = netns_enter(ns);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL));
	struct sockaddr_ll a = { .sll_family = AF_PACKET,
				 .sll_protocol = htons(ETH_P_ALL),
				 .sll_ifindex = (int)if_nametoindex(interface) };

	ASSERT(fd >= 0 && a.sll_ifindex > 0);
	ASSERT_EQ(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	netns_leave(before);
	return fd;
}

/* A frame of @size bytes of an experimental protocol, so that no stack answers it; its text tells it from others. */
static size_t make_frame(uint8_t *p, const char *text, size_t size)
{
	memset(p, 0, size);
	memset(p, 0xff, 6);
	memcpy(p + 6, "\x02\0\0\0\0\x01\x88\xb5", 8);
	memcpy(p + 14, text, strlen(text));
	return size;
}

/* Reads frames until one has @text behind @skip bytes, or the time is up. Returns its size, 0 = none. */
static size_t frame_with(int fd, size_t skip, const char *text, unsigned timeout_ms)
{
	uint64_t deadline = clock_monotonic_ns() + timeout_ms * NS_PER_MS;
	static uint8_t p[FRAME_MAX];

	for (;;) {
		struct pollfd poll_fd = { fd, POLLIN, 0 };
		ssize_t n;

		if (poll(&poll_fd, 1, clock_poll_timeout(deadline)) <= 0)
			return 0;
		n = read(fd, p, sizeof(p));
		if (n >= (ssize_t)(skip + 14 + strlen(text)) && memcmp(p + skip + 14, text, strlen(text)) == 0)
			return (size_t)n - skip;
	}
}

static void assert_joined(int tap, int peer, size_t size)
{
	uint8_t p[VNET_HEADER + FRAME_MAX] = { 0 };

	ASSERT_EQ(write(tap, p, VNET_HEADER + make_frame(p + VNET_HEADER, "from the guest", size)), VNET_HEADER + size);
	ASSERT_EQ(frame_with(peer, 0, "from the guest", 10000), size);
	ASSERT_EQ(write(peer, p, make_frame(p, "to the guest", size)), size);
	ASSERT_EQ(frame_with(tap, VNET_HEADER, "to the guest", 10000), size);
}

static void goes_both_ways(unsigned mtu)
{
	struct pair p = make_pair();
	struct net_takeover t;
	int tap, peer;

	netns_run(p.inside, "ip link set eth0 mtu %u", mtu);
	netns_run(p.outside, "ip link set out0 mtu 9000");
	t = inspected(p.inside);
	ASSERT_EQ(t.nics[0].mtu, mtu);
	tap = attached(p.inside, &t.nics[0]);
	peer = packet_socket(p.outside, "out0");
	assert_joined(tap, peer, 60);
	assert_joined(tap, peer, 14 + mtu);
	close(peer);
	close(tap);
	released(p.inside);
	net_takeover_done(&t);
}

TEST(frames_go_both_ways)
{
	goes_both_ways(1500);
}

TEST(frames_go_both_ways_up_to_a_small_mtu)
{
	goes_both_ways(1450);
}

TEST(frames_go_both_ways_up_to_a_large_mtu)
{
	goes_both_ways(9000);
}

/* Asks who has 172.17.0.2 and tells whether somebody answers; @text goes along to be found at a TAP. */
static bool is_answered(int peer, const char *text)
{
	uint8_t p[100] = { 0 };
	ssize_t n;

	(void)make_frame(p, "", 60);
	memcpy(p + 12, "\x08\x06\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x01\xac\x11\0\x01\0\0\0\0\0\0\xac\x11\0\x02",
	       30);
	memcpy(p + 42, text, strlen(text));
	ASSERT_EQ(write(peer, p, 60), 60);
	/* A stack of this host answers within that call. */
	while ((n = read(peer, p, sizeof(p))) > 0)
		if (n >= 42 && memcmp(p + 12, "\x08\x06", 2) == 0 && p[21] == 2)
			return true;
	return false;
}

TEST(the_namespaces_own_stack_gets_nothing_until_it_is_released)
{
	struct pair p = make_pair();
	struct net_takeover t = inspected(p.inside);
	int peer = packet_socket(p.outside, "out0"), tap;

	ASSERT(is_answered(peer, "one"));
	tap = attached(p.inside, &t.nics[0]);
	ASSERT(!is_answered(peer, "two"));
	ASSERT_EQ(frame_with(tap, VNET_HEADER + 28, "two", 10000), 60 - 28);
	released(p.inside);
	ASSERT(is_answered(peer, "three"));
	close(tap);
	close(peer);
	net_takeover_done(&t);
}

static void slave_is_taken_over(const char *kind, const char *mode)
{
	int base = netns_new(), inside = netns_new(), outside = netns_new();
	struct net_takeover t;
	int tap, peer;

	netns_pair(base, "base0", outside, "out0");
	if (netns_try(base, "ip link add link base0 name slave0 type %s mode %s", kind, mode) != 0)
		test_skip("this kernel has no %s", kind);
	netns_run(base, "ip link set slave0 netns /proc/%d/fd/%d", getpid(), inside);
	netns_run(inside, "ip link set slave0 up");
	netns_run(inside, "ip address add 10.3.0.2/24 dev slave0");
	t = inspected(inside);
	ASSERT_EQ(t.n, 1);
	tap = attached(inside, &t.nics[0]);
	peer = packet_socket(outside, "out0");
	assert_joined(tap, peer, 1000);
	close(peer);
	close(tap);
	released(inside);
	net_takeover_done(&t);
}

TEST(a_macvlan_is_taken_over_like_any_other)
{
	slave_is_taken_over("macvlan", "bridge");
}

TEST(an_ipvlan_is_taken_over_like_any_other)
{
	slave_is_taken_over("ipvlan", "l2");
}

/* ---- Before and after ---- */

TEST(afterwards_everything_is_as_before)
{
	struct pair p = make_pair();
	_cleanup_free_ char *before = NULL, *during = NULL, *after = NULL, *addresses = NULL;
	struct net_takeover t;
	int one, two;

	netns_pair(p.inside, "net1", p.outside, "out1");
	netns_run(p.inside, "ip address add 10.2.0.2/24 dev net1");
	before = settled(p.inside, "eth0");
	t = inspected(p.inside);
	ASSERT_EQ(t.n, 2);
	one = attached(p.inside, &t.nics[0]);
	two = attached(p.inside, &t.nics[1]);
	during = netns_picture(p.inside, "eth0");
	ASSERT_CONTAINS(during, t.nics[0].tap);
	ASSERT_CONTAINS(during, t.nics[1].tap);
	ASSERT_CONTAINS(during, "172.17.0.2/16");
	addresses = netns_output(p.inside, "ip address show dev eth0");
	ASSERT_CONTAINS(addresses, "fd00::2/64");
	/* Nothing of ours is taken for an interface of theirs. */
	net_takeover_done(&t);
	t = inspected(p.inside);
	ASSERT_EQ(t.n, 2);
	close(one);
	released(p.inside);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	released(p.inside);
	close(two);
	released(p.inside);
	free(after);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	net_takeover_done(&t);
}

TEST(twice_is_refused_while_it_is_held_and_starts_afresh_afterwards)
{
	struct pair p = make_pair();
	_cleanup_free_ char *before = settled(p.inside, "eth0"), *after = NULL;
	struct net_takeover t = inspected(p.inside);
	struct error e = {};
	int tap = attached(p.inside, &t.nics[0]), other = -1, peer;

	ASSERT_EQ(net_takeover_attach(p.inside, &t.nics[0], &other, &e), -EBUSY);
	ASSERT_EQ(e.kind, ERROR_BUSY);
	ASSERT_CONTAINS(e.msg, "has been taken over");
	error_done(&e);
	peer = packet_socket(p.outside, "out0");
	assert_joined(tap, peer, 100);
	close(tap);
	tap = attached(p.inside, &t.nics[0]);
	assert_joined(tap, peer, 100);
	released(p.inside);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	close(tap);
	net_takeover_done(&t);
}

TEST(somebody_elses_filters_are_not_touched)
{
	struct pair p = make_pair();
	_cleanup_free_ char *before = NULL, *after = NULL;
	struct net_takeover t = inspected(p.inside);
	struct error e = {};
	int tap = -1;

	netns_run(p.inside, "tc qdisc add dev eth0 clsact");
	free(settled(p.inside, "eth0"));
	before = netns_picture(p.inside, "eth0");
	tap = attached(p.inside, &t.nics[0]);
	close(tap);
	released(p.inside);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	netns_run(p.inside, "tc filter add dev eth0 ingress pref 7 u32 match u32 0 0 flowid 1:1");
	free(before);
	before = netns_picture(p.inside, "eth0");
	ASSERT_EQ(net_takeover_attach(p.inside, &t.nics[0], &tap, &e), -EBUSY);
	ASSERT_CONTAINS(e.msg, "interface 'eth0' has traffic filters already");
	error_done(&e);
	released(p.inside);
	free(after);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	net_takeover_done(&t);
}

TEST(a_discipline_that_others_have_come_to_use_stays)
{
	struct pair p = make_pair();
	_cleanup_free_ char *after = NULL;
	struct net_takeover t = inspected(p.inside);
	int tap = attached(p.inside, &t.nics[0]);

	netns_run(p.inside, "tc filter add dev eth0 egress pref 7 u32 match u32 0 0 flowid 1:1");
	released(p.inside);
	after = netns_output(p.inside, "tc filter show dev eth0 egress");
	ASSERT_CONTAINS(after, "pref 7");
	close(tap);
	net_takeover_done(&t);
}

TEST(an_interface_that_has_gone_is_no_obstacle)
{
	struct pair p = make_pair();
	struct net_takeover t = inspected(p.inside);
	_cleanup_free_ char *after = NULL;
	struct error e = {};
	int tap = attached(p.inside, &t.nics[0]), other = -1;

	netns_run(p.outside, "ip link del out0");
	released(p.inside);
	after = netns_output(p.inside, "ip -o link");
	ASSERT(!strstr(after, "sktap"));
	ASSERT_EQ(net_takeover_attach(p.inside, &t.nics[0], &other, &e), -ENOENT);
	ASSERT_CONTAINS(e.msg, "interface 'eth0' has gone");
	error_done(&e);
	close(tap);
	net_takeover_done(&t);
}

TEST(a_namespace_whose_name_was_removed_is_released_by_its_descriptor)
{
	struct pair p = make_pair();
	_cleanup_free_ char *name = xasprintf("skt%d", getpid()), *path = xasprintf("/run/netns/%s", name);
	struct net_takeover t;
	int own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC), ns, tap;

	netns_run(own, "ip netns add %s", name);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_OK(ns);
	netns_pair(ns, "eth0", p.outside, "out1");
	netns_run(ns, "ip address add 10.5.0.2/24 dev eth0");
	t = inspected(ns);
	tap = attached(ns, &t.nics[0]);
	netns_run(own, "ip netns del %s", name);
	released(ns);
	close(tap);
	close(ns);
	net_takeover_done(&t);
}

TEST(the_own_namespace_needs_no_descriptor)
{
	struct pair p = make_pair();
	struct net_takeover t;
	int before = netns_enter(p.inside), tap;

	t = inspected(-1);
	ASSERT_EQ(t.n, 1);
	tap = attached(-1, &t.nics[0]);
	released(-1);
	close(tap);
	netns_leave(before);
	net_takeover_done(&t);
}

TEST(what_is_no_namespace_is_refused)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	struct net_takeover t = {};
	struct error e = {};

	ASSERT(net_takeover_inspect(fd, NULL, &t, &e) < 0);
	ASSERT_CONTAINS(e.msg, "cannot enter the network namespace");
	error_done(&e);
	ASSERT(net_takeover_release(fd, NULL) < 0);
}

/* ---- Broken off ---- */

/* Attach (or release, when @held) in a process of its own that meets its fault at @label. Returns its wait status. */
static int broken_off(int ns, const struct net_takeover_nic *nic, const char *label, const char *action, bool release)
{
	_cleanup_free_ char *fault = xasprintf("%s=%s", label, action);
	int status = -1, fd = -1;
	pid_t pid = fork();

	ASSERT_OK(pid);
	if (pid == 0) {
		setenv("SKERRY_FAULT", fault, 1);
		if (release)
			_exit(net_takeover_release(ns, NULL) < 0);
		_exit(net_takeover_attach(ns, nic, &fd, NULL) < 0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

static const char *const attach_labels[] = { "takeover.tap",     "takeover.tap-made", "takeover.tap-up",
					     "takeover.outward", "takeover.qdisc",    "takeover.joined" };
static const char *const release_labels[] = { "takeover.release", "takeover.parted", "takeover.released" };

TEST(an_attach_that_fails_leaves_nothing)
{
	struct pair p = make_pair();
	_cleanup_free_ char *before = settled(p.inside, "eth0");
	struct net_takeover t = inspected(p.inside);

	for (size_t i = 0; i < ARRAY_SIZE(attach_labels); i++) {
		_cleanup_free_ char *after = NULL;
		int status = broken_off(p.inside, &t.nics[0], attach_labels[i], "ENOMEM", false);

		ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 1);
		after = netns_picture(p.inside, "eth0");
		ASSERT_STREQ(after, before);
	}
	net_takeover_done(&t);
}

TEST(killed_anywhere_it_is_released_or_made_again)
{
	struct pair p = make_pair();
	_cleanup_free_ char *before = settled(p.inside, "eth0");
	struct net_takeover t = inspected(p.inside);
	int peer = packet_socket(p.outside, "out0");

	for (size_t i = 0; i < ARRAY_SIZE(attach_labels); i++) {
		_cleanup_free_ char *after = NULL, *again = NULL;
		int tap;

		ASSERT(WIFSIGNALED(broken_off(p.inside, &t.nics[0], attach_labels[i], "kill", false)));
		released(p.inside);
		after = netns_picture(p.inside, "eth0");
		ASSERT_STREQ(after, before);
		ASSERT(WIFSIGNALED(broken_off(p.inside, &t.nics[0], attach_labels[i], "kill", false)));
		tap = attached(p.inside, &t.nics[0]);
		assert_joined(tap, peer, 200);
		close(tap);
		released(p.inside);
		again = netns_picture(p.inside, "eth0");
		ASSERT_STREQ(again, before);
	}
	for (size_t i = 0; i < ARRAY_SIZE(release_labels); i++) {
		_cleanup_free_ char *after = NULL;
		int tap = attached(p.inside, &t.nics[0]);

		ASSERT(WIFSIGNALED(broken_off(p.inside, NULL, release_labels[i], "kill", true)));
		released(p.inside);
		close(tap);
		after = netns_picture(p.inside, "eth0");
		ASSERT_STREQ(after, before);
	}
	close(peer);
	net_takeover_done(&t);
}
