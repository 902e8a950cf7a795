#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "docker/teller.h"

/* Locally administered; on the guest's side of its TAP only. */
static const uint8_t own_mac[6] = NET_CONTROL_MAC;

/* As the kernel's answers are written: lower case. */
static bool read_mac(const char *text, uint8_t ret[6])
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < 6; i++, text += 3) {
		const char *high = text[0] ? strchr(digits, text[0]) : NULL,
			   *low = high && text[1] ? strchr(digits, text[1]) : NULL;

		if (!low || text[2] != (i < 5 ? ':' : '\0'))
			return false;
		ret[i] = (uint8_t)((high - digits) << 4 | (low - digits));
	}
	return true;
}

/* The prefix is the family's longest where none is written. false: it is of the other family. */
static bool read_cidr(int family, const char *text, uint8_t *ret, uint8_t *ret_prefix)
{
	const char *slash = strchr(text, '/');
	_cleanup_free_ char *address = slash ? xstrndup(text, (size_t)(slash - text)) : xstrdup(text);
	uint64_t longest = family == AF_INET ? 32 : 128, prefix = longest;

	if (inet_pton(family, address, ret) != 1 || (slash && parse_u64(slash + 1, 0, longest, &prefix) < 0))
		return false;
	*ret_prefix = (uint8_t)prefix;
	return true;
}

static bool read_address(int family, const char *text, uint8_t *ret)
{
	return inet_pton(family, text, ret) == 1;
}

static bool is_six(const char *text)
{
	return strchr(text, ':') != NULL;
}

/* ---- IPv4 ---- */

static void add_route4(struct told *t, const struct net_route *from)
{
	struct told_route r = {};

	if (t->n_routes == TOLD_ROUTES_MAX || !read_cidr(AF_INET, from->destination, r.to.address, &r.to.prefix))
		return;
	if (from->gateway[0] && !read_address(AF_INET, from->gateway, r.gateway))
		return;
	t->routes[t->n_routes++] = r;
}

static void tell_four(const struct net_takeover_nic *nic, bool control, struct told *t)
{
	static const struct net_route to_control = { .destination = NET_CONTROL_HOST "/32" };

	for (size_t i = 0; i < nic->addresses.n && t->n_fours < TOLD_ADDRESSES_MAX; i++) {
		struct told_four *a = &t->fours[t->n_fours];

		/* That one is for guests that know where it leads. */
		if (!streq(nic->addresses.items[i], NET_CONTROL_GUEST "/" NET_CONTROL_PREFIX) &&
		    read_cidr(AF_INET, nic->addresses.items[i], a->address, &a->prefix))
			t->n_fours++;
	}
	(void)read_address(AF_INET, NET_CONTROL_HOST, t->server4);
	(void)read_address(AF_INET, nic->gateway, t->gateway4);
	if (control)
		add_route4(t, &to_control);
	for (size_t i = 0; i < nic->n_routes; i++)
		add_route4(t, &nic->routes[i]);
}

/* ---- IPv6 ---- */

/* Whom the advertisements speak for: one router, the default one where there is one. */
static const char *choose_router(const struct net_takeover_nic *nic)
{
	if (nic->gateway6[0])
		return nic->gateway6;
	for (size_t i = 0; i < nic->n_routes; i++)
		if (is_six(nic->routes[i].destination) && is_six(nic->routes[i].gateway))
			return nic->routes[i].gateway;
	return NULL;
}

static void add_route6(struct told *t, const struct net_route *from, const char *router)
{
	struct told_six s;

	if (!read_cidr(AF_INET6, from->destination, s.address, &s.prefix))
		return;
	/* The default one is in the head of each advertisement. */
	if (s.prefix == 0)
		return;
	if (!from->gateway[0] && t->n_links < TOLD_ROUTES_MAX)
		t->links[t->n_links++] = s;
	else if (router && streq(from->gateway, router) && t->n_through < TOLD_ROUTES_MAX)
		t->through[t->n_through++] = s;
}

static void tell_six(const struct net_takeover_nic *nic, struct told *t, const char **ret_gateway)
{
	const char *router = choose_router(nic);

	for (size_t i = 0; i < nic->addresses.n && t->n_sixes < TOLD_ADDRESSES_MAX; i++) {
		struct told_six *a = &t->sixes[t->n_sixes];

		if (read_cidr(AF_INET6, nic->addresses.items[i], a->address, &a->prefix))
			t->n_sixes++;
	}
	(void)read_address(AF_INET6, NET_CONTROL_SIX, t->own6);
	t->default6 = nic->gateway6[0] != '\0';
	*ret_gateway = NULL;
	if (!router || !read_address(AF_INET6, router, t->router6)) {
		memcpy(t->router6, t->own6, sizeof(t->router6));
	} else if (t->router6[0] != 0xfe || (t->router6[1] & 0xc0) != 0x80) {
		(void)read_address(AF_INET6, NET_CONTROL_ROUTER, t->router6);
		*ret_gateway = router;
	}
	for (size_t i = 0; i < nic->n_routes; i++)
		add_route6(t, &nic->routes[i], router);
}

/* ---- Names ---- */

static void tell_names(const struct teller_options *o, bool control, struct told *t)
{
	const struct strv *search = o->search && o->search->n ? o->search : &o->plan->search;

	if (o->host && strlen(o->host) < TOLD_HOST_SIZE)
		(void)snprintf(t->host, sizeof(t->host), "%s", o->host);
	for (size_t i = 0; i < search->n && t->n_domains < TOLD_DOMAINS_MAX; i++)
		if (strlen(search->items[i]) < TOLD_DOMAIN_SIZE)
			(void)snprintf(t->domains[t->n_domains++], TOLD_DOMAIN_SIZE, "%s", search->items[i]);
	for (size_t i = 0; o->dns && i < o->dns->n; i++) {
		if (t->n_dns4 < TOLD_SERVERS_MAX && read_address(AF_INET, o->dns->items[i], t->dns4[t->n_dns4]))
			t->n_dns4++;
		if (t->n_dns6 < TOLD_SERVERS_MAX && read_address(AF_INET6, o->dns->items[i], t->dns6[t->n_dns6]))
			t->n_dns6++;
	}
	if ((o->dns && o->dns->n) || !control)
		return;
	/* The control address answers on both. */
	memcpy(t->dns4[t->n_dns4++], t->server4, 4);
	memcpy(t->dns6[t->n_dns6++], t->own6, 16);
}

void told_from_nic(const struct net_takeover_nic *nic, const struct teller_options *o, struct told *ret,
		   bool *ret_control, const char **ret_gateway)
{
	*ret = (struct told){ .mtu = nic->mtu };
	*ret_control = strv_has(&nic->addresses, NET_CONTROL_GUEST "/" NET_CONTROL_PREFIX);
	(void)read_mac(nic->mac, ret->mac);
	memcpy(ret->own_mac, own_mac, sizeof(own_mac));
	tell_four(nic, *ret_control, ret);
	tell_six(nic, ret, ret_gateway);
	tell_names(o, *ret_control, ret);
}
