#include "net/takeover_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>

#include "base/buf.h"
#include "test.h"
#include "wire/netlink.h"

static void add(struct buf *b, struct netlink_request *q)
{
	static const char zero[4];

	ASSERT_OK(netlink_end(q, 1));
	buf_add(b, q->bytes, q->len);
	buf_add(b, zero, NLMSG_ALIGN(q->len) - q->len);
}

static void begin_link(struct netlink_request *q, int index, const char *name)
{
	const struct ifinfomsg head = { .ifi_index = index, .ifi_type = ARPHRD_ETHER, .ifi_flags = IFF_UP };
	const uint8_t mac[6] = { 2, 0, 0, 0, (uint8_t)(index >> 8), (uint8_t)index };

	netlink_begin(q, RTM_NEWLINK, 0, &head, sizeof(head));
	netlink_add_string(q, IFLA_IFNAME, name);
	netlink_add(q, IFLA_ADDRESS, mac, sizeof(mac));
	netlink_add_u32(q, IFLA_MTU, 1500);
}

static void add_link(struct buf *b, int index, const char *name)
{
	struct netlink_request q;

	begin_link(&q, index, name);
	add(b, &q);
}

static void add_ipvlan(struct buf *b, int index, uint16_t mode)
{
	struct netlink_request q;
	size_t info, data;

	begin_link(&q, index, "ipvl0");
	info = netlink_nest(&q, IFLA_LINKINFO);
	netlink_add_string(&q, IFLA_INFO_KIND, "ipvlan");
	data = netlink_nest(&q, IFLA_INFO_DATA);
	netlink_add(&q, IFLA_IPVLAN_MODE, &mode, sizeof(mode));
	netlink_nest_end(&q, data);
	netlink_nest_end(&q, info);
	add(b, &q);
}

static void add_address(struct buf *b, unsigned index, const char *address, uint8_t prefix)
{
	const struct ifaddrmsg head = { .ifa_family = AF_INET, .ifa_prefixlen = prefix, .ifa_index = index };
	struct netlink_request q;
	uint8_t bytes[4];

	ASSERT_EQ(inet_pton(AF_INET, address, bytes), 1);
	netlink_begin(&q, RTM_NEWADDR, 0, &head, sizeof(head));
	netlink_add(&q, IFA_ADDRESS, bytes, sizeof(bytes));
	netlink_add(&q, IFA_LOCAL, bytes, sizeof(bytes));
	add(b, &q);
}

static void add_route(struct buf *b, unsigned index, const char *destination, uint8_t prefix, const char *gateway)
{
	const struct rtmsg head = { .rtm_family = AF_INET,
				    .rtm_dst_len = prefix,
				    .rtm_table = RT_TABLE_MAIN,
				    .rtm_protocol = RTPROT_BOOT,
				    .rtm_type = RTN_UNICAST };
	struct netlink_request q;
	uint8_t bytes[4];

	netlink_begin(&q, RTM_NEWROUTE, 0, &head, sizeof(head));
	if (destination && inet_pton(AF_INET, destination, bytes) == 1)
		netlink_add(&q, RTA_DST, bytes, sizeof(bytes));
	if (gateway && inet_pton(AF_INET, gateway, bytes) == 1)
		netlink_add(&q, RTA_GATEWAY, bytes, sizeof(bytes));
	netlink_add_u32(&q, RTA_OIF, index);
	add(b, &q);
}

/* Reads a copy of exactly that size, so that a sanitizer sees a byte too far. */
static int read_copy(const void *p, size_t n, struct net_takeover *ret, struct error *err)
{
	_cleanup_free_ void *copy = n ? xmemdup(p, n) : NULL;

	return takeover_read(copy, n, NULL, ret, err);
}

static struct net_takeover read_good(const struct buf *b)
{
	struct net_takeover t = {};
	struct error e = {};

