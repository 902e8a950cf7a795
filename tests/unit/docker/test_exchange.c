/* A guest's frame, and what becomes of it. */
#include "docker/exchange.h"

#include <arpa/inet.h>

#include "net/net.h"
#include "test.h"
#include "wire/dhcp4.h"
#include "wire/dhcp6.h"
#include "wire/ndp.h"

enum { SIZE = 2000 };

static const uint8_t guest[6] = { 2, 0x42, 0xac, 0x11, 0, 2 };
static const uint8_t guest_link[16] = { 0xfe, 0x80, [15] = 9 };

static struct exchange usual(void)
{
	struct exchange x = { .control = true };
	const uint8_t own[] = NET_CONTROL_MAC;

	memcpy(x.told.mac, guest, 6);
	memcpy(x.told.own_mac, own, 6);
	x.told.mtu = 1400;
	x.told.fours[x.told.n_fours++] = (struct told_four){ { 172, 17, 0, 2 }, 16 };
	x.told.sixes[x.told.n_sixes++] = (struct told_six){ { 0xfd, [15] = 2 }, 64 };
	x.told.default6 = true;
	(void)inet_pton(AF_INET, NET_CONTROL_HOST, x.told.server4);
	(void)inet_pton(AF_INET6, NET_CONTROL_SIX, x.told.own6);
	(void)inet_pton(AF_INET6, NET_CONTROL_ROUTER, x.told.router6);
	return x;
}

static struct packet_ends ends(const char *from, const char *to, uint16_t source_port, uint16_t port)
{
	struct packet_ends e = { .six = strchr(to, ':') != NULL, .source_port = source_port, .port = port };

	memset(e.to, 0xff, 6);
	memcpy(e.from, guest, 6);
	ASSERT_EQ(inet_pton(e.six ? AF_INET6 : AF_INET, from, e.source), 1);
	ASSERT_EQ(inet_pton(e.six ? AF_INET6 : AF_INET, to, e.destination), 1);
	return e;
}

static bool is(const uint8_t *p, const char *text)
{
	uint8_t bytes[16];
	bool six = strchr(text, ':') != NULL;

	ASSERT_EQ(inet_pton(six ? AF_INET6 : AF_INET, text, bytes), 1);
	return memcmp(p, bytes, six ? 16 : 4) == 0;
}

/* Sends it, and reads the answer, which the guest must be able to read as well. */
static bool answered(struct exchange *x, const uint8_t *frame, size_t n, uint8_t out[SIZE], struct packet *ret)
{
	size_t size = 0;
	enum exchange_way way = exchange_from_guest(x, frame, n, out, SIZE, &size);

	ASSERT(way != EXCHANGE_TO_STACK);
	if (way == EXCHANGE_NOWHERE)
		return false;
	ASSERT(packet_read(out, size, ret));
	ASSERT(memcmp(ret->to, guest, 6) == 0 || (ret->to[0] & 1));
	ASSERT_MEMEQ(ret->from, x->told.own_mac, 6);
	return true;
}

static size_t discover(const struct packet_ends *e, bool broadcast, uint8_t type, const uint8_t *own, uint8_t *frame)
{
	uint8_t m[260] = { 1, 1, 6, 0, 1, 2, 3, 4 };

	m[10] = broadcast ? 0x80 : 0;
	if (own)
		memcpy(m + 12, own, 4);
	memcpy(m + 28, guest, 6);
	memcpy(m + 236, "\x63\x82\x53\x63\x35\1", 6);
	m[242] = type;
	m[243] = 255;
	return packet_write_udp(e, m, sizeof(m), frame, SIZE);
}

