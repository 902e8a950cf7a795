/* From the kernel's answers to what a guest needs to know. Pure: bytes in, structs out. */
#include "net/takeover_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/if_arp.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdio.h>
#include <string.h>

#include "base/parse.h"
#include "wire/netlink.h"

#define TAP_PREFIX   "sktap"
#define ASIDE_PREFIX "skask"

enum {
	LINKS_MAX = 4096,
	/* What the guest takes: guest/bootconfig.c. */
	NICS_MAX = 16,
	ADDRESSES_MAX = 32,
	ROUTES_MAX = 512,
	NEIGHBOURS_MAX = 512,
	TAP_MTU_MAX = 65535 - 14, /* a TAP's frame with its header */
	METRIC_NONE = UINT32_MAX,
};

struct reading {
	struct net_takeover *t;
	uint32_t metric4[NICS_MAX], metric6[NICS_MAX]; /* of the default routes that the gateways are of */
};

void net_takeover_done(struct net_takeover *t)
{
	for (size_t i = 0; i < t->n; i++) {
		strv_done(&t->nics[i].addresses);
		free(t->nics[i].routes);
		free(t->nics[i].neighbours);
	}
	free(t->nics);
	*t = (struct net_takeover){};
}

void takeover_tap_name(unsigned index, char ret[16])
{
	(void)snprintf(ret, 16, TAP_PREFIX "%u", index);
}

void takeover_aside_name(unsigned index, char ret[16])
{
	(void)snprintf(ret, 16, ASIDE_PREFIX "%u", index);
}

bool takeover_is_ours(const struct takeover_link *l)
{
	return streq(l->kind, "tun") && (after_prefix(l->name, TAP_PREFIX) || after_prefix(l->name, ASIDE_PREFIX) ||
					 streq(l->name, TAKEOVER_TUN));
}

bool takeover_tap_index(const char *name, unsigned *ret_index)
{
	const char *digits = after_prefix(name, TAP_PREFIX);
	uint64_t v;

	if (!digits || digits[0] == '0' || parse_u64(digits, 1, INT32_MAX, &v) < 0)
		return false;
	*ret_index = (unsigned)v;
	return true;
}

/* ---- Links ---- */

static void format_mac(const uint8_t *p, char ret[18])
{
	(void)snprintf(ret, 18, "%02x:%02x:%02x:%02x:%02x:%02x", p[0], p[1], p[2], p[3], p[4], p[5]);
}

static void read_link_info(const struct netlink_attribute *info, struct takeover_link *l)
{
	struct cursor c = cursor_of(info->p, info->size);
	struct netlink_attribute a;

	while (netlink_next_attribute(&c, &a)) {
		struct netlink_attribute own;
		struct cursor data;

		if (a.type == IFLA_INFO_KIND && !netlink_string(&a, l->kind, sizeof(l->kind)))
			l->kind[0] = '\0';
		/* What is in the data depends on the kind, which the kernel puts first. */
		if (a.type != IFLA_INFO_DATA || !streq(l->kind, "ipvlan"))
			continue;
		data = cursor_of(a.p, a.size);
		while (netlink_next_attribute(&data, &own))
			if (own.type == IFLA_IPVLAN_MODE && own.size == sizeof(l->ipvlan_mode))
				memcpy(&l->ipvlan_mode, own.p, sizeof(l->ipvlan_mode));
	}
}

/* false: no link, or one without an index or a name. */
static bool read_link(const struct netlink_message *m, struct takeover_link *l)
{
	struct netlink_attribute a;
	struct ifinfomsg head;
	struct cursor c;

	*l = (struct takeover_link){};
	if (m->type != RTM_NEWLINK || !netlink_open(m, &head, sizeof(head), &c) || head.ifi_index <= 0)
		return false;
	l->index = (unsigned)head.ifi_index;
	l->flags = head.ifi_flags;
	l->type = head.ifi_type;
	while (netlink_next_attribute(&c, &a)) {
		if (a.type == IFLA_IFNAME && !netlink_string(&a, l->name, sizeof(l->name)))
			return false;
		if (a.type == IFLA_MTU)
			l->mtu = netlink_u32(&a);
		if (a.type == IFLA_LINKINFO)
			read_link_info(&a, l);
		if (a.type == IFLA_IFALIAS && a.size > 0)
			(void)snprintf(l->alias, sizeof(l->alias), "%.*s", (int)strnlen((const char *)a.p, a.size),
				       (const char *)a.p);
		if (a.type == IFLA_ADDRESS && a.size == 6) {
			format_mac(a.p, l->mac);
			l->has_mac = true;
		}
	}
	return !c.failed && l->name[0];
}

