#include "wire/packet.h"

#include <string.h>

#include "wire/cursor.h"

enum {
	TYPE_ARP = 0x0806,
	TYPE_FOUR = 0x0800,
	TYPE_SIX = 0x86dd,
	FOUR_HEADER = 20,
	SIX_HEADER = 40,
	UDP_HEADER = 8,
	TCP_HEADER = 20,
	ICMP6_HEADER = 4,
	ARP_SIZE = 28,
	FRAGMENT = 0x3fff, /* more of them, or not at the start */
	DONT_FRAGMENT = 0x4000,
	HOPS = 64,
	HOPS_NEIGHBOUR = 255,
	UDP_SUM_AT = 6,
	TCP_SUM_AT = 16,
	FOUR_SUM_AT = 10,
};

static void put16(uint8_t *p, size_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static uint16_t get16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* ---- Checksums (RFC 1071) ---- */

static uint32_t add(uint32_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i + 1 < n; i += 2)
		sum += get16(p + i);
	if (n % 2)
		sum += (uint32_t)p[n - 1] << 8;
	return (sum & 0xffff) + (sum >> 16);
}

static uint16_t finish(uint32_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

static uint16_t transport_sum(bool six, const uint8_t *source, const uint8_t *destination, uint8_t protocol,
			      const uint8_t *p, size_t n)
{
	uint32_t sum = add(0, source, six ? 16 : 4);

	sum = add(sum, destination, six ? 16 : 4);
	sum += protocol + (uint32_t)(n & 0xffff) + (uint32_t)(n >> 16);
	return finish(add(sum, p, n));
}

/* ---- Reading ---- */

static bool read_arp(struct cursor *c, struct packet *ret)
{
	static const uint8_t ethernet_and_four[] = { 0, 1, 8, 0, 6, 4 };
	const uint8_t *p = cursor_bytes(c, ARP_SIZE);

	if (!p || memcmp(p, ethernet_and_four, sizeof(ethernet_and_four)) != 0)
		return false;
	ret->kind = PACKET_KIND_ARP;
	ret->question = get16(p + 6) == 1;
	memcpy(ret->source, p + 14, 4);
	memcpy(ret->destination, p + 24, 4);
	return true;
}

static bool read_transport(struct packet *ret)
{
	bool six = ret->kind == PACKET_KIND_SIX;
	uint16_t size, sum;

	if (ret->fragment || (ret->protocol != PACKET_UDP && ret->protocol != PACKET_ICMP6))
		return true;
	if (ret->protocol == PACKET_ICMP6)
		return six && ret->n >= ICMP6_HEADER &&
		       transport_sum(true, ret->source, ret->destination, PACKET_ICMP6, ret->p, ret->n) == 0;
	if (ret->n < UDP_HEADER)
		return false;
	size = get16(ret->p + 4);
	sum = get16(ret->p + UDP_SUM_AT);
	if (size < UDP_HEADER || size > ret->n || (six && !sum))
		return false;
	if (sum && transport_sum(six, ret->source, ret->destination, PACKET_UDP, ret->p, size) != 0)
		return false;
	ret->source_port = get16(ret->p);
	ret->port = get16(ret->p + 2);
	ret->p += UDP_HEADER;
	ret->n = (size_t)size - UDP_HEADER;
	return true;
}

static bool read_four(struct cursor *c, struct packet *ret)
{
	const uint8_t *p = c->p;
	size_t left = cursor_left(c), header, size;

	if (left < FOUR_HEADER || p[0] >> 4 != 4)
		return false;
	header = (size_t)(p[0] & 15) * 4;
	size = get16(p + 2);
	if (header < FOUR_HEADER || size < header || size > left || finish(add(0, p, header)) != 0)
		return false;
	ret->kind = PACKET_KIND_FOUR;
	ret->ip = p;
	ret->ip_size = size;
	ret->fragment = (get16(p + 6) & FRAGMENT) != 0;
	ret->hop_limit = p[8];
	ret->protocol = p[9];
	memcpy(ret->source, p + 12, 4);
	memcpy(ret->destination, p + 16, 4);
	ret->p = p + header;
	ret->n = size - header;
	return read_transport(ret);
}

static bool read_six(struct cursor *c, struct packet *ret)
{
	const uint8_t *p = c->p;
	size_t left = cursor_left(c), size;

	if (left < SIX_HEADER || p[0] >> 4 != 6)
		return false;
	size = get16(p + 4);
	if (size > left - SIX_HEADER)
		return false;
	ret->kind = PACKET_KIND_SIX;
	ret->ip = p;
	ret->ip_size = SIX_HEADER + size;
	ret->protocol = p[6];
	ret->hop_limit = p[7];
	memcpy(ret->source, p + 8, 16);
	memcpy(ret->destination, p + 24, 16);
	ret->p = p + SIX_HEADER;
	ret->n = size;
	return read_transport(ret);
}

bool packet_read(const void *frame, size_t n, struct packet *ret)
{
	struct cursor c = cursor_of(frame, n);
	const uint8_t *head = cursor_bytes(&c, PACKET_ETHERNET);

	*ret = (struct packet){};
	if (!head || n > PACKET_MAX)
		return false;
	memcpy(ret->to, head, 6);
	memcpy(ret->from, head + 6, 6);
	switch (get16(head + 12)) {
	case TYPE_ARP: return read_arp(&c, ret);
	case TYPE_FOUR: return read_four(&c, ret);
	case TYPE_SIX: return read_six(&c, ret);
	default: return false;
	}
}

/* ---- Writing ---- */

static void write_four(uint8_t *p, size_t n, uint8_t protocol, const uint8_t source[4], const uint8_t destination[4])
{
	memset(p, 0, FOUR_HEADER);
	p[0] = 0x45;
	put16(p + 2, FOUR_HEADER + n);
	put16(p + 6, DONT_FRAGMENT);
	p[8] = HOPS;
	p[9] = protocol;
	memcpy(p + 12, source, 4);
	memcpy(p + 16, destination, 4);
	put16(p + FOUR_SUM_AT, finish(add(0, p, FOUR_HEADER)));
}

static void write_six(uint8_t *p, size_t n, uint8_t protocol, uint8_t hops, const uint8_t source[16],
		      const uint8_t destination[16])
{
	memset(p, 0, 8);
	p[0] = 0x60;
	put16(p + 4, n);
	p[6] = protocol;
	p[7] = hops;
	memcpy(p + 8, source, 16);
	memcpy(p + 24, destination, 16);
}

static size_t write_ethernet(const uint8_t to[6], const uint8_t from[6], uint16_t type, uint8_t *out)
{
	memcpy(out, to, 6);
	memcpy(out + 6, from, 6);
	put16(out + 12, type);
	return PACKET_ETHERNET;
}

/* Ethernet and IP in front of @n bytes of transport. */
static size_t write_heads(const struct packet_ends *e, uint8_t protocol, uint8_t hops, size_t n, uint8_t *out)
{
	size_t at = write_ethernet(e->to, e->from, e->six ? TYPE_SIX : TYPE_FOUR, out);

	if (e->six)
		write_six(out + at, n, protocol, hops, e->source, e->destination);
	else
		write_four(out + at, n, protocol, e->source, e->destination);
	return at + (e->six ? SIX_HEADER : FOUR_HEADER);
}

static bool fits(bool six, size_t n, size_t size)
{
	size_t heads = PACKET_ETHERNET + (six ? SIX_HEADER : FOUR_HEADER);

	return n <= UINT16_MAX - FOUR_HEADER && size >= heads && size - heads >= n;
}

size_t packet_write_udp(const struct packet_ends *e, const void *p, size_t n, uint8_t *out, size_t size)
{
	size_t whole = UDP_HEADER + n, at;
	uint16_t sum;

	if (n > UINT16_MAX || !fits(e->six, whole, size))
		return 0;
	at = write_heads(e, PACKET_UDP, HOPS, whole, out);
	put16(out + at, e->source_port);
	put16(out + at + 2, e->port);
	put16(out + at + 4, whole);
	put16(out + at + UDP_SUM_AT, 0);
	if (n)
		memcpy(out + at + UDP_HEADER, p, n);
	sum = transport_sum(e->six, e->source, e->destination, PACKET_UDP, out + at, whole);
	put16(out + at + UDP_SUM_AT, sum ? sum : 0xffff);
	return at + whole;
}

size_t packet_write_icmp6(const struct packet_ends *e, const void *p, size_t n, uint8_t *out, size_t size)
{
	size_t at;

	if (n < ICMP6_HEADER || !fits(true, n, size))
		return 0;
	at = write_heads(e, PACKET_ICMP6, HOPS_NEIGHBOUR, n, out);
	memcpy(out + at, p, n);
	put16(out + at + 2, 0);
	put16(out + at + 2, transport_sum(true, e->source, e->destination, PACKET_ICMP6, out + at, n));
	return at + n;
}

size_t packet_write_arp(const struct packet *request, const uint8_t mac[6], uint8_t *out, size_t size)
{
	static const uint8_t answer[] = { 0, 1, 8, 0, 6, 4, 0, 2 };
	uint8_t *p = out + PACKET_ETHERNET;

	if (size < PACKET_ETHERNET + ARP_SIZE)
		return 0;
	write_ethernet(request->from, mac, TYPE_ARP, out);
	memcpy(p, answer, sizeof(answer));
	memcpy(p + 8, mac, 6);
	memcpy(p + 14, request->destination, 4);
	memcpy(p + 18, request->from, 6);
	memcpy(p + 24, request->source, 4);
	return PACKET_ETHERNET + ARP_SIZE;
}

size_t packet_write_ip(const uint8_t to[6], const uint8_t from[6], const void *ip, size_t n, uint8_t *out, size_t size)
{
	if (n == 0 || size < PACKET_ETHERNET || size - PACKET_ETHERNET < n)
		return 0;
	write_ethernet(to, from, *(const uint8_t *)ip >> 4 == 6 ? TYPE_SIX : TYPE_FOUR, out);
	memcpy(out + PACKET_ETHERNET, ip, n);
	return PACKET_ETHERNET + n;
}

/* ---- Other addresses ---- */

/* Where the transport has its checksum; 0 = nowhere. */
static size_t sum_at(uint8_t protocol, const uint8_t *p, size_t n)
{
	if (protocol == PACKET_TCP && n >= TCP_HEADER)
		return TCP_SUM_AT;
	/* A UDP checksum of zero is none. */
	return protocol == PACKET_UDP && n >= UDP_HEADER && get16(p + UDP_SUM_AT) ? UDP_SUM_AT : 0;
}

/* RFC 1624: what was added is taken away, what is new is added. */
static void mend(uint8_t *sum, const uint8_t *before, const uint8_t *after)
{
	uint32_t s = (uint16_t)~get16(sum);

	for (size_t i = 0; i < 4; i += 2)
		s += (uint16_t)~get16(before + i) + (uint32_t)get16(after + i);
	put16(sum, finish(s));
}

void packet_readdress(uint8_t *ip, size_t n, bool source, const uint8_t address[4])
{
	uint8_t *at = ip + (source ? 12 : 16), before[4];
	size_t header = (size_t)(ip[0] & 15) * 4, sum;

	memcpy(before, at, 4);
	memcpy(at, address, 4);
	mend(ip + FOUR_SUM_AT, before, address);
	/* Only the first of several fragments has it. */
	sum = get16(ip + 6) & 0x1fff ? 0 : sum_at(ip[9], ip + header, n - header);
	if (!sum)
		return;
	mend(ip + header + sum, before, address);
	if (ip[9] == PACKET_UDP && !get16(ip + header + sum))
		put16(ip + header + sum, 0xffff);
}

/* The checksum is made anew: with offloading it was never right before. */
static bool seal(bool six, const uint8_t *source, const uint8_t *destination, uint8_t protocol, uint8_t *p, size_t n)
{
	size_t at = protocol == PACKET_TCP && n >= TCP_HEADER   ? TCP_SUM_AT
		    : protocol == PACKET_UDP && n >= UDP_HEADER ? UDP_SUM_AT
								: 0;
	uint16_t sum;

	if (!at)
		return false;
	put16(p + at, 0);
	sum = transport_sum(six, source, destination, protocol, p, n);
	put16(p + at, sum || protocol == PACKET_TCP ? sum : 0xffff);
	return true;
}

size_t packet_six_to_four(const uint8_t *ip, size_t n, const uint8_t source[4], const uint8_t destination[4],
			  uint8_t *out, size_t size)
{
	size_t rest = n - SIX_HEADER;

	if (rest > UINT16_MAX - FOUR_HEADER || size < FOUR_HEADER + rest)
		return 0;
	write_four(out, rest, ip[6], source, destination);
	memcpy(out + FOUR_HEADER, ip + SIX_HEADER, rest);
	return seal(false, source, destination, ip[6], out + FOUR_HEADER, rest) ? FOUR_HEADER + rest : 0;
}

size_t packet_four_to_six(const uint8_t *ip, size_t n, const uint8_t source[16], const uint8_t destination[16],
			  uint8_t *out, size_t size)
{
	size_t header = (size_t)(ip[0] & 15) * 4, rest = n - header;

	if (size < SIX_HEADER + rest || (get16(ip + 6) & FRAGMENT))
		return 0;
	write_six(out, rest, ip[9], HOPS, source, destination);
	memcpy(out + SIX_HEADER, ip + header, rest);
	return seal(true, source, destination, ip[9], out + SIX_HEADER, rest) ? SIX_HEADER + rest : 0;
}