TEST(the_answer_of_dhcp_finds_a_client_that_has_no_address)
{
	struct exchange x = usual();
	struct packet_ends e = ends("0.0.0.0", "255.255.255.255", 68, 67);
	uint8_t frame[SIZE], out[SIZE], own[] = { 172, 17, 0, 2 };
	struct packet p;
	size_t n = discover(&e, false, DHCP4_DISCOVER, NULL, frame);

	ASSERT(answered(&x, frame, n, out, &p));
	ASSERT(is(p.destination, "172.17.0.2") && is(p.source, NET_CONTROL_HOST) && p.source_port == 67 &&
	       p.port == 68);
	ASSERT_MEMEQ(p.to, guest, 6);
	n = discover(&e, true, DHCP4_DISCOVER, NULL, frame);
	ASSERT(answered(&x, frame, n, out, &p));
	ASSERT(is(p.destination, "255.255.255.255") && p.to[0] == 0xff);
	/* One that has it already is written to directly; a refusal goes to all. */
	e = ends("172.17.0.2", NET_CONTROL_HOST, 68, 67);
	n = discover(&e, false, DHCP4_REQUEST, own, frame);
	ASSERT(answered(&x, frame, n, out, &p));
	ASSERT(is(p.destination, "172.17.0.2"));
	own[3] = 77;
	n = discover(&e, false, DHCP4_REQUEST, own, frame);
	ASSERT(answered(&x, frame, n, out, &p));
	ASSERT(is(p.destination, "255.255.255.255"));
	/* Somebody else behind the guest is not it. */
	e.from[5]++;
	n = discover(&e, false, DHCP4_DISCOVER, NULL, frame);
	ASSERT(!answered(&x, frame, n, out, &p));
}

TEST(routers_are_asked_for)
{
	struct exchange x = usual();
	struct packet_ends e = ends("::", "ff02::2", 0, 0);
	const uint8_t gateway[] = { 2, 7, 7, 7, 7, 7 };
	uint8_t frame[SIZE], out[SIZE];
	struct packet p;
	size_t n = packet_write_icmp6(&e, "\x85\0\0\0\0\0\0\0", 8, frame, SIZE);

	ASSERT(answered(&x, frame, n, out, &p));
	ASSERT(is(p.source, NET_CONTROL_ROUTER) && is(p.destination, "ff02::1") && p.hop_limit == 255 && p.p[0] == 134);
	ASSERT(p.p[16] != 1);
	/* As soon as it is known where the router is, it is told. */
	x.knows_gateway = true;
	memcpy(x.gateway, gateway, 6);
	ASSERT(answered(&x, frame, n, out, &p));
	ASSERT(p.p[16] == 1 && memcmp(p.p + 18, gateway, 6) == 0);
	/* A router of the network's own is asked for it by the guest. */
	memcpy(x.told.router6, guest_link, 16);
	ASSERT(answered(&x, frame, n, out, &p));
	ASSERT(p.p[16] != 1 && memcmp(p.source, guest_link, 16) == 0);
	x.told.n_sixes = 0;
	ASSERT(!answered(&x, frame, n, out, &p));
}

static size_t neighbour(const char *from, const char *target, uint8_t *frame)
{
	struct packet_ends e = ends(from, "ff02::1:ff00:1", 0, 0);
	uint8_t m[24] = { NDP_NEIGHBOUR_SOLICITATION };

	ASSERT_EQ(inet_pton(AF_INET6, target, m + 8), 1);
	return packet_write_icmp6(&e, m, sizeof(m), frame, SIZE);
}

TEST(our_addresses_are_answered_for)
{
	struct exchange x = usual();
	uint8_t frame[SIZE], out[SIZE];
	struct packet p;
	size_t n = neighbour("fe80::9", NET_CONTROL_SIX, frame);

	ASSERT(answered(&x, frame, n, out, &p));
	ASSERT(p.p[0] == 136 && is(p.p + 8, NET_CONTROL_SIX) && memcmp(p.p + 26, x.told.own_mac, 6) == 0);
	ASSERT(!x.wants_gateway);
	n = neighbour("fe80::9", NET_CONTROL_ROUTER, frame);
	ASSERT(!answered(&x, frame, n, out, &p));
	ASSERT(x.wants_gateway);
	x.knows_gateway = true;
	x.gateway[0] = 6;
	ASSERT(answered(&x, frame, n, out, &p));
	ASSERT(memcmp(p.p + 26, x.gateway, 6) == 0 && is(p.destination, "fe80::9"));
	/* Not for others', nor for a guest that tries whether ours is free. */
	n = neighbour("fe80::9", "fe80::1", frame);
	ASSERT(!answered(&x, frame, n, out, &p));
	n = neighbour("::", NET_CONTROL_SIX, frame);
	ASSERT(!answered(&x, frame, n, out, &p));
}