int takeover_links(const void *messages, size_t n, struct takeover_link **ret, size_t *ret_n)
{
	struct cursor c = cursor_of(messages, n);
	struct takeover_link *links = NULL, l;
	struct netlink_message m;
	size_t count = 0, room = 0;

	while (count < LINKS_MAX && netlink_next(&c, &m)) {
		if (!read_link(&m, &l))
			continue;
		if (count == room) {
			room = room ? room * 2 : 8;
			links = xrealloc_array(links, room, sizeof(*links));
		}
		links[count++] = l;
	}
	if (c.failed) {
		free(links);
		return -EBADMSG;
	}
	*ret = links;
	*ret_n = count;
	return 0;
}

/* ---- Which interfaces ---- */

static bool has_address(const void *messages, size_t n, unsigned index)
{
	struct cursor c = cursor_of(messages, n), attributes;
	struct netlink_message m;
	struct ifaddrmsg head;

	while (netlink_next(&c, &m))
		if (m.type == RTM_NEWADDR && netlink_open(&m, &head, sizeof(head), &attributes) &&
		    head.ifa_index == index && (head.ifa_family == AF_INET || head.ifa_scope != RT_SCOPE_LINK))
			return true;
	return false;
}

static int refuse(struct error *err, const char *name, const char *why)
{
	return error_set_kind(err, ERROR_CONFIG, EOPNOTSUPP, "interface '%s' cannot be handed to a guest: %s", name,
			      why);
}

static int check_link(const struct takeover_link *l, struct error *err)
{
	if (l->flags & IFF_LOOPBACK)
		return refuse(err, l->name, "it is the loopback");
	if (!(l->flags & IFF_UP))
		return refuse(err, l->name, "it is down");
	if (l->type != ARPHRD_ETHER || !l->has_mac)
		return refuse(err, l->name, "it is no Ethernet interface");
	if (streq(l->kind, "ipvlan") && l->ipvlan_mode != IPVLAN_MODE_L2)
		return refuse(err, l->name, "it is an ipvlan that routes (mode l3 or l3s); mode l2 works");
	if (l->flags & IFF_NOARP)
		return refuse(err, l->name, "it does not resolve addresses (noarp)");
	return 0;
}

static int add_nic(struct net_takeover *t, const struct takeover_link *l, struct error *err)
{
	struct net_takeover_nic *nic;
	int r = check_link(l, err);

	for (size_t i = 0; i < t->n && r == 0; i++)
		if (streq(t->nics[i].mac, l->mac))
			r = error_set_kind(err, ERROR_CONFIG, EOPNOTSUPP,
					   "interfaces '%s' and '%s' have the same hardware address %s: one guest "
					   "cannot have both",
					   t->nics[i].name, l->name, l->mac);
	if (r == 0 && t->n == NICS_MAX)
		r = error_set_kind(err, ERROR_CONFIG, E2BIG, "more than %d interfaces", NICS_MAX);
	if (r < 0)
		return r;
	t->nics = xrealloc_array(t->nics, t->n + 1, sizeof(*t->nics));
	nic = &t->nics[t->n++];
	*nic = (struct net_takeover_nic){ .index = l->index, .mtu = l->mtu < TAP_MTU_MAX ? l->mtu : TAP_MTU_MAX };
	memcpy(nic->name, l->name, sizeof(nic->name));
	memcpy(nic->kind, l->kind, sizeof(nic->kind));
	memcpy(nic->mac, l->mac, sizeof(nic->mac));
	takeover_tap_name(nic->index, nic->tap);
	return 0;
}

static int by_index(const void *a, const void *b)
{
	const struct takeover_link *x = a, *y = b;

	return (x->index > y->index) - (x->index < y->index);
}

