/* What traffic control is told about an interface and its TAP.
 *
 * Everything is u32 filters and the mirred action, which kernels have when they have traffic control at all. Where something stays with the
 * namespace's own stack, a frame can go three ways:
 *
 *     interface, ingress   ARP, neighbour discovery, answers of name servers   a copy to the guest, and on to the stack
 *                          connections to the stack's own ports                to the stack
 *                          all else                                            to the guest
 *                          DHCP's answers, router advertisements (with aside)  to the stack
 *     TAP, ingress         what is for the control network                     to the stack
 *                          with aside: that only from there; from elsewhere,
 *                          and what asks for a configuration                   aside
 *                          all else                                            out at the interface
 *     interface, egress    TCP resets to name servers                          to the guest, which ignores its own address as a source
 *
 * Guest and stack have the same addresses, and no filter knows whose a connection to a name server is: both get the answers, and each would reset
 * the other's connection, of which it knows nothing. That is what the last line is for; UDP has nothing that does harm. */
#include "net/takeover_parts.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <netinet/in.h>
#include <string.h>

#include "base/parse.h"
#include "net/net.h"
#include "net/rtnetlink.h"

enum {
	/* Of our filters, in the order in which they are asked: nobody's by chance. One preference has one protocol. */
	PREFERENCE_ARP = 0x5ce4,
	PREFERENCE_IPV4,
	PREFERENCE_IPV6,
	PREFERENCE_ALL,
	QDISC = TC_H_MAKE(TC_H_CLSACT, 0),
	INGRESS = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
	EGRESS = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS),
	KEYS_MAX = 7,
	NAME_PORT = 53,
	/* RFC 4861 */
	ROUTER_SOLICITATION = 133,
	ROUTER_ADVERTISEMENT = 134,
	SOLICITATION = 135,
	ADVERTISEMENT = 136,
	NEIGHBOURS_ONLY = 255, /* hop limit: it was not forwarded */
	/* RFC 2131, 8415 */
	DHCP4_SERVER_PORT = 67,
	DHCP4_CLIENT_PORT = 68,
	DHCP6_CLIENT_PORT = 546,
	DHCP6_SERVER_PORT = 547,
	/* RFC 8200: headers between IPv6 and what it carries. */
	HOP_OPTIONS = 0,
	ROUTING = 43,
	FRAGMENT = 44,
	DESTINATION_OPTIONS = 60,
};

static const struct {
	uint16_t preference, protocol;
} kinds[] = {
	{ PREFERENCE_ARP, ETH_P_ARP },
	{ PREFERENCE_IPV4, ETH_P_IP },
	{ PREFERENCE_IPV6, ETH_P_IPV6 },
	{ PREFERENCE_ALL, ETH_P_ALL },
};

/* ---- Asking ---- */

int takeover_dump(struct rtnetlink *n, uint16_t type, const void *header, size_t size, const char *what,
		  struct buf *out, struct error *err)
{
	struct netlink_request q;
	int r;

	netlink_begin(&q, type, NLM_F_DUMP, header, size);
	r = rtnetlink_dump(n, &q, out);
	return r < 0 ? rtnetlink_refused(n, err, -r, "cannot list the namespace's %s", what) : 0;
}

int takeover_has_qdisc(struct rtnetlink *n, unsigned index, struct error *err)
{
	const struct tcmsg any = {};
	_cleanup_buf_ struct buf b = {};
	struct netlink_message m;
	struct cursor c, attributes;
	struct tcmsg head;
	int r = takeover_dump(n, RTM_GETQDISC, &any, sizeof(any), "queueing disciplines", &b, err);

	c = cursor_of(b.p, b.len);
	while (r == 0 && netlink_next(&c, &m))
		if (m.type == RTM_NEWQDISC && netlink_open(&m, &head, sizeof(head), &attributes) &&
		    head.tcm_ifindex == (int)index && head.tcm_parent == TC_H_INGRESS)
			r = 1;
	return r;
}

