/* Tells the guest how its interfaces are to be set up, when it asks: DHCP for both families, and router advertisements. For guests that nobody could tell
 * beforehand, with neither skerry-init nor cloud-init: an appliance, an installer, another system than Linux.
 *
 * It answers one client for each interface, the guest itself, with exactly what the container has; addresses are the guest's for ever, so nothing is
 * remembered. What it does not have is a way to the container's network, and that has none to it (net/takeover.h).
 *
 *   teller.c    devices and the loop
 *   told_nic.c  what is told, from what the container has
 *   exchange.c  a frame and its answer */
#pragma once

#include "base/error.h"
#include "base/loop.h"
#include "net/net.h"
#include "wire/told.h"

struct teller;

struct teller_options {
	const struct net_plan *plan; /* of net mode container; borrowed for the call */
	const char *host;            /* the guest's name; NULL = it is not told any */
	/* Instead of the plan's, where there are any. */
	const struct strv *dns, *search;
};

/* Makes the ways to the guest, which have to be there before its machine starts. Errors: those of net_takeover_aside(). */
int teller_new(struct loop *loop, const struct teller_options *o, struct teller **ret, struct error *err);
/* Accepts NULL; returns NULL. */
struct teller *teller_free(struct teller *t);

/* What the guest is told about @nic of the options' plan. Routes that DHCP or an advertisement have no words for are left out: those by another router
 * than the default one, for IPv6; those of one family by a router of the other. *ret_control: the control address is reached by this one.
 * *ret_gateway: in @nic: the router behind told.router6 where that is an address of ours; NULL = none. */
void told_from_nic(const struct net_takeover_nic *nic, const struct teller_options *o, struct told *ret,
		   bool *ret_control, const char **ret_gateway);
