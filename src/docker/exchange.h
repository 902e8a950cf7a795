/* One frame of a guest that asks how its interface is to be set up, and what it is answered: bytes in, bytes out.
 *
 * The guest's frames come by a way of their own (net_takeover_aside()), on which nobody else is. What they hold:
 *
 *     DHCP, router solicitations            answered here (wire/dhcp4.h, wire/dhcp6.h, wire/ndp.h)
 *     who has the control address, router   answered here
 *     what is for the control address       passed on to the container's stack under an address that leads back here: the guest's own are the
 *                                           stack's too. Guests that were told their addresses beforehand have one for this; who asks gets
 *                                           only what the network knows of */
#pragma once

#include "wire/packet.h"
#include "wire/told.h"

struct exchange {
	struct told told;
	bool control;       /* the control address is reached by this interface */
	bool knows_gateway; /* @gateway has it */
	uint8_t gateway[6]; /* hardware address behind told.router6, where that is an address of ours */
	bool wants_gateway; /* out: the guest asked for it; where it was not known, there is no answer */
	uint8_t guest6[16]; /* who asked by IPv6 last */
};

enum exchange_way { EXCHANGE_NOWHERE, EXCHANGE_TO_GUEST, EXCHANGE_TO_STACK };

/* What becomes of the guest's frame: a frame for the guest, or an IP packet for the stack, in @out. */
enum exchange_way exchange_from_guest(struct exchange *x, const void *frame, size_t n, uint8_t *out, size_t size,
				      size_t *ret_n);
/* The frame for the guest that the stack's IP packet becomes; 0 = none. @packet is changed. */
size_t exchange_from_stack(const struct exchange *x, uint8_t *packet, size_t n, uint8_t *out, size_t size);
/* An advertisement for nobody who asked; 0 = there is nothing to tell. */
size_t exchange_advertise(const struct exchange *x, uint8_t *out, size_t size);