int takeover_has_foreign_filters(struct rtnetlink *n, unsigned index, struct error *err)
{
	static const uint32_t parents[] = { INGRESS, EGRESS };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parents) && r == 0; i++) {
		const struct tcmsg which = { .tcm_ifindex = (int)index, .tcm_parent = parents[i] };
		_cleanup_buf_ struct buf b = {};
		struct netlink_message m;
		struct cursor c, attributes;
		struct tcmsg head;

		r = takeover_dump(n, RTM_GETTFILTER, &which, sizeof(which), "filters", &b, err);
		c = cursor_of(b.p, b.len);
		while (r == 0 && netlink_next(&c, &m)) {
			uint32_t preference;

			if (m.type != RTM_NEWTFILTER || !netlink_open(&m, &head, sizeof(head), &attributes))
				continue;
			preference = TC_H_MAJ(head.tcm_info) >> 16;
			if (preference < PREFERENCE_ARP || preference > PREFERENCE_ALL)
				r = 1;
		}
	}
	return r;
}

/* ---- Taking away ---- */

int takeover_delete_filters(struct rtnetlink *n, unsigned index)
{
	static const uint32_t parents[] = { INGRESS, EGRESS };
	int first = 0;

	/* The last first: from then on the stack has its frames. */
	for (size_t i = ARRAY_SIZE(kinds); i-- > 0;)
		for (size_t k = 0; k < ARRAY_SIZE(parents); k++) {
			const struct tcmsg filter = {
				.tcm_ifindex = (int)index,
				.tcm_parent = parents[k],
				.tcm_info = TC_H_MAKE((uint32_t)kinds[i].preference << 16, htons(kinds[i].protocol)),
			};
			struct netlink_request q;
			int r;

			netlink_begin(&q, RTM_DELTFILTER, 0, &filter, sizeof(filter));
			r = rtnetlink_do(n, &q);
			if (r < 0 && r != -ENOENT && first == 0)
				first = r;
		}
	return first;
}

int takeover_delete_qdisc(struct rtnetlink *n, unsigned index)
{
	const struct tcmsg qdisc = { .tcm_ifindex = (int)index, .tcm_handle = QDISC, .tcm_parent = TC_H_CLSACT };
	struct netlink_request q;

	netlink_begin(&q, RTM_DELQDISC, 0, &qdisc, sizeof(qdisc));
	return rtnetlink_do(n, &q);
}

/* ---- Setting ---- */

/* The kernel says ENOENT for a kind that it does not have. */
static int refused(const struct rtnetlink *n, int r, const char *what, const char *name, struct error *err)
{
	rtnetlink_refused(n, err, -r, "%s of '%s'", what, name);
	if (err && r == -ENOENT) {
		err->kind = ERROR_UNAVAILABLE;
		error_hint(err, "the kernel needs sch_ingress, cls_u32 and act_mirred");
	}
	return r;
}

int takeover_add_qdisc(struct rtnetlink *n, unsigned index, const char *name, struct error *err)
{
	const struct tcmsg qdisc = { .tcm_ifindex = (int)index, .tcm_handle = QDISC, .tcm_parent = TC_H_CLSACT };
	struct netlink_request q;
	int r;

	netlink_begin(&q, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &qdisc, sizeof(qdisc));
	netlink_add_string(&q, TCA_KIND, "clsact");
	r = rtnetlink_do(n, &q);
	return r < 0 ? refused(n, r, "cannot set the queueing discipline", name, err) : 0;
}

/* A word of the frame, counted from the start of its network header; both in host order. */
struct key {
	uint32_t value, mask;
	int offset;
};

enum way { TO_STACK, TO_BOTH, AWAY };

struct rule {
	unsigned from;
	uint32_t parent;
	uint16_t preference;
	enum way way;
	unsigned to; /* where the frame, or its copy, goes out */
	struct key keys[KEYS_MAX];
	size_t n;
};

static uint16_t protocol_of(uint16_t preference)
{
	return kinds[preference - PREFERENCE_ARP].protocol;
}

