#include "wire/ndp.h"

#include <string.h>

#include "wire/cursor.h"

/* RFC 4861, 4.6; RFC 4191; RFC 8106 */
enum { SOURCE_MAC = 1, TARGET_MAC = 2, PREFIX = 3, MTU = 5, ROUTE = 24, SERVERS = 25, DOMAINS = 31 };

enum {
	HOPS = 255,
	HOPS_TOLD = 64,
	MANAGED = 0x80,
	OTHER = 0x40,
	ON_LINK = 0x80,
	FROM_ROUTER = 0x80,
	ASKED = 0x40,
	OVERRIDE = 0x20,
	LEAST_MTU = 1280, /* RFC 8200, 5 */
};

/* RFC 4861, 6.1.1 and 7.1.1: an option without a size makes all of it worthless. */
static bool options_are_whole(struct cursor c)
{
	while (cursor_left(&c)) {
		uint8_t units;

		(void)cursor_u8(&c);
		units = cursor_u8(&c);
		if (c.failed || units == 0 || !cursor_bytes(&c, (size_t)units * 8 - 2))
			return false;
	}
	return true;
}

static bool begins(struct cursor *c, uint8_t type, uint8_t hop_limit)
{
	const uint8_t *head = cursor_bytes(c, 8);

	return head && hop_limit == HOPS && head[0] == type && head[1] == 0;
}

bool ndp_is_router_solicitation(const uint8_t *p, size_t n, uint8_t hop_limit)
{
	struct cursor c = cursor_of(p, n);

	return begins(&c, NDP_ROUTER_SOLICITATION, hop_limit) && options_are_whole(c);
}

bool ndp_read_neighbour_solicitation(const uint8_t *p, size_t n, uint8_t hop_limit, uint8_t ret_target[16])
{
	struct cursor c = cursor_of(p, n);
	const uint8_t *target;

	if (!begins(&c, NDP_NEIGHBOUR_SOLICITATION, hop_limit))
		return false;
	target = cursor_bytes(&c, 16);
	if (!target || !options_are_whole(c))
		return false;
	memcpy(ret_target, target, 16);
	return true;
}

static void add_mac(struct told_out *o, uint8_t type, const uint8_t mac[6])
{
	told_add8(o, type);
	told_add8(o, 1);
	told_add(o, mac, 6);
}

/* On the link, and no address is to be made from it. */
static void add_prefix(struct told_out *o, const struct told_six *s)
{
	uint8_t network[16] = { 0 };

	for (unsigned i = 0; i < s->prefix; i++)
		network[i / 8] |= s->address[i / 8] & (uint8_t)(0x80 >> i % 8);
	told_add8(o, PREFIX);
	told_add8(o, 4);
	told_add8(o, s->prefix);
	told_add8(o, ON_LINK);
	told_add32(o, UINT32_MAX);
	told_add32(o, UINT32_MAX);
	told_add32(o, 0);
	told_add(o, network, sizeof(network));
}

static void add_route(struct told_out *o, const struct told_six *s)
{
	size_t bytes = s->prefix == 0 ? 0 : s->prefix <= 64 ? 8 : 16;

	told_add8(o, ROUTE);
	told_add8(o, (uint8_t)(1 + bytes / 8));
	told_add8(o, s->prefix);
	told_add8(o, 0);
	told_add32(o, NDP_ROUTER_LIFETIME_S);
	told_add(o, s->address, bytes);
}

static void add_names(struct told_out *o, const struct told *t)
{
	size_t at = o->n, units;

	if (t->n_dns6) {
		told_add8(o, SERVERS);
		told_add8(o, (uint8_t)(1 + 2 * t->n_dns6));
		told_add16(o, 0);
		told_add32(o, UINT32_MAX);
		told_add(o, t->dns6, t->n_dns6 * 16);
		at = o->n;
	}
	if (!t->n_domains)
		return;
	told_add8(o, DOMAINS);
	told_add8(o, 0);
	told_add16(o, 0);
	told_add32(o, UINT32_MAX);
	told_add_domains(o, t);
	while (!o->failed && (o->n - at) % 8)
		told_add8(o, 0);
	units = (o->n - at) / 8;
	if (!o->failed && units <= UINT8_MAX)
		o->p[at + 1] = (uint8_t)units;
	else
		o->failed = true;
}

size_t ndp_write_router_advertisement(const struct told *t, const uint8_t *router_mac, uint8_t *out, size_t size)
{
	struct told_out o = { .p = out, .size = size < NDP_MAX ? size : NDP_MAX };
	size_t before;

	told_add8(&o, NDP_ROUTER_ADVERTISEMENT);
	told_add8(&o, 0);
	told_add16(&o, 0);
	told_add8(&o, HOPS_TOLD);
	told_add8(&o, MANAGED | OTHER);
	told_add16(&o, t->default6 ? NDP_ROUTER_LIFETIME_S : 0);
	told_add32(&o, 0);
	told_add32(&o, 0);
	if (router_mac)
		add_mac(&o, SOURCE_MAC, router_mac);
	if (t->mtu >= LEAST_MTU) {
		told_add8(&o, MTU);
		told_add8(&o, 1);
		told_add16(&o, 0);
		told_add32(&o, t->mtu);
	}
	/* One address alone has no network around it. */
	for (size_t i = 0; i < t->n_sixes; i++)
		if (t->sixes[i].prefix < 128)
			add_prefix(&o, &t->sixes[i]);
	for (size_t i = 0; i < t->n_links; i++)
		add_prefix(&o, &t->links[i]);
	for (size_t i = 0; i < t->n_through; i++)
		add_route(&o, &t->through[i]);
	if (o.failed)
		return 0;
	/* Names can be had by DHCP as well: where there is no room for them, they are left out. */
	before = o.n;
	add_names(&o, t);
	return o.failed ? before : o.n;
}

size_t ndp_write_neighbour_advertisement(const uint8_t target[16], const uint8_t mac[6], bool asked, uint8_t *out,
					 size_t size)
{
	struct told_out o = { .p = out, .size = size };

	told_add8(&o, NDP_NEIGHBOUR_ADVERTISEMENT);
	told_add8(&o, 0);
	told_add16(&o, 0);
	told_add32(&o, (uint32_t)(FROM_ROUTER | OVERRIDE | (asked ? ASKED : 0)) << 24);
	told_add(&o, target, 16);
	add_mac(&o, TARGET_MAC, mac);
	return o.failed ? 0 : o.n;
}