static int choose(struct net_takeover *t, const void *messages, size_t n, const struct strv *names, struct error *err)
{
	_cleanup_free_ struct takeover_link *links = NULL;
	size_t n_links = 0, found = 0;
	int r = takeover_links(messages, n, &links, &n_links);

	if (r < 0)
		return error_set(err, -r, "the kernel's answer about interfaces cannot be understood");
	if (n_links)
		qsort(links, n_links, sizeof(*links), by_index);
	for (size_t i = 0; i < n_links && r == 0; i++) {
		const struct takeover_link *l = &links[i];
		bool wanted = names && names->n ? strv_has(names, l->name)
						: (l->flags & IFF_UP) && !(l->flags & IFF_LOOPBACK) &&
							  !takeover_is_ours(l) && has_address(messages, n, l->index);

		if (!wanted)
			continue;
		found++;
		r = add_nic(t, l, err);
	}
	for (size_t i = 0; names && i < names->n && r == 0 && found < names->n; i++) {
		size_t k = 0;

		while (k < t->n && !streq(t->nics[k].name, names->items[i]))
			k++;
		if (k == t->n)
			r = error_set(err, ENOENT, "interface '%s' does not exist", names->items[i]);
	}
	return r;
}

/* ---- Addresses, routes, neighbours ---- */

/* false: not an address of that family. */
static bool address_text(int family, const uint8_t *p, size_t size, char ret[46])
{
	if ((family != AF_INET || size != 4) && (family != AF_INET6 || size != 16))
		return false;
	return inet_ntop(family, p, ret, 46) != NULL;
}

static struct net_takeover_nic *nic_of(const struct reading *g, unsigned index, size_t *ret_i)
{
	for (size_t i = 0; i < g->t->n; i++)
		if (g->t->nics[i].index == index) {
			*ret_i = i;
			return &g->t->nics[i];
		}
	return NULL;
}

static int too_many(struct error *err, const struct net_takeover_nic *nic, const char *what, unsigned limit)
{
	return error_set_kind(err, ERROR_CONFIG, E2BIG, "interface '%s' has more than %u %s", nic->name, limit, what);
}

static int add_route(struct net_takeover_nic *nic, const struct net_route *route, struct error *err)
{
	size_t at = nic->n_routes;

	if (nic->n_routes == ROUTES_MAX)
		return too_many(err, nic, "routes", ROUTES_MAX);
	/* What is on the link goes before what is reached by it. */
	if (!route->gateway[0])
		for (at = 0; at < nic->n_routes && !nic->routes[at].gateway[0];)
			at++;
	nic->routes = xrealloc_array(nic->routes, nic->n_routes + 1, sizeof(*nic->routes));
	memmove(&nic->routes[at + 1], &nic->routes[at], (nic->n_routes - at) * sizeof(*nic->routes));
	nic->routes[at] = *route;
	nic->n_routes++;
	return 0;
}

static int read_address(struct reading *g, const struct netlink_message *m, struct error *err)
{
	char text[46] = "", local[46] = "";
	struct net_takeover_nic *nic;
	struct netlink_attribute a;
	struct net_route peer = {};
	struct ifaddrmsg head;
	struct cursor c;
	uint32_t flags;
	unsigned prefix;
	size_t i;

	if (!netlink_open(m, &head, sizeof(head), &c))
		return 0;
	nic = nic_of(g, head.ifa_index, &i);
	/* A guest makes its own link-local addresses. */
	if (!nic || (head.ifa_family == AF_INET6 && head.ifa_scope == RT_SCOPE_LINK))
		return 0;
	flags = head.ifa_flags;
	while (netlink_next_attribute(&c, &a)) {
		if (a.type == IFA_ADDRESS && !address_text(head.ifa_family, a.p, a.size, text))
			return 0;
		if (a.type == IFA_LOCAL && !address_text(head.ifa_family, a.p, a.size, local))
			return 0;
		if (a.type == IFA_FLAGS)
			flags = netlink_u32(&a);
	}
	if (c.failed || (!text[0] && !local[0]) || head.ifa_prefixlen > (head.ifa_family == AF_INET ? 32 : 128))
		return 0;
	/* Somebody else has it, or it is one of those that change by themselves. */
	if (flags & (IFA_F_DADFAILED | (head.ifa_family == AF_INET6 ? IFA_F_TEMPORARY : 0)))
		return 0;
	if (nic->addresses.n == ADDRESSES_MAX)
		return too_many(err, nic, "addresses", ADDRESSES_MAX);
	prefix = head.ifa_prefixlen;
	if (local[0] && text[0] && !streq(local, text)) {
		/* Point to point: the prefix is the other end's. */
		(void)snprintf(peer.destination, sizeof(peer.destination), "%s/%u", text, prefix);
		memcpy(peer.source, local, sizeof(peer.source));
		prefix = head.ifa_family == AF_INET ? 32 : 128;
	}
	strv_addf(&nic->addresses, "%s/%u", local[0] ? local : text, prefix);
	return peer.destination[0] ? add_route(nic, &peer, err) : 0;
}

