#include "docker/exchange.h"

#include <arpa/inet.h>
#include <string.h>

#include "net/net.h"
#include "wire/dhcp4.h"
#include "wire/dhcp6.h"
#include "wire/ndp.h"

enum { FOUR_HEADER = 20 };

static const uint8_t ethernet_all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
static const uint8_t four_all[4] = { 0xff, 0xff, 0xff, 0xff };
static const uint8_t none[16];

/* Addresses of net.h, as they are on the wire. */
static void four(const char *text, uint8_t ret[4])
{
	(void)inet_pton(AF_INET, text, ret);
}

static bool is_link_local(const uint8_t address[16])
{
	return address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}

/* ---- IPv4 ---- */

static size_t dhcp4(const struct exchange *x, const struct packet *p, uint8_t *out, size_t size)
{
	uint8_t message[DHCP4_MAX];
	struct packet_ends ends = { .source_port = DHCP4_SERVER_PORT, .port = DHCP4_CLIENT_PORT };
	struct dhcp4_request q;
	enum dhcp4_type type;
	size_t n;

	if (!dhcp4_read(p->p, p->n, &q))
		return 0;
	n = dhcp4_answer(&q, &x->told, message, sizeof(message), &type);
	if (!n)
		return 0;
	memcpy(ends.from, x->told.own_mac, 6);
	memcpy(ends.source, x->told.server4, 4);
	memcpy(ends.to, x->told.mac, 6);
	/* RFC 2131, 4.1 */
	if (type != DHCP4_NAK && memcmp(q.client, none, 4) != 0) {
		memcpy(ends.destination, q.client, 4);
	} else if (type == DHCP4_NAK || q.broadcast || q.type == DHCP4_INFORM) {
		memcpy(ends.destination, four_all, 4);
		memcpy(ends.to, ethernet_all, 6);
	} else {
		memcpy(ends.destination, x->told.fours[0].address, 4);
	}
	return packet_write_udp(&ends, message, n, out, size);
}

static bool is_guests(const struct exchange *x, const uint8_t address[4])
{
	for (size_t i = 0; i < x->told.n_fours; i++)
		if (memcmp(x->told.fours[i].address, address, 4) == 0)
			return true;
	return false;
}

static enum exchange_way from_four(const struct exchange *x, const struct packet *p, uint8_t *out, size_t size,
				   size_t *ret_n)
{
	uint8_t host[4], leased[4];

	if (p->protocol == PACKET_UDP && !p->fragment && p->port == DHCP4_SERVER_PORT) {
		*ret_n = dhcp4(x, p, out, size);
		return *ret_n ? EXCHANGE_TO_GUEST : EXCHANGE_NOWHERE;
	}
	four(NET_CONTROL_HOST, host);
	four(NET_CONTROL_LEASED, leased);
	if (!x->control || memcmp(p->destination, host, 4) != 0 || !is_guests(x, p->source) || p->ip_size > size)
		return EXCHANGE_NOWHERE;
	memcpy(out, p->ip, p->ip_size);
	packet_readdress(out, p->ip_size, true, leased);
	*ret_n = p->ip_size;
	return EXCHANGE_TO_STACK;
}

static enum exchange_way from_arp(const struct exchange *x, const struct packet *p, uint8_t *out, size_t size,
				  size_t *ret_n)
{
	uint8_t host[4];

	four(NET_CONTROL_HOST, host);
	if (!x->control || !p->question || memcmp(p->destination, host, 4) != 0)
		return EXCHANGE_NOWHERE;
	*ret_n = packet_write_arp(p, x->told.own_mac, out, size);
	return *ret_n ? EXCHANGE_TO_GUEST : EXCHANGE_NOWHERE;
}

/* ---- IPv6 ---- */

static size_t dhcp6(const struct exchange *x, const struct packet *p, uint8_t *out, size_t size)
{
	uint8_t message[DHCP6_MAX];
	struct packet_ends ends = { .six = true, .source_port = DHCP6_SERVER_PORT, .port = DHCP6_CLIENT_PORT };
	struct dhcp6_request q;
	size_t n;

	if (!is_link_local(p->source) || !dhcp6_read(p->p, p->n, &q))
		return 0;
	n = dhcp6_answer(&q, &x->told, message, sizeof(message));
	if (!n)
		return 0;
	memcpy(ends.to, x->told.mac, 6);
	memcpy(ends.from, x->told.own_mac, 6);
	memcpy(ends.source, x->told.own6, 16);
	memcpy(ends.destination, p->source, 16);
	return packet_write_udp(&ends, message, n, out, size);
}

/* The router has an address of ours because its own is none that an advertisement may come from. */
static bool stands_in(const struct exchange *x)
{
	uint8_t ours[16];

	return inet_pton(AF_INET6, NET_CONTROL_ROUTER, ours) == 1 && memcmp(x->told.router6, ours, 16) == 0;
}