TEST(what_is_for_the_control_address_goes_by_another)
{
	struct exchange x = usual();
	struct packet_ends e = ends("172.17.0.2", NET_CONTROL_HOST, 4000, 53), back;
	uint8_t frame[SIZE], out[SIZE], whole[SIZE];
	struct packet p;
	size_t n = packet_write_udp(&e, "name?", 5, frame, SIZE), size = 0;

	ASSERT_EQ(exchange_from_guest(&x, frame, n, out, SIZE, &size), EXCHANGE_TO_STACK);
	n = packet_write_ip(guest, guest, out, size, whole, SIZE);
	ASSERT(packet_read(whole, n, &p));
	ASSERT(is(p.source, NET_CONTROL_LEASED) && is(p.destination, NET_CONTROL_HOST) && p.source_port == 4000 &&
	       p.port == 53);
	ASSERT_MEMEQ(p.p, "name?", 5);
	back = ends(NET_CONTROL_HOST, NET_CONTROL_LEASED, 53, 4000);
	n = packet_write_udp(&back, "yes", 3, frame, SIZE);
	size = exchange_from_stack(&x, frame + 14, n - 14, out, SIZE);
	ASSERT(packet_read(out, size, &p));
	ASSERT(is(p.source, NET_CONTROL_HOST) && is(p.destination, "172.17.0.2") && memcmp(p.to, guest, 6) == 0);
	/* By IPv6 the stack is spoken to by IPv4. */
	back = ends(NET_CONTROL_HOST, NET_CONTROL_LEASED6, 53, 4000);
	n = packet_write_udp(&back, "yes", 3, frame, SIZE);
	ASSERT_EQ(exchange_from_stack(&x, frame + 14, n - 14, out, SIZE), 0); /* nobody has asked */
	e = ends("fe80::9", NET_CONTROL_SIX, 4000, 53);
	n = packet_write_udp(&e, "name?", 5, frame, SIZE);
	ASSERT_EQ(exchange_from_guest(&x, frame, n, out, SIZE, &size), EXCHANGE_TO_STACK);
	n = packet_write_ip(guest, guest, out, size, whole, SIZE);
	ASSERT(packet_read(whole, n, &p));
	ASSERT(is(p.source, NET_CONTROL_LEASED6) && is(p.destination, NET_CONTROL_HOST) && p.port == 53);
	n = packet_write_udp(&back, "yes", 3, frame, SIZE);
	size = exchange_from_stack(&x, frame + 14, n - 14, out, SIZE);
	ASSERT(packet_read(out, size, &p));
	ASSERT(p.kind == PACKET_KIND_SIX && is(p.source, NET_CONTROL_SIX) &&
	       memcmp(p.destination, guest_link, 16) == 0);
}

TEST(nothing_else_gets_through)
{
	struct exchange x = usual();
	struct packet_ends e = ends("10.0.0.1", NET_CONTROL_HOST, 4000, 53);
	uint8_t frame[SIZE], out[SIZE];
	size_t n, size = 1;

	/* From an address that the guest has not; to another; to ours where the control address is not; by a stack that is not ours. */
	n = packet_write_udp(&e, "x", 1, frame, SIZE);
	ASSERT_EQ(exchange_from_guest(&x, frame, n, out, SIZE, &size), EXCHANGE_NOWHERE);
	e = ends("172.17.0.2", "169.254.255.2", 4000, 53);
	n = packet_write_udp(&e, "x", 1, frame, SIZE);
	ASSERT_EQ(exchange_from_guest(&x, frame, n, out, SIZE, &size), EXCHANGE_NOWHERE);
	e = ends("fd00::2", NET_CONTROL_SIX, 4000, 53);
	n = packet_write_udp(&e, "x", 1, frame, SIZE);
	ASSERT_EQ(exchange_from_guest(&x, frame, n, out, SIZE, &size), EXCHANGE_NOWHERE);
	e = ends("172.17.0.1", NET_CONTROL_LEASED, 53, 4000);
	n = packet_write_udp(&e, "x", 1, frame, SIZE);
	ASSERT_EQ(exchange_from_stack(&x, frame + 14, n - 14, out, SIZE), 0);
	ASSERT_EQ(exchange_from_stack(&x, frame + 14, 10, out, SIZE), 0);
	e = ends("172.17.0.2", NET_CONTROL_HOST, 4000, 53);
	n = packet_write_udp(&e, "x", 1, frame, SIZE);
	ASSERT_EQ(exchange_from_guest(&x, frame, n, out, 10, &size), EXCHANGE_NOWHERE);
	x.control = false;
	ASSERT_EQ(exchange_from_guest(&x, frame, n, out, SIZE, &size), EXCHANGE_NOWHERE);
	ASSERT_EQ(exchange_from_guest(&x, frame, 5, out, SIZE, &size), EXCHANGE_NOWHERE);
}
