/* How an interface and its TAP are joined, and parted again.
 *
 * The one that recovers knows nothing but the namespace. So what was made must tell: the TAP's name holds the interface's index, and its alias
 * whether the interface's queueing discipline came with us. The TAP is made first and goes last; it is persistent, or it would vanish with
 * the engine and leave an interface behind whose frames go nowhere. */
#include "net/takeover.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fault.h"
#include "net/rtnetlink.h"
#include "net/takeover_parts.h"

#define ALIAS_PLAIN "skerry"
#define ALIAS_QDISC "skerry qdisc" /* the interface had none before */

enum {
	PREFERENCE = 0x5ce7, /* of our filters: nobody's by chance */
	QDISC = TC_H_MAKE(TC_H_CLSACT, 0),
	INGRESS = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS),
	EGRESS = TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS),
};

static int point(const char *label, struct error *err)
{
	int r = fault_point(label);

	return r < 0 ? error_set_errno(err, -r, "%s", label) : 0;
}

/* ---- Asking ---- */

static int dump(struct rtnetlink *n, uint16_t type, const void *header, size_t size, const char *what, struct buf *out,
		struct error *err)
{
	struct netlink_request q;
	int r;

	netlink_begin(&q, type, NLM_F_DUMP, header, size);
	r = rtnetlink_dump(n, &q, out);
	return r < 0 ? rtnetlink_refused(n, err, -r, "cannot list the namespace's %s", what) : 0;
}

static int dump_links(struct rtnetlink *n, struct buf *out, struct error *err)
{
	const struct ifinfomsg link = {};

	return dump(n, RTM_GETLINK, &link, sizeof(link), "interfaces", out, err);
}

static int get_links(struct rtnetlink *n, struct takeover_link **ret, size_t *ret_n, struct error *err)
{
	_cleanup_buf_ struct buf b = {};
	int r = dump_links(n, &b, err);

	if (r < 0)
		return r;
	r = takeover_links(b.p, b.len, ret, ret_n);
	return r < 0 ? error_set_errno(err, -r, "cannot list the namespace's interfaces") : 0;
}

static int has_qdisc(struct rtnetlink *n, unsigned index, struct error *err)
{
	const struct tcmsg any = {};
	_cleanup_buf_ struct buf b = {};
	struct netlink_message m;
	struct cursor c, attributes;
	struct tcmsg head;
	int r = dump(n, RTM_GETQDISC, &any, sizeof(any), "queueing disciplines", &b, err);

	c = cursor_of(b.p, b.len);
	while (r == 0 && netlink_next(&c, &m))
		if (m.type == RTM_NEWQDISC && netlink_open(&m, &head, sizeof(head), &attributes) &&
		    head.tcm_ifindex == (int)index && head.tcm_parent == TC_H_INGRESS)
			r = 1;
	return r;
}

/* Whether somebody else has filters there. */
static int has_foreign_filters(struct rtnetlink *n, unsigned index, struct error *err)
{
	static const uint32_t parents[] = { INGRESS, EGRESS };
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(parents) && r == 0; i++) {
		const struct tcmsg which = { .tcm_ifindex = (int)index, .tcm_parent = parents[i] };
		_cleanup_buf_ struct buf b = {};
		struct netlink_message m;
		struct cursor c, attributes;
		struct tcmsg head;

		r = dump(n, RTM_GETTFILTER, &which, sizeof(which), "filters", &b, err);
		c = cursor_of(b.p, b.len);
		while (r == 0 && netlink_next(&c, &m))
			if (m.type == RTM_NEWTFILTER && netlink_open(&m, &head, sizeof(head), &attributes) &&
			    TC_H_MAJ(head.tcm_info) >> 16 != PREFERENCE)
				r = 1;
	}
	return r;
}

int net_takeover_inspect(int netns_fd, const struct strv *names, struct net_takeover *ret, struct error *err)
{
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	_cleanup_buf_ struct buf b = {};
	const struct ifaddrmsg address = {};
	const struct rtmsg route = {};
	const struct ndmsg neighbour = {};
	int r = rtnetlink_open(netns_fd, &n, NULL, err);

	if (r == 0)
		r = dump_links(&n, &b, err);
	if (r == 0)
		r = dump(&n, RTM_GETADDR, &address, sizeof(address), "addresses", &b, err);
	if (r == 0)
		r = dump(&n, RTM_GETROUTE, &route, sizeof(route), "routes", &b, err);
	if (r == 0)
		r = dump(&n, RTM_GETNEIGH, &neighbour, sizeof(neighbour), "neighbours", &b, err);
	return r < 0 ? r : takeover_read(b.p, b.len, names, ret, err);
}

