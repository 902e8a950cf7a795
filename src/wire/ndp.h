/* What of neighbour discovery a router needs: being asked who it is, telling it, and answering for its address. ICMPv6 messages from their type on, whose
 * checksums are wire/packet.h's. No I/O. (RFC 4861; 4191 more routes, 8106 name servers and domains) */
#pragma once

#include "wire/told.h"

enum {
	NDP_ROUTER_SOLICITATION = 133,
	NDP_ROUTER_ADVERTISEMENT = 134,
	NDP_NEIGHBOUR_SOLICITATION = 135,
	NDP_NEIGHBOUR_ADVERTISEMENT = 136,
	NDP_MAX = 1240,
	/* So often an advertisement is sent, and how long a router is taken for one after it (seconds; RFC 4861, 6.2.1). */
	NDP_EVERY_S = 600,
	NDP_ROUTER_LIFETIME_S = 9000,
};

/* A valid question of that kind; @ret_target of neighbours: whom it is about. */
bool ndp_is_router_solicitation(const uint8_t *p, size_t n, uint8_t hop_limit);
bool ndp_read_neighbour_solicitation(const uint8_t *p, size_t n, uint8_t hop_limit, uint8_t ret_target[16]);

/* Both give the message's size, 0 when it does not fit. @router_mac: NULL = the guest asks for it. */
size_t ndp_write_router_advertisement(const struct told *t, const uint8_t *router_mac, uint8_t *out, size_t size);
/* @mac has @target. @asked: as an answer. */
size_t ndp_write_neighbour_advertisement(const uint8_t target[16], const uint8_t mac[6], bool asked, uint8_t *out,
					 size_t size);
