/* Interfaces that were taken over (net/takeover.h), as the guest and its engine are told of them. */
#pragma once

#include <stddef.h>

#include "engine/engine.h"
#include "net/takeover.h"

struct Skerry__Agent__V1__Interface;

struct guest_interfaces {
	struct Skerry__Agent__V1__Interface *
		*interfaces; /* for BootConfig: the guest's have the same names, addresses, MTU, routes */
	struct engine_nic *
		nics; /* NIC_TAP, for engine_request; the descriptor of nics[i] is what net_takeover_attach() gave for t->nics[i] */
	size_t n; /* of each */
};

/* All strings stay @t's, which must outlive *ret. */
void guest_interfaces_make(struct net_takeover *t, struct guest_interfaces *ret);
void guest_interfaces_done(struct guest_interfaces *g);