struct hop {
	unsigned index;
	char gateway[46];
};

static bool read_hop_attribute(int family, const struct netlink_attribute *a, struct hop *h)
{
	uint16_t of;

	if (a->type == RTA_GATEWAY)
		return address_text(family, a->p, a->size, h->gateway);
	if (a->type == RTA_VIA) {
		if (a->size < sizeof(of))
			return false;
		memcpy(&of, a->p, sizeof(of));
		return address_text(of, a->p + sizeof(of), a->size - sizeof(of), h->gateway);
	}
	return true;
}

/* Of several ways the first: a guest that has them all would have to know which one fails. */
static bool read_first_hop(int family, const struct netlink_attribute *ways, struct hop *h)
{
	struct cursor c = cursor_of(ways->p, ways->size), attributes;
	struct netlink_attribute a;
	struct rtnexthop head;
	const uint8_t *p = cursor_bytes(&c, sizeof(head));

	if (!p)
		return false;
	memcpy(&head, p, sizeof(head));
	if (head.rtnh_len < sizeof(head) || head.rtnh_ifindex <= 0 || head.rtnh_len > ways->size)
		return false;
	h->index = (unsigned)head.rtnh_ifindex;
	attributes = cursor_of(p + sizeof(head), head.rtnh_len - sizeof(head));
	while (netlink_next_attribute(&attributes, &a))
		if (!read_hop_attribute(family, &a, h))
			return false;
	return !attributes.failed;
}

static void note_gateway(struct reading *g, size_t i, const struct net_route *route)
{
	struct net_takeover_nic *nic = &g->t->nics[i];

	if (streq(route->destination, "0.0.0.0/0") && strchr(route->gateway, '.') && !strchr(route->gateway, ':') &&
	    route->metric < g->metric4[i]) {
		memcpy(nic->gateway, route->gateway, sizeof(nic->gateway));
		g->metric4[i] = route->metric;
	}
	if (streq(route->destination, "::/0") && route->gateway[0] && route->metric < g->metric6[i]) {
		memcpy(nic->gateway6, route->gateway, sizeof(nic->gateway6));
		g->metric6[i] = route->metric;
	}
}

/* A unicast route of table main that somebody made: those that come with an address the guest's kernel makes itself. */
static bool is_of_use(const struct rtmsg *head)
{
	return (head->rtm_family == AF_INET || head->rtm_family == AF_INET6) && head->rtm_type == RTN_UNICAST &&
	       head->rtm_protocol != RTPROT_KERNEL && head->rtm_protocol != RTPROT_REDIRECT && head->rtm_tos == 0 &&
	       head->rtm_src_len == 0 && !(head->rtm_flags & (RTM_F_CLONED | RTNH_F_DEAD)) &&
	       head->rtm_dst_len <= (head->rtm_family == AF_INET ? 32 : 128);
}

/* What a route is measured by (rtnetlink(7)). */
static uint32_t mtu_among(const struct netlink_attribute *metrics)
{
	struct cursor c = cursor_of(metrics->p, metrics->size);
	struct netlink_attribute a;

	while (netlink_next_attribute(&c, &a))
		if (a.type == RTAX_MTU)
			return netlink_u32(&a);
	return 0;
}

