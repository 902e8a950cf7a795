/* Which frames of an interface that was taken over come out where: at the guest's TAP, outside, or at the namespace's own stack. */
#include "net/takeover.h"

#include <arpa/inet.h>
#include <poll.h>
#include <unistd.h>

#include "base/clock.h"
#include "netns.h"
#include "takeover_pair.h"
#include "test.h"

static void goes_both_ways(unsigned mtu)
{
	struct takeover_pair p = takeover_pair();
	struct net_takeover t;
	int tap, peer;

	netns_run(p.inside, "ip link set eth0 mtu %u", mtu);
	netns_run(p.outside, "ip link set out0 mtu 9000");
	t = takeover_inspected(p.inside);
	ASSERT_EQ(t.nics[0].mtu, mtu);
	tap = takeover_attached(p.inside, &t.nics[0]);
	peer = frame_socket(p.outside, "out0");
	frame_assert_joined(tap, peer, 60);
	frame_assert_joined(tap, peer, 14 + mtu);
	close(peer);
	close(tap);
	takeover_released(p.inside);
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

/* Asks who has 172.17.0.2; @text goes along to be found at a TAP. */
static void ask(int peer, const char *text)
{
	uint8_t p[100] = { 0 };

	(void)frame_make(p, "", 60);
	memcpy(p + 12, "\x08\x06\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x01\xac\x11\0\x01\0\0\0\0\0\0\xac\x11\0\x02",
	       30);
	memcpy(p + 42, text, strlen(text));
	ASSERT_EQ(write(peer, p, 60), 60);
}

/* Whether somebody has answered, or does within @wait_ms. */
static bool is_answered(int peer, int wait_ms)
{
	uint64_t deadline = clock_monotonic_ns() + (uint64_t)wait_ms * NS_PER_MS;
	uint8_t p[100];

	for (;;) {
		struct pollfd poll_fd = { peer, POLLIN, 0 };
		ssize_t n;

		if (poll(&poll_fd, 1, clock_poll_timeout(deadline)) <= 0)
			return false;
		n = read(peer, p, sizeof(p));
		if (n >= 42 && memcmp(p + 12, "\x08\x06", 2) == 0 && p[21] == 2)
			return true;
	}
}

TEST(the_namespaces_own_stack_gets_nothing_until_it_is_released)
{
	struct takeover_pair p = takeover_pair();
	struct net_takeover t = takeover_inspected(p.inside);
	int peer = frame_socket(p.outside, "out0"), tap;

	ask(peer, "one");
	ASSERT(is_answered(peer, PATIENCE_MS));
	tap = takeover_attached(p.inside, &t.nics[0]);
	/* When the second has come, the stack would have had the first. */
	ask(peer, "two");
	ASSERT_EQ(frame_with(tap, VNET_HEADER + 28, "two", PATIENCE_MS), 60 - 28);
	ask(peer, "three");
	ASSERT_EQ(frame_with(tap, VNET_HEADER + 28, "three", PATIENCE_MS), 60 - 28);
	ASSERT(!is_answered(peer, 0));
	takeover_released(p.inside);
	ask(peer, "four");
	ASSERT(is_answered(peer, PATIENCE_MS));
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
	t = takeover_inspected(inside);
	ASSERT_EQ(t.n, 1);
	tap = takeover_attached(inside, &t.nics[0]);
	peer = frame_socket(outside, "out0");
	frame_assert_joined(tap, peer, 1000);
	close(peer);
	close(tap);
	takeover_released(inside);
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

/* ---- What stays with the stack ---- */

/* An IPv4 packet with a transport header of 20 bytes, ready to be sent from the address @from of that network; without checksums nobody looks at. */
static size_t make_packet(uint8_t *p, uint8_t protocol, const char *from, const char *to, uint16_t source_port,
			  uint16_t port, uint8_t tcp_flags, const char *text)
{
	uint8_t ip[40] = { 0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol };
	const uint16_t ports[] = { htons(source_port), htons(port) };
	size_t n = frame_make(p, "", 14 + sizeof(ip) + strlen(text));

	memcpy(p + 12, "\x08\0", 2);
	ip[3] = (uint8_t)(sizeof(ip) + strlen(text));
	ASSERT_EQ(inet_pton(AF_INET, from, ip + 12), 1);
	ASSERT_EQ(inet_pton(AF_INET, to, ip + 16), 1);
	memcpy(ip + 20, ports, sizeof(ports));
	ip[32] = 0x50;
	ip[33] = tcp_flags;
	memcpy(p + 14, ip, sizeof(ip));
	memcpy(p + 14 + sizeof(ip), text, strlen(text));
	return n;
}

/* The transport's text that arrives there; whether it does within @wait_ms. */
static bool arrives(int fd, size_t skip, const char *text, int wait_ms)
{
	uint64_t deadline = clock_monotonic_ns() + (uint64_t)wait_ms * NS_PER_MS;
	uint8_t p[VNET_HEADER + FRAME_MAX];

	for (;;) {
		struct pollfd poll_fd = { fd, POLLIN, 0 };
		ssize_t n;

		if (poll(&poll_fd, 1, clock_poll_timeout(deadline)) <= 0)
			return false;
		n = read(fd, p, sizeof(p));
		if (n > (ssize_t)skip && memmem(p + skip, (size_t)n - skip, text, strlen(text)))
			return true;
	}
}

static void comes_in(int peer, uint8_t protocol, uint16_t source_port, uint16_t port, const char *text)
{
	uint8_t p[FRAME_MAX] = { 0 };
	size_t n = make_packet(p, protocol, "172.17.0.1", "172.17.0.2", source_port, port, 0, text);

	ASSERT_EQ(write(peer, p, n), (ssize_t)n);
}

static void goes_out(int tap, const char *from, const char *to, uint16_t port, uint8_t flags, const char *text)
{
	uint8_t p[VNET_HEADER + FRAME_MAX] = { 0 };
	size_t n = VNET_HEADER + make_packet(p + VNET_HEADER, 6, from, to, 40000, port, flags, text);

	ASSERT_EQ(write(tap, p, n), (ssize_t)n);
}

TEST(answers_of_name_servers_come_to_both_and_own_ports_to_the_stack)
{
	struct takeover_pair p = takeover_pair();
	struct net_takeover t = takeover_inspected(p.inside);
	int peer = frame_socket(p.outside, "out0"), tap = takeover_attached_keeping(p.inside, &t.nics[0]);

	ask(peer, "arp");
	ASSERT(is_answered(peer, PATIENCE_MS));
	ASSERT(arrives(tap, VNET_HEADER, "arp", PATIENCE_MS));
	comes_in(peer, 17, 53, 40000, "name");
	ASSERT(arrives(tap, VNET_HEADER, "name", PATIENCE_MS));
	comes_in(peer, 17, 54, 53, "other");
	ASSERT(arrives(tap, VNET_HEADER, "other", PATIENCE_MS));
	comes_in(peer, 6, 53, 40000, "by tcp");
	ASSERT(arrives(tap, VNET_HEADER, "by tcp", PATIENCE_MS));
	comes_in(peer, 6, 40000, 8080, "page");
	comes_in(peer, 6, 40000, 8081, "guests");
	/* In order: had the page come, it would have come before. */
	{
		uint8_t b[FRAME_MAX];
		ssize_t n = 0;

		while (n >= 0 && !(n > 0 && memmem(b, (size_t)n, "guests", 6))) {
			struct pollfd poll_fd = { tap, POLLIN, 0 };

			ASSERT(poll(&poll_fd, 1, PATIENCE_MS) == 1);
			n = read(tap, b, sizeof(b));
			ASSERT(n > 0 && !memmem(b, (size_t)n, "page", 4));
		}
	}
	close(tap);
	close(peer);
	takeover_released(p.inside);
	net_takeover_done(&t);
}

TEST(a_reset_to_a_name_server_does_not_leave)
{
	struct takeover_pair p = takeover_pair();
	struct net_takeover t = takeover_inspected(p.inside);
	int peer = frame_socket(p.outside, "out0"), tap = takeover_attached_keeping(p.inside, &t.nics[0]);

	goes_out(tap, "172.17.0.2", "172.17.0.1", 53, 0x04, "reset");
	goes_out(tap, "172.17.0.2", "172.17.0.1", 80, 0x04, "plain");
	goes_out(tap, "172.17.0.2", "172.17.0.1", 53, 0x02, "begin");
	{
		uint8_t b[FRAME_MAX];
		bool plain = false, begin = false;

		/* On several processors one may overtake the other. */
		while (!begin || !plain) {
			struct pollfd poll_fd = { peer, POLLIN, 0 };
			ssize_t n;

			ASSERT(poll(&poll_fd, 1, PATIENCE_MS) == 1);
			n = read(peer, b, sizeof(b));
			ASSERT(n > 0 && !memmem(b, (size_t)n, "reset", 5));
			plain = plain || memmem(b, (size_t)n, "plain", 5);
			begin = begin || memmem(b, (size_t)n, "begin", 5);
		}
	}
	close(tap);
	close(peer);
	takeover_released(p.inside);
	net_takeover_done(&t);
}

TEST(the_control_network_ends_at_the_stack)
{
	struct takeover_pair p = takeover_pair();
	_cleanup_free_ char *before = takeover_settled(p.inside, "eth0"), *after = NULL;
	struct net_takeover t = takeover_inspected(p.inside);
	int peer = frame_socket(p.outside, "out0"), tap = takeover_attached_keeping(p.inside, &t.nics[0]);
	uint8_t frame[VNET_HEADER + 60] = { 0 };

	/* Who has 169.254.255.1? */
	(void)frame_make(frame + VNET_HEADER, "", 60);
	memcpy(frame + VNET_HEADER + 12,
	       "\x08\x06\0\x01\x08\0\x06\x04\0\x01\x02\0\0\0\0\x02\xa9\xfe\xff\x02\0\0\0\0\0\0\xa9\xfe\xff\x01", 30);
	ASSERT_EQ(write(tap, frame, sizeof(frame)), (ssize_t)sizeof(frame));
	/* The stack's answer: it has it, and tells the guest's address. */
	ASSERT(arrives(tap, VNET_HEADER + 28, "\xa9\xfe\xff\x01", PATIENCE_MS));
	goes_out(tap, "169.254.255.2", "169.254.255.1", 53, 0x02, "inside");
	goes_out(tap, "172.17.0.2", "172.17.0.1", 53, 0x02, "outside");
	{
		uint8_t b[FRAME_MAX];
		ssize_t n = 0;

		while (!(n > 0 && memmem(b, (size_t)n, "outside", 7))) {
			struct pollfd poll_fd = { peer, POLLIN, 0 };

			ASSERT(poll(&poll_fd, 1, PATIENCE_MS) == 1);
			n = read(peer, b, sizeof(b));
			ASSERT(n > 0 && !memmem(b, (size_t)n, "inside", 6));
			/* Random addresses are in those of IPv6. */
			ASSERT(b[12] != 8 || !memmem(b, (size_t)n, "\xa9\xfe\xff", 3));
		}
	}
	close(tap);
	close(peer);
	takeover_released(p.inside);
	after = netns_picture(p.inside, "eth0");
	ASSERT_STREQ(after, before);
	net_takeover_done(&t);
}