/* ---- Parting ---- */

static int delete_filter(struct rtnetlink *n, unsigned index)
{
	const struct tcmsg filter = {
		.tcm_ifindex = (int)index,
		.tcm_parent = INGRESS,
		.tcm_info = TC_H_MAKE((uint32_t)PREFERENCE << 16, htons(ETH_P_ALL)),
	};
	struct netlink_request q;
	int r;

	netlink_begin(&q, RTM_DELTFILTER, 0, &filter, sizeof(filter));
	r = rtnetlink_do(n, &q);
	return r == -ENOENT ? 0 : r;
}

static int delete_qdisc(struct rtnetlink *n, unsigned index)
{
	const struct tcmsg qdisc = { .tcm_ifindex = (int)index, .tcm_handle = QDISC, .tcm_parent = TC_H_CLSACT };
	struct netlink_request q;

	netlink_begin(&q, RTM_DELQDISC, 0, &qdisc, sizeof(qdisc));
	return rtnetlink_do(n, &q);
}

/* Gives the interface its frames back. @own_qdisc: it came with us; it stays all the same while it serves somebody else. */
static int part(struct rtnetlink *n, const struct takeover_link *l, bool own_qdisc, struct error *err)
{
	int r = has_qdisc(n, l->index, err), foreign;

	if (r <= 0)
		return r;
	r = delete_filter(n, l->index);
	if (r < 0)
		return rtnetlink_refused(n, err, -r, "cannot give interface '%s' its frames back", l->name);
	foreign = own_qdisc ? has_foreign_filters(n, l->index, err) : 1;
	if (foreign)
		return foreign < 0 ? foreign : 0;
	r = delete_qdisc(n, l->index);
	return r < 0 ? rtnetlink_refused(n, err, -r, "cannot remove the queueing discipline of interface '%s'", l->name)
		     : 0;
}

static int delete_tap(struct rtnetlink *n, unsigned index, const char *name, struct error *err)
{
	const struct ifinfomsg link = { .ifi_index = (int)index };
	struct netlink_request q;
	int r;

	netlink_begin(&q, RTM_DELLINK, 0, &link, sizeof(link));
	r = rtnetlink_do(n, &q);
	return r < 0 && r != -ENODEV ? rtnetlink_refused(n, err, -r, "cannot remove '%s'", name) : 0;
}

static const struct takeover_link *link_at(const struct takeover_link *links, size_t n, unsigned index)
{
	for (size_t i = 0; i < n; i++)
		if (links[i].index == index)
			return &links[i];
	return NULL;
}

/* One TAP and all that hangs on it. The interface may have gone. */
static int release_tap(struct rtnetlink *n, const struct takeover_link *tap, const struct takeover_link *of,
		       struct error *err)
{
	int r = point("takeover.release", err);

	if (r == 0 && of)
		r = part(n, of, streq(tap->alias, ALIAS_QDISC), err);
	if (r == 0)
		r = point("takeover.parted", err);
	if (r == 0)
		r = delete_tap(n, tap->index, tap->name, err);
	return r < 0 ? r : point("takeover.released", err);
}

/* Every TAP of ours, or only the one of interface @only. */
static int release(struct rtnetlink *n, unsigned only, struct error *err)
{
	_cleanup_free_ struct takeover_link *links = NULL;
	size_t n_links = 0;
	int r = get_links(n, &links, &n_links, err), first = r;

	for (size_t i = 0; i < n_links; i++) {
		_cleanup_error_ struct error e = {};
		unsigned of;

		if (!streq(links[i].kind, "tun") || !takeover_tap_index(links[i].name, &of) || (only && of != only))
			continue;
		r = release_tap(n, &links[i], link_at(links, n_links, of), &e);
		if (r < 0 && first == 0)
			first = error_move(err, &e);
	}
	return first;
}

int net_takeover_release(int netns_fd, struct error *err)
{
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	int r = rtnetlink_open(netns_fd, &n, NULL, err);

	return r < 0 ? r : release(&n, 0, err);
}

/* ---- Joining ---- */