static void add_action(struct netlink_request *q, const struct rule *rule)
{
	struct tc_mirred out = { .action = TC_ACT_OK, .eaction = TCA_EGRESS_MIRROR, .ifindex = rule->to };
	size_t actions = netlink_nest(q, TCA_U32_ACT), action = netlink_nest(q, 1), parameters;

	if (rule->way == AWAY) {
		out.action = TC_ACT_STOLEN;
		out.eaction = TCA_EGRESS_REDIR;
	}
	netlink_add_string(q, TCA_ACT_KIND, "mirred");
	parameters = netlink_nest(q, TCA_ACT_OPTIONS);
	netlink_add(q, TCA_MIRRED_PARMS, &out, sizeof(out));
	netlink_nest_end(q, parameters);
	netlink_nest_end(q, action);
	netlink_nest_end(q, actions);
}

/* A u32 filter without a key takes every frame; unlike matchall every kernel has it. One without an action lets the frame go on. */
static int add_rule(struct rtnetlink *n, const struct rule *rule, const char *name, struct error *err)
{
	const struct tcmsg filter = {
		.tcm_ifindex = (int)rule->from,
		.tcm_parent = rule->parent,
		.tcm_info = TC_H_MAKE((uint32_t)rule->preference << 16, htons(protocol_of(rule->preference))),
	};
	const struct tc_u32_sel head = { .flags = TC_U32_TERMINAL, .nkeys = (uint8_t)rule->n };
	uint8_t selector[sizeof(head) + KEYS_MAX * sizeof(struct tc_u32_key)], *p = selector;
	struct netlink_request q;
	size_t options;
	int r;

	memcpy(p, &head, sizeof(head));
	p += sizeof(head);
	for (size_t i = 0; i < rule->n; i++) {
		const struct tc_u32_key key = { .val = htonl(rule->keys[i].value),
						.mask = htonl(rule->keys[i].mask),
						.off = rule->keys[i].offset };

		memcpy(p, &key, sizeof(key));
		p += sizeof(key);
	}
	netlink_begin(&q, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &filter, sizeof(filter));
	netlink_add_string(&q, TCA_KIND, "u32");
	options = netlink_nest(&q, TCA_OPTIONS);
	netlink_add(&q, TCA_U32_SEL, selector, (size_t)(p - selector));
	if (rule->way != TO_STACK)
		add_action(&q, rule);
	netlink_nest_end(&q, options);
	r = rtnetlink_do(n, &q);
	return r < 0 ? refused(n, r, "cannot redirect the frames", name, err) : 0;
}

int takeover_add_redirect(struct rtnetlink *n, unsigned from, unsigned to, const char *name, struct error *err)
{
	const struct rule all = {
		.from = from, .parent = INGRESS, .preference = PREFERENCE_ALL, .way = AWAY, .to = to
	};

	return add_rule(n, &all, name, err);
}

/* ---- What stays ---- */

static void add_key(struct rule *r, uint32_t value, uint32_t mask, int offset)
{
	r->keys[r->n++] = (struct key){ value, mask, offset };
}

/* IPv4 without options, no later fragment; IPv6 without extension headers. Returns where the transport's header begins. */
static int transport_keys(struct rule *r, bool six, uint8_t protocol)
{
	r->preference = six ? PREFERENCE_IPV6 : PREFERENCE_IPV4;
	r->n = 0;
	if (six) {
		add_key(r, (uint32_t)protocol << 8, 0x0000ff00, 4);
		return 40;
	}
	add_key(r, 0x45000000, 0xff000000, 0);
	add_key(r, (uint32_t)protocol << 16, 0x00ff0000, 8);
	return 20;
}

static int keep_neighbours(struct rtnetlink *n, unsigned interface, unsigned tap, const char *name, struct error *err)
{
	static const uint8_t types[] = { SOLICITATION, ADVERTISEMENT };
	struct rule rule = {
		.from = interface, .parent = INGRESS, .preference = PREFERENCE_ARP, .way = TO_BOTH, .to = tap
	};
	int r = add_rule(n, &rule, name, err);

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(types); i++) {
		int at = transport_keys(&rule, true, IPPROTO_ICMPV6);

		add_key(&rule, (uint32_t)types[i] << 24, 0xff000000, at);
		r = add_rule(n, &rule, name, err);
	}
	return r;
}