size_t exchange_advertise(const struct exchange *x, uint8_t *out, size_t size)
{
	/* All nodes (RFC 4291, 2.7.1): only the guest is there. */
	struct packet_ends ends = { .to = { 0x33, 0x33, 0, 0, 0, 1 },
				    .six = true,
				    .destination = { 0xff, 2, [15] = 1 } };
	uint8_t message[NDP_MAX];
	size_t n;

	if (!x->told.n_sixes)
		return 0;
	n = ndp_write_router_advertisement(&x->told, stands_in(x) && x->knows_gateway ? x->gateway : NULL, message,
					   sizeof(message));
	if (!n)
		return 0;
	memcpy(ends.from, x->told.own_mac, 6);
	memcpy(ends.source, x->told.router6, 16);
	return packet_write_icmp6(&ends, message, n, out, size);
}

static size_t neighbour(struct exchange *x, const struct packet *p, const uint8_t target[16], uint8_t *out, size_t size)
{
	struct packet_ends ends = { .six = true };
	const uint8_t *mac = NULL;
	uint8_t message[32];
	size_t n;

	if (memcmp(target, x->told.own6, 16) == 0)
		mac = x->told.own_mac;
	else if (memcmp(target, x->told.router6, 16) == 0 && stands_in(x))
		mac = x->knows_gateway ? x->gateway : NULL;
	else
		return 0;
	x->wants_gateway = mac != x->told.own_mac;
	/* From nobody: the guest tries whether it may have our address. It may not. */
	if (!mac || memcmp(p->source, none, 16) == 0)
		return 0;
	memcpy(ends.to, x->told.mac, 6);
	memcpy(ends.from, x->told.own_mac, 6);
	memcpy(ends.source, target, 16);
	memcpy(ends.destination, p->source, 16);
	n = ndp_write_neighbour_advertisement(target, mac, true, message, sizeof(message));
	return n ? packet_write_icmp6(&ends, message, n, out, size) : 0;
}

static enum exchange_way from_six(struct exchange *x, const struct packet *p, uint8_t *out, size_t size, size_t *ret_n)
{
	uint8_t target[16], host[4], leased[4];

	*ret_n = 0;
	if (p->protocol == PACKET_UDP && p->port == DHCP6_SERVER_PORT)
		*ret_n = dhcp6(x, p, out, size);
	else if (p->protocol == PACKET_ICMP6 && ndp_is_router_solicitation(p->p, p->n, p->hop_limit))
		*ret_n = exchange_advertise(x, out, size);
	else if (p->protocol == PACKET_ICMP6 && ndp_read_neighbour_solicitation(p->p, p->n, p->hop_limit, target))
		*ret_n = neighbour(x, p, target, out, size);
	if (*ret_n)
		return EXCHANGE_TO_GUEST;
	if (!x->control || memcmp(p->destination, x->told.own6, 16) != 0 || !is_link_local(p->source))
		return EXCHANGE_NOWHERE;
	four(NET_CONTROL_HOST, host);
	four(NET_CONTROL_LEASED6, leased);
	*ret_n = packet_six_to_four(p->ip, p->ip_size, leased, host, out, size);
	if (!*ret_n)
		return EXCHANGE_NOWHERE;
	memcpy(x->guest6, p->source, 16);
	return EXCHANGE_TO_STACK;
}

/* ---- All of it ---- */

enum exchange_way exchange_from_guest(struct exchange *x, const void *frame, size_t n, uint8_t *out, size_t size,
				      size_t *ret_n)
{
	struct packet p;

	*ret_n = 0;
	if (!packet_read(frame, n, &p) || memcmp(p.from, x->told.mac, 6) != 0)
		return EXCHANGE_NOWHERE;
	switch (p.kind) {
	case PACKET_KIND_ARP: return from_arp(x, &p, out, size, ret_n);
	case PACKET_KIND_FOUR: return from_four(x, &p, out, size, ret_n);
	case PACKET_KIND_SIX: return from_six(x, &p, out, size, ret_n);
	}
	return EXCHANGE_NOWHERE;
}

size_t exchange_from_stack(const struct exchange *x, uint8_t *packet, size_t n, uint8_t *out, size_t size)
{
	uint8_t host[4], leased[4], leased6[4], six[PACKET_MAX];
	size_t header = n ? (size_t)(packet[0] & 15) * 4 : 0;

	four(NET_CONTROL_HOST, host);
	four(NET_CONTROL_LEASED, leased);
	four(NET_CONTROL_LEASED6, leased6);
	if (!x->control || n < FOUR_HEADER || packet[0] >> 4 != 4 || header < FOUR_HEADER || header > n ||
	    memcmp(packet + 12, host, 4) != 0)
		return 0;
	if (memcmp(packet + 16, leased, 4) == 0 && x->told.n_fours) {
		packet_readdress(packet, n, false, x->told.fours[0].address);
		return packet_write_ip(x->told.mac, x->told.own_mac, packet, n, out, size);
	}
	if (memcmp(packet + 16, leased6, 4) != 0 || !is_link_local(x->guest6))
		return 0;
	n = packet_four_to_six(packet, n, x->told.own6, x->guest6, six, sizeof(six));
	return packet_write_ip(x->told.mac, x->told.own_mac, six, n, out, size);
}
