/* DHCP for IPv6: what a client asks and what it is answered, for the one client that wire/told.h tells of. No I/O, and nothing is remembered: the
 * addresses are the client's before it asks and after. (RFC 8415; 3646 name servers) */
#pragma once

#include "wire/told.h"

enum { DHCP6_SERVER_PORT = 547, DHCP6_CLIENT_PORT = 546, DHCP6_MAX = 1232 };

enum dhcp6_type {
	DHCP6_SOLICIT = 1,
	DHCP6_ADVERTISE,
	DHCP6_REQUEST,
	DHCP6_CONFIRM,
	DHCP6_RENEW,
	DHCP6_REBIND,
	DHCP6_REPLY,
	DHCP6_RELEASE,
	DHCP6_DECLINE,
	DHCP6_INFORMATION = 11,
};

enum { DHCP6_ASSOCIATIONS_MAX = 8, DHCP6_DUID_MAX = 130 };

/* Addresses, or prefixes, that a client asks for together. */
struct dhcp6_association {
	bool prefixes;
	uint8_t id[4];
	uint8_t addresses[TOLD_ADDRESSES_MAX][16]; /* that it has or would like */
	size_t n;
};

struct dhcp6_request {
	enum dhcp6_type type;
	uint8_t id[3];
	const uint8_t *client, *server; /* DUIDs, in what was read; NULL = none */
	size_t client_size, server_size;
	bool rapid;
	struct dhcp6_association associations[DHCP6_ASSOCIATIONS_MAX]; /* more are not answered */
	size_t n;
};

/* false: no message of a client, or one that is cut short. Pointers are into @p. */
bool dhcp6_read(const void *p, size_t n, struct dhcp6_request *ret);
/* What @t answers, into @out of @size: the message's size, 0 = nothing. Whose frame it was has been checked. */
size_t dhcp6_answer(const struct dhcp6_request *q, const struct told *t, uint8_t *out, size_t size);