static int read_route(struct reading *g, const struct netlink_message *m, struct error *err)
{
	char destination[46] = "";
	struct net_takeover_nic *nic;
	struct netlink_attribute a;
	struct net_route route = {};
	struct hop hop = {};
	struct rtmsg head;
	struct cursor c;
	uint32_t table;
	size_t i;
	int r;

	if (!netlink_open(m, &head, sizeof(head), &c) || !is_of_use(&head))
		return 0;
	table = head.rtm_table;
	while (netlink_next_attribute(&c, &a)) {
		bool good = read_hop_attribute(head.rtm_family, &a, &hop);

		if (a.type == RTA_TABLE)
			table = netlink_u32(&a);
		if (a.type == RTA_OIF)
			hop.index = netlink_u32(&a);
		if (a.type == RTA_PRIORITY)
			route.metric = netlink_u32(&a);
		if (a.type == RTA_METRICS)
			route.mtu = mtu_among(&a);
		if (a.type == RTA_DST)
			good = address_text(head.rtm_family, a.p, a.size, destination);
		if (a.type == RTA_PREFSRC)
			good = address_text(head.rtm_family, a.p, a.size, route.source);
		if (a.type == RTA_MULTIPATH)
			good = read_first_hop(head.rtm_family, &a, &hop);
		if (!good)
			return 0;
	}
	nic = nic_of(g, hop.index, &i);
	if (c.failed || table != RT_TABLE_MAIN || !nic || (!destination[0] && head.rtm_dst_len > 0))
		return 0;
	if (!destination[0])
		(void)snprintf(destination, sizeof(destination), "%s", head.rtm_family == AF_INET ? "0.0.0.0" : "::");
	(void)snprintf(route.destination, sizeof(route.destination), "%s/%u", destination, head.rtm_dst_len);
	memcpy(route.gateway, hop.gateway, sizeof(route.gateway));
	r = add_route(nic, &route, err);
	if (r == 0)
		note_gateway(g, i, &route);
	return r;
}

static int read_neighbour(struct reading *g, const struct netlink_message *m, struct error *err)
{
	struct net_neighbour entry = {};
	struct net_takeover_nic *nic;
	struct netlink_attribute a;
	struct ndmsg head;
	struct cursor c;
	size_t i;

	if (!netlink_open(m, &head, sizeof(head), &c) || !(head.ndm_state & NUD_PERMANENT) ||
	    (head.ndm_flags & NTF_PROXY) || head.ndm_ifindex <= 0)
		return 0;
	nic = nic_of(g, (unsigned)head.ndm_ifindex, &i);
	if (!nic)
		return 0;
	while (netlink_next_attribute(&c, &a)) {
		if (a.type == NDA_DST && !address_text(head.ndm_family, a.p, a.size, entry.address))
			return 0;
		if (a.type == NDA_LLADDR && a.size == 6)
			format_mac(a.p, entry.mac);
	}
	if (c.failed || !entry.address[0] || !entry.mac[0])
		return 0;
	if (nic->n_neighbours == NEIGHBOURS_MAX)
		return too_many(err, nic, "permanent neighbours", NEIGHBOURS_MAX);
	nic->neighbours = xrealloc_array(nic->neighbours, nic->n_neighbours + 1, sizeof(*nic->neighbours));
	nic->neighbours[nic->n_neighbours++] = entry;
	return 0;
}

int takeover_read(const void *messages, size_t n, const struct strv *names, struct net_takeover *ret, struct error *err)
{
	_cleanup_(net_takeover_done) struct net_takeover t = {};
	struct cursor c = cursor_of(messages, n);
	struct reading g = { .t = &t };
	struct netlink_message m;
	int r = choose(&t, messages, n, names, err);

	for (size_t i = 0; i < NICS_MAX; i++)
		g.metric4[i] = g.metric6[i] = METRIC_NONE;
	while (r == 0 && netlink_next(&c, &m)) {
		if (m.type == RTM_NEWADDR)
			r = read_address(&g, &m, err);
		else if (m.type == RTM_NEWROUTE)
			r = read_route(&g, &m, err);
		else if (m.type == RTM_NEWNEIGH)
			r = read_neighbour(&g, &m, err);
	}
	if (r < 0)
		return r;
	*ret = t;
	t = (struct net_takeover){};
	return 0;
}