static int keep_answers(struct rtnetlink *n, unsigned interface, unsigned tap, bool six, const char *name,
			struct error *err)
{
	static const uint8_t protocols[] = { IPPROTO_UDP, IPPROTO_TCP };
	struct rule answer = { .from = interface, .parent = INGRESS, .way = TO_BOTH, .to = tap };
	struct rule reset = { .from = interface, .parent = EGRESS, .way = AWAY, .to = tap };
	int at, r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(protocols); i++) {
		at = transport_keys(&answer, six, protocols[i]);
		add_key(&answer, NAME_PORT << 16, 0xffff0000, at);
		r = add_rule(n, &answer, name, err);
	}
	at = transport_keys(&reset, six, IPPROTO_TCP);
	add_key(&reset, NAME_PORT, 0x0000ffff, at);
	add_key(&reset, 0x00040000, 0x00040000, at + 12);
	return r < 0 ? r : add_rule(n, &reset, name, err);
}

static int keep_ports(struct rtnetlink *n, unsigned interface, const struct net_takeover_keep *keep, bool six,
		      const char *name, struct error *err)
{
	struct rule rule = { .from = interface, .parent = INGRESS, .way = TO_STACK };
	int r = 0;

	for (size_t i = 0; r == 0 && i < keep->n_ports; i++) {
		int at = transport_keys(&rule, six, IPPROTO_TCP);

		add_key(&rule, keep->ports[i], 0x0000ffff, at);
		r = add_rule(n, &rule, name, err);
	}
	return r;
}

int takeover_keep_outside(struct rtnetlink *n, unsigned interface, unsigned tap, const struct net_takeover_keep *keep,
			  const char *name, struct error *err)
{
	int r = 0;

	if (keep->names || keep->n_ports)
		r = keep_neighbours(n, interface, tap, name, err);
	for (int six = 0; r == 0 && six < 2; six++) {
		r = keep_ports(n, interface, keep, six, name, err);
		if (r == 0 && keep->names)
			r = keep_answers(n, interface, tap, six, name, err);
	}
	return r;
}

bool takeover_control(const struct net_takeover_keep *keep, uint32_t *ret_address, uint8_t *ret_prefix)
{
	const char *slash = strchr(keep->control, '/');
	_cleanup_free_ char *text = slash ? xstrndup(keep->control, (size_t)(slash - keep->control)) : NULL;
	struct in_addr address;
	uint64_t prefix;

	if (!text || inet_pton(AF_INET, text, &address) != 1 || parse_u64(slash + 1, 1, 32, &prefix) < 0)
		return false;
	*ret_address = ntohl(address.s_addr);
	*ret_prefix = (uint8_t)prefix;
	return true;
}

/* An address in the network of @address and @mask at that offset, which for ARP's sender is not a multiple of four. */
static void add_network_key(struct rule *r, uint32_t address, uint32_t mask, int offset)
{
	if (offset % 4 == 0) {
		add_key(r, address & mask, mask, offset);
		return;
	}
	add_key(r, (address & mask) >> 16, mask >> 16, offset - 2);
	add_key(r, (address & mask) << 16, mask << 16, offset + 2);
}

/* From whom (a network; @mask 0 = anybody), for the control network. */
static int keep_from(struct rtnetlink *n, struct rule *rule, uint32_t from, uint32_t mask, uint32_t address,
		     uint32_t control_mask, const char *name, struct error *err)
{
	bool arp = rule->preference == PREFERENCE_ARP;

	rule->n = 0;
	/* Whom it is asked for; whose the IPv4 packet is. */
	add_network_key(rule, address, control_mask, arp ? 24 : 16);
	if (mask)
		add_network_key(rule, from, mask, arp ? 14 : 12);
	return add_rule(n, rule, name, err);
}

int takeover_keep_inside(struct rtnetlink *n, unsigned tap, const struct net_takeover_keep *keep, unsigned aside,
			 const char *name, struct error *err)
{
	static const uint16_t preferences[] = { PREFERENCE_ARP, PREFERENCE_IPV4 };
	uint32_t address, mask;
	uint8_t prefix;
	int r = 0;

	if (!takeover_control(keep, &address, &prefix))
		return error_set(err, EINVAL, "'%s' is no network of IPv4", keep->control);
	mask = UINT32_MAX << (32 - prefix);
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(preferences); i++) {
		struct rule rule = { .from = tap, .parent = INGRESS, .preference = preferences[i], .way = TO_STACK };

		/* The guest's own questions whether its address is free stay too: they would meet the guests of others. */
		if (aside && preferences[i] == PREFERENCE_ARP)
			r = keep_from(n, &rule, 0, UINT32_MAX, address, mask, name, err);
		if (r == 0)
			r = keep_from(n, &rule, address, aside ? mask : 0, address, mask, name, err);
		/* By another address, which is the stack's too: that one would take it for a lie. */
		rule.way = AWAY;
		rule.to = aside;
		if (r == 0 && aside)
			r = keep_from(n, &rule, 0, 0, address, mask, name, err);
	}
	return r;
}

