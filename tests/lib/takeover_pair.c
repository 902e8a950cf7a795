#include "takeover_pair.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "netns.h"
#include "test.h"

struct takeover_pair takeover_pair(void)
{
	struct takeover_pair p = { netns_new(), netns_new() };

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

char *takeover_settled(int ns, const char *interface)
{
	uint64_t deadline = clock_monotonic_ns() + 120 * NS_PER_SEC;
	_cleanup_close_ int changes = netns_listen(ns, RTMGRP_IPV6_IFADDR);

	for (;;) {
		/* The second leaves out interfaces that have no address yet. */
		_cleanup_free_ char *links = netns_output(ns, "ip -o link show up"),
				    *now = netns_output(ns, "ip -6 address show up");

		if (!strstr(now, " tentative") && occurrences(now, "scope link") + 1 == occurrences(links, ": <"))
			break;
		if (!netns_heard(changes, deadline))
			test_fail(__FILE__, __LINE__, "no link-local address: %s", now);
	}
	return netns_picture(ns, interface);
}

struct net_takeover takeover_inspected(int ns)
{
	struct net_takeover t = {};
	struct error e = {};

	if (net_takeover_inspect(ns, NULL, &t, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return t;
}

int takeover_attached(int ns, const struct net_takeover_nic *nic)
{
	struct error e = {};
	int fd = -1;

	if (net_takeover_attach(ns, nic, NULL, &fd, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s (%s)", e.msg, e.hint ? e.hint : "");
	return fd;
}

struct net_takeover_keep takeover_keeping(void)
{
	static const uint16_t ports[] = { 8080 };

	return (struct net_takeover_keep){
		.control = "169.254.255.1/30", .names = true, .ports = ports, .n_ports = ARRAY_SIZE(ports)
	};
}

int takeover_attached_keeping(int ns, const struct net_takeover_nic *nic)
{
	const struct net_takeover_keep keep = takeover_keeping();
	struct error e = {};
	int fd = -1;

	if (net_takeover_attach(ns, nic, &keep, &fd, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s (%s)", e.msg, e.hint ? e.hint : "");
	return fd;
}

void takeover_released(int ns)
{
	struct error e = {};

	if (net_takeover_release(ns, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

int frame_socket(int ns, const char *interface)
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

size_t frame_make(uint8_t *p, const char *text, size_t size)
{
	memset(p, 0, size);
	memset(p, 0xff, 6);
	memcpy(p + 6, "\x02\0\0\0\0\x01\x88\xb5", 8);
	memcpy(p + 14, text, strlen(text));
	return size;
}

size_t frame_with(int fd, size_t skip, const char *text, unsigned timeout_ms)
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

void frame_assert_joined(int tap, int peer, size_t size)
{
	uint8_t p[VNET_HEADER + FRAME_MAX] = { 0 };

	ASSERT_EQ(write(tap, p, VNET_HEADER + frame_make(p + VNET_HEADER, "from the guest", size)), VNET_HEADER + size);
	ASSERT_EQ(frame_with(peer, 0, "from the guest", PATIENCE_MS), size);
	ASSERT_EQ(write(peer, p, frame_make(p, "to the guest", size)), size);
	ASSERT_EQ(frame_with(tap, VNET_HEADER, "to the guest", PATIENCE_MS), size);
}