/* The kernel says ENOENT for a kind that it does not have. */
static int join_failed(const struct rtnetlink *n, int r, const char *what, const char *name, struct error *err)
{
	rtnetlink_refused(n, err, -r, "%s of '%s'", what, name);
	if (err && r == -ENOENT) {
		err->kind = ERROR_UNAVAILABLE;
		error_hint(err, "the kernel needs sch_ingress, cls_u32 and act_mirred");
	}
	return r;
}

static int add_qdisc(struct rtnetlink *n, unsigned index, const char *name, struct error *err)
{
	const struct tcmsg qdisc = { .tcm_ifindex = (int)index, .tcm_handle = QDISC, .tcm_parent = TC_H_CLSACT };
	struct netlink_request q;
	int r;

	netlink_begin(&q, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &qdisc, sizeof(qdisc));
	netlink_add_string(&q, TCA_KIND, "clsact");
	r = rtnetlink_do(n, &q);
	return r < 0 ? join_failed(n, r, "cannot set the queueing discipline", name, err) : 0;
}

/* Whatever arrives at @from goes out at @to. A u32 filter without a key takes every frame; unlike matchall every kernel has it. */
static int add_redirect(struct rtnetlink *n, unsigned from, unsigned to, const char *name, struct error *err)
{
	const struct tcmsg filter = {
		.tcm_ifindex = (int)from,
		.tcm_parent = INGRESS,
		.tcm_info = TC_H_MAKE((uint32_t)PREFERENCE << 16, htons(ETH_P_ALL)),
	};
	const struct tc_u32_sel every = { .flags = TC_U32_TERMINAL };
	const struct tc_mirred out = { .action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = to };
	size_t options, actions, action, parameters;
	struct netlink_request q;
	int r;

	netlink_begin(&q, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &filter, sizeof(filter));
	netlink_add_string(&q, TCA_KIND, "u32");
	options = netlink_nest(&q, TCA_OPTIONS);
	netlink_add(&q, TCA_U32_SEL, &every, sizeof(every));
	actions = netlink_nest(&q, TCA_U32_ACT);
	action = netlink_nest(&q, 1);
	netlink_add_string(&q, TCA_ACT_KIND, "mirred");
	parameters = netlink_nest(&q, TCA_ACT_OPTIONS);
	netlink_add(&q, TCA_MIRRED_PARMS, &out, sizeof(out));
	netlink_nest_end(&q, parameters);
	netlink_nest_end(&q, action);
	netlink_nest_end(&q, actions);
	netlink_nest_end(&q, options);
	r = rtnetlink_do(n, &q);
	return r < 0 ? join_failed(n, r, "cannot redirect the frames", name, err) : 0;
}

/* The host's stack has nothing to say on the TAP: without this it would greet the guest with router solicitations of its own. */
static int silence(struct rtnetlink *n, unsigned index)
{
	const struct ifinfomsg link = { .ifi_index = (int)index };
	const uint8_t none = IN6_ADDR_GEN_MODE_NONE;
	struct netlink_request q;
	size_t families, inet6;
	int r;

	netlink_begin(&q, RTM_NEWLINK, 0, &link, sizeof(link));
	families = netlink_nest(&q, IFLA_AF_SPEC);
	inet6 = netlink_nest(&q, AF_INET6);
	netlink_add(&q, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
	netlink_nest_end(&q, inet6);
	netlink_nest_end(&q, families);
	r = rtnetlink_do(n, &q);
	return r == -EAFNOSUPPORT ? 0 : r;
}

static int set_up_tap(struct rtnetlink *n, unsigned index, const struct net_takeover_nic *nic, bool own_qdisc,
		      struct error *err)
{
	struct ifinfomsg link = { .ifi_index = (int)index };
	struct netlink_request q;
	int r;

	netlink_begin(&q, RTM_NEWLINK, 0, &link, sizeof(link));
	netlink_add_string(&q, IFLA_IFALIAS, own_qdisc ? ALIAS_QDISC : ALIAS_PLAIN);
	if (nic->mtu)
		netlink_add_u32(&q, IFLA_MTU, nic->mtu);
	r = rtnetlink_do(n, &q);
	if (r == 0)
		r = silence(n, index);
	if (r == 0) {
		link.ifi_flags = link.ifi_change = IFF_UP;
		netlink_begin(&q, RTM_NEWLINK, 0, &link, sizeof(link));
		r = rtnetlink_do(n, &q);
	}
	return r < 0 ? rtnetlink_refused(n, err, -r, "cannot set up '%s'", nic->tap) : 0;
}

/* TUNSETIFF takes one that exists, when nobody holds it. */
static int open_tap(int fd, const char *name, struct error *err)
{
	struct ifreq request = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };

	memcpy(request.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, TUNSETIFF, &request) < 0) {
		int r = -errno;

		return r == -EBUSY ? error_set(err, EBUSY, "'%s' is in use: its interface has been taken over", name)
				   : error_set_errno(err, -r, "cannot make '%s'", name);
	}
	if (ioctl(fd, TUNSETPERSIST, 1) < 0)
		return error_set_errno(err, errno, "cannot make '%s' stay", name);
	return 0;
}