	if (read_copy(b->p, b->len, &t, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return t;
}

static void assert_refused(const struct buf *b, const char *text)
{
	struct net_takeover t = {};
	struct error e = {};

	ASSERT(read_copy(b->p, b->len, &t, &e) < 0);
	ASSERT_EQ(e.kind, ERROR_CONFIG);
	ASSERT_CONTAINS(e.msg, text);
	error_done(&e);
}

TEST(parts_come_together_in_any_order)
{
	_cleanup_buf_ struct buf b = {};
	struct net_takeover t;

	add_route(&b, 7, NULL, 0, "10.0.0.1");
	add_route(&b, 7, "192.0.2.0", 24, NULL);
	add_address(&b, 9, "10.9.0.2", 24);
	add_address(&b, 7, "10.0.0.2", 24);
	add_link(&b, 9, "net1");
	add_link(&b, 7, "eth0");
	add_link(&b, 11, "unused");
	t = read_good(&b);
	ASSERT_EQ(t.n, 2);
	ASSERT_STREQ(t.nics[0].name, "eth0");
	ASSERT_STREQ(t.nics[0].mac, "02:00:00:00:00:07");
	ASSERT_STREQ(t.nics[0].tap, "sktap7");
	ASSERT_STREQ(t.nics[0].gateway, "10.0.0.1");
	ASSERT_EQ(t.nics[0].n_routes, 2);
	ASSERT_STREQ(t.nics[0].routes[0].destination, "192.0.2.0/24");
	ASSERT_STREQ(t.nics[0].routes[1].destination, "0.0.0.0/0");
	ASSERT_STREQ(t.nics[1].addresses.items[0], "10.9.0.2/24");
	net_takeover_done(&t);
	net_takeover_done(&t);
}

TEST(ipvlan_works_in_the_mode_that_switches)
{
	_cleanup_buf_ struct buf good = {}, bad = {};
	struct net_takeover t;

	add_ipvlan(&good, 7, IPVLAN_MODE_L2);
	add_address(&good, 7, "10.0.0.2", 24);
	t = read_good(&good);
	ASSERT_EQ(t.n, 1);
	net_takeover_done(&t);
	add_ipvlan(&bad, 7, IPVLAN_MODE_L3S);
	add_address(&bad, 7, "10.0.0.2", 24);
	assert_refused(&bad, "'ipvl0' cannot be handed to a guest: it is an ipvlan that routes");
}

TEST(more_than_a_guest_takes_is_refused)
{
	_cleanup_buf_ struct buf nics = {}, addresses = {}, routes = {};
	char text[32];

	for (int i = 1; i <= 17; i++) {
		snprintf(text, sizeof(text), "net%d", i);
		add_link(&nics, i, text);
		snprintf(text, sizeof(text), "10.%d.0.2", i);
		add_address(&nics, (unsigned)i, text, 24);
	}
	assert_refused(&nics, "more than 16 interfaces");
	add_link(&addresses, 7, "eth0");
	for (int i = 1; i <= 33; i++) {
		snprintf(text, sizeof(text), "10.0.0.%d", i);
		add_address(&addresses, 7, text, 24);
	}
	assert_refused(&addresses, "more than 32 addresses");
	add_link(&routes, 7, "eth0");
	add_address(&routes, 7, "10.0.0.2", 24);
	for (int i = 0; i <= 512; i++) {
		snprintf(text, sizeof(text), "10.%d.%d.0", 1 + i / 256, i % 256);
		add_route(&routes, 7, text, 24, "10.0.0.1");
	}
	assert_refused(&routes, "more than 512 routes");
}

TEST(an_mtu_beyond_a_taps_is_cut_to_it)
{
	_cleanup_buf_ struct buf b = {};
	struct netlink_request q;
	struct net_takeover t;

	begin_link(&q, 7, "eth0");
	netlink_add_u32(&q, IFLA_MTU, 65535);
	add(&b, &q);
	add_address(&b, 7, "10.0.0.2", 24);
	t = read_good(&b);
	ASSERT_EQ(t.nics[0].mtu, 65521);
	net_takeover_done(&t);
}

TEST(hostile_lengths_do_no_harm)
{
	static const uint16_t values[] = { 0, 1, 3, 5, 7, 8, 12, 255, 0x7fff, 0xfffc, 0xffff };
	_cleanup_buf_ struct buf good = {};
	struct net_takeover t;

	add_ipvlan(&good, 7, IPVLAN_MODE_L2);
	add_address(&good, 7, "10.0.0.2", 24);
	add_route(&good, 7, "192.0.2.0", 24, "10.0.0.1");
	for (size_t n = 0; n < good.len; n++) {
		struct error e = {};

		if (read_copy(good.p, n, &t, &e) == 0)
			net_takeover_done(&t);
		error_done(&e);
	}
	/* Every pair of bytes is a length once. */
	for (size_t at = 0; at + 2 <= good.len; at += 2)
		for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
			_cleanup_buf_ struct buf bad = {};
			struct error e = {};

			buf_add(&bad, good.p, good.len);
			memcpy(bad.p + at, &values[i], sizeof(values[i]));
			if (read_copy(bad.p, bad.len, &t, &e) == 0)
				net_takeover_done(&t);
			error_done(&e);
		}
}

/* Cut multipath hops and gateways of another family, whose lengths stand in places of their own. */
TEST(hostile_hops_do_no_harm)
{
	const struct rtmsg head = {
		.rtm_family = AF_INET, .rtm_table = RT_TABLE_MAIN, .rtm_protocol = RTPROT_BOOT, .rtm_type = RTN_UNICAST
	};
	static const uint16_t lengths[] = { 0, 1, 7, 8, 9, 15, 16, 17, 100, 0xffff };

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++)
		for (size_t n = 0; n <= 16; n++) {
			struct {
				struct rtnexthop hop;
				uint8_t gateway[8];
			} way = { .hop = { .rtnh_len = lengths[i], .rtnh_ifindex = 7 },
				  .gateway = { 8, 0, 5, 0, 10, 0, 0, 1 } };
			_cleanup_buf_ struct buf b = {};
			struct netlink_request q;
			struct net_takeover t;

			add_link(&b, 7, "eth0");
			add_address(&b, 7, "10.0.0.2", 24);
			netlink_begin(&q, RTM_NEWROUTE, 0, &head, sizeof(head));
			netlink_add(&q, RTA_MULTIPATH, &way, n);
			add(&b, &q);
			netlink_begin(&q, RTM_NEWROUTE, 0, &head, sizeof(head));
			netlink_add(&q, RTA_VIA, "\x0a\0aaaaaaaaaaaaaaaa", n);
			netlink_add_u32(&q, RTA_OIF, 7);
			add(&b, &q);
			t = read_good(&b);
			ASSERT_EQ(t.nics[0].n_routes, (lengths[i] == 16 && n == 16) || (lengths[i] == 8 && n >= 8));
			net_takeover_done(&t);
		}
}

TEST(tap_names_hold_their_interface)
{
	static const char *const others[] = { "sktap",   "sktap0",          "sktap07",          "sktap-1",
					      "sktap2x", "sktap2147483648", "sktap99999999999", "tap2" };
	unsigned index = 0;
	char name[16];

	takeover_tap_name(INT32_MAX, name);
	ASSERT_STREQ(name, "sktap2147483647");
	ASSERT(takeover_tap_index(name, &index));
	ASSERT_EQ(index, INT32_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		ASSERT(!takeover_tap_index(others[i], &index));
}