/* ---- What is asked aside ---- */

/* NET_CONTROL_SIX and NET_CONTROL_ROUTER: the last two bits are theirs. */
static void add_control_six(struct rule *r, int offset)
{
	struct in6_addr a;
	uint32_t words[4];

	(void)inet_pton(AF_INET6, NET_CONTROL_SIX, &a);
	memcpy(words, &a, sizeof(words));
	for (int i = 0; i < 4; i++) {
		uint32_t mask = i == 3 ? ~UINT32_C(3) : UINT32_MAX;

		add_key(r, ntohl(words[i]) & mask, mask, offset + 4 * i);
	}
}

int takeover_ask_aside(struct rtnetlink *n, unsigned tap, unsigned aside, const char *name, struct error *err)
{
	struct rule rule = { .from = tap, .parent = INGRESS, .way = AWAY, .to = aside };
	int at = transport_keys(&rule, false, IPPROTO_UDP), r;

	add_key(&rule, DHCP4_SERVER_PORT, 0x0000ffff, at);
	r = add_rule(n, &rule, name, err);
	at = transport_keys(&rule, true, IPPROTO_UDP);
	add_key(&rule, DHCP6_SERVER_PORT, 0x0000ffff, at);
	if (r == 0)
		r = add_rule(n, &rule, name, err);
	at = transport_keys(&rule, true, IPPROTO_ICMPV6);
	add_key(&rule, (uint32_t)ROUTER_SOLICITATION << 24, 0xff000000, at);
	if (r == 0)
		r = add_rule(n, &rule, name, err);
	/* Who has one of these addresses? And whatever is for them. */
	at = transport_keys(&rule, true, IPPROTO_ICMPV6);
	add_key(&rule, (uint32_t)SOLICITATION << 24, 0xff000000, at);
	add_control_six(&rule, at + 8);
	if (r == 0)
		r = add_rule(n, &rule, name, err);
	rule.n = 0;
	add_control_six(&rule, 24);
	return r < 0 ? r : add_rule(n, &rule, name, err);
}

/* The stack was there before the guest: such answers are for it, if for anybody. */
int takeover_hush_outside(struct rtnetlink *n, unsigned interface, const char *name, struct error *err)
{
	static const uint8_t headers[] = { HOP_OPTIONS, ROUTING, FRAGMENT, DESTINATION_OPTIONS };
	struct rule rule = { .from = interface, .parent = INGRESS, .way = TO_STACK };
	int at = transport_keys(&rule, false, IPPROTO_UDP), r;

	add_key(&rule, DHCP4_CLIENT_PORT, 0x0000ffff, at);
	r = add_rule(n, &rule, name, err);
	at = transport_keys(&rule, true, IPPROTO_UDP);
	add_key(&rule, DHCP6_CLIENT_PORT, 0x0000ffff, at);
	if (r == 0)
		r = add_rule(n, &rule, name, err);
	at = transport_keys(&rule, true, IPPROTO_ICMPV6);
	add_key(&rule, (uint32_t)ROUTER_ADVERTISEMENT << 24, 0xff000000, at);
	if (r == 0)
		r = add_rule(n, &rule, name, err);
	/* Nor an advertisement that hides behind other headers (RFC 7113): nothing else that neighbours send from such an address, and let nobody forward,
	 * has any. */
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(headers); i++) {
		rule.n = 0;
		add_key(&rule, (uint32_t)headers[i] << 8 | NEIGHBOURS_ONLY, 0x0000ffff, 4);
		add_key(&rule, 0xfe800000, 0xffc00000, 8);
		r = add_rule(n, &rule, name, err);
	}
	return r;
}