static int find(struct rtnetlink *n, const struct net_takeover_nic *nic, unsigned *ret_tap, struct error *err)
{
	_cleanup_free_ struct takeover_link *links = NULL;
	const struct takeover_link *l;
	size_t n_links = 0;
	int r = get_links(n, &links, &n_links, err);

	if (r < 0)
		return r;
	*ret_tap = 0;
	for (size_t i = 0; i < n_links; i++)
		if (streq(links[i].name, nic->tap))
			*ret_tap = links[i].index;
	l = link_at(links, n_links, nic->index);
	if (!l || !streq(l->mac, nic->mac))
		return error_set(err, ENOENT, "interface '%s' has gone, or is another one now", nic->name);
	return 0;
}

/* *ret_made: the TAP is there, whatever else failed. */
static int join(struct rtnetlink *n, int tun, const struct net_takeover_nic *nic, bool *ret_made, struct error *err)
{
	unsigned tap;
	bool own_qdisc;
	int r = has_qdisc(n, nic->index, err);

	if (r < 0)
		return r;
	own_qdisc = r == 0;
	r = point("takeover.tap", err);
	if (r == 0)
		r = open_tap(tun, nic->tap, err);
	*ret_made = r == 0;
	if (r == 0)
		r = point("takeover.tap-made", err);
	if (r == 0)
		r = find(n, nic, &tap, err);
	if (r == 0)
		r = set_up_tap(n, tap, nic, own_qdisc, err);
	if (r == 0)
		r = point("takeover.tap-up", err);
	if (r == 0)
		r = add_qdisc(n, tap, nic->tap, err);
	if (r == 0)
		r = add_redirect(n, tap, nic->index, nic->tap, err);
	if (r == 0)
		r = point("takeover.outward", err);
	if (r == 0 && own_qdisc)
		r = add_qdisc(n, nic->index, nic->name, err);
	if (r == 0)
		r = point("takeover.qdisc", err);
	if (r == 0)
		r = add_redirect(n, nic->index, tap, nic->name, err);
	return r < 0 ? r : point("takeover.joined", err);
}

/* What an earlier attach left that was broken off: nobody holds its TAP. */
static int clear_leftovers(struct rtnetlink *n, int netns_fd, const struct net_takeover_nic *nic, struct error *err)
{
	_cleanup_rtnetlink_ struct rtnetlink other = { .fd = -EBADF };
	_cleanup_close_ int probe = -EBADF;
	unsigned tap;
	int r = find(n, nic, &tap, err);

	if (r < 0 || tap == 0)
		return r;
	r = rtnetlink_open(netns_fd, &other, &probe, err);
	if (r == 0)
		r = open_tap(probe, nic->tap, err);
	return r < 0 ? r : release(n, nic->index, err);
}

int net_takeover_attach(int netns_fd, const struct net_takeover_nic *nic, int *ret_tap_fd, struct error *err)
{
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	_cleanup_close_ int tun = -EBADF;
	bool made = false;
	int r = rtnetlink_open(netns_fd, &n, &tun, err);

	if (r == 0)
		r = clear_leftovers(&n, netns_fd, nic, err);
	if (r < 0)
		return r;
	r = has_foreign_filters(&n, nic->index, err);
	if (r != 0)
		return r < 0 ? r : error_set(err, EBUSY, "interface '%s' has traffic filters already", nic->name);
	r = join(&n, tun, nic, &made, err);
	if (r < 0) {
		if (made)
			(void)release(&n, nic->index, NULL);
		return r;
	}
	*ret_tap_fd = TAKE_FD(tun);
	return 0;
}
