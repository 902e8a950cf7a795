/* DHCP for IPv4: what a client asks and what it is answered, for the one client that wire/told.h tells of. No I/O.
 * (RFC 2131, 2132; 3396 long options, 3397 domains to search, 3442 routes, 4039 rapid commit) */
#pragma once

#include "wire/told.h"

enum { DHCP4_SERVER_PORT = 67, DHCP4_CLIENT_PORT = 68, DHCP4_MAX = 1472 };

enum dhcp4_type {
	DHCP4_DISCOVER = 1,
	DHCP4_OFFER,
	DHCP4_REQUEST,
	DHCP4_DECLINE,
	DHCP4_ACK,
	DHCP4_NAK,
	DHCP4_RELEASE,
	DHCP4_INFORM,
};

struct dhcp4_request {
	enum dhcp4_type type;
	uint8_t id[4]; /* of the transaction */
	bool broadcast;
	uint8_t client[4]; /* the address that it has; zero = none yet */
	uint8_t mac[6];
	uint8_t wanted[4], server[4]; /* zero = not said */
	bool rapid;
	uint8_t max[2];        /* network order; zero = not said */
	bool wants_old_routes; /* option 249, as older Windows has it instead of 121 */
	uint8_t client_id[255];
	size_t client_id_size; /* 0 = none */
};

/* false: no request of a client on Ethernet, cut short, or come through a relay. */
bool dhcp4_read(const void *p, size_t n, struct dhcp4_request *ret);

/* What @t answers, into @out of @size: the message's size, 0 = nothing. *ret_type: what it is. Options that do not fit what the client takes are left
 * out, the least needed first. */
size_t dhcp4_answer(const struct dhcp4_request *q, const struct told *t, uint8_t *out, size_t size,
		    enum dhcp4_type *ret_type);
