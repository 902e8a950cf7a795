/* Ethernet frames with ARP, IPv4 or IPv6 in them, UDP and ICMPv6 in those: read with bounds, written with checksums. No I/O.
 * (RFC 826, 791, 8200, 768, 4443) */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	PACKET_ETHERNET = 14,
	PACKET_MAX = 65536,
	PACKET_TCP = 6,
	PACKET_UDP = 17,
	PACKET_ICMP6 = 58,
};

enum packet_kind {
	PACKET_KIND_ARP,
	PACKET_KIND_FOUR, /* IPv4 */
	PACKET_KIND_SIX,
};

struct packet {
	enum packet_kind kind;
	uint8_t to[6], from[6]; /* Ethernet */
	/* ARP: sender and target; IPv4 addresses are the first four bytes. */
	uint8_t source[16], destination[16];
	bool question;     /* ARP: a request */
	const uint8_t *ip; /* from the IP header to the packet's end, without what fills up the frame */
	size_t ip_size;
	uint8_t protocol; /* IP: of what comes after the header, which for IPv6 is the first one */
	uint8_t hop_limit;
	bool fragment;              /* IPv4: one of several */
	uint16_t source_port, port; /* UDP */
	const uint8_t *p;           /* UDP: its data; else what comes after the IP header */
	size_t n;
};

/* Pointers are into @frame. false: it is none of these, cut short, or a UDP or ICMPv6 checksum is wrong. Of a fragment only the header is looked at. */
bool packet_read(const void *frame, size_t n, struct packet *ret);

struct packet_ends {
	uint8_t to[6], from[6];
	bool six;
	uint8_t source[16], destination[16];
	uint16_t source_port, port;
};
/* The frame's size; 0 when it does not fit @size. */
size_t packet_write_udp(const struct packet_ends *e, const void *p, size_t n, uint8_t *out, size_t size);
/* @p: from the type on; what is in the place of the checksum is replaced. Hop limit 255 (RFC 4861). */
size_t packet_write_icmp6(const struct packet_ends *e, const void *p, size_t n, uint8_t *out, size_t size);
/* The answer to an ARP request: @mac has what was asked for. */
size_t packet_write_arp(const struct packet *request, const uint8_t mac[6], uint8_t *out, size_t size);
/* Ethernet in front of an IP packet. */
size_t packet_write_ip(const uint8_t to[6], const uint8_t from[6], const void *ip, size_t n, uint8_t *out, size_t size);

/* Gives the IPv4 packet @ip of @n bytes (a valid header) another address, source or destination, and mends its checksums. */
void packet_readdress(uint8_t *ip, size_t n, bool source, const uint8_t address[4]);
/* The same TCP or UDP packet in the other protocol, with these addresses; 0 when it is something else, in fragments, or does not fit. @ip: with
 * a valid header. */
size_t packet_six_to_four(const uint8_t *ip, size_t n, const uint8_t source[4], const uint8_t destination[4],
			  uint8_t *out, size_t size);
size_t packet_four_to_six(const uint8_t *ip, size_t n, const uint8_t source[16], const uint8_t destination[16],
			  uint8_t *out, size_t size);
