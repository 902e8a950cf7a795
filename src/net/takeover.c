/* How an interface and its TAP are joined, and parted again.
 *
 * The one that recovers knows nothing but the namespace. So what was made must tell: the TAP's name holds the interface's index, and its alias
 * whether the interface's queueing discipline came with us. The TAP is made first and goes last; it is persistent, or it would vanish with
 * the engine and leave an interface behind whose frames go nowhere. */
#include "net/takeover.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/ioctl.h>

#include "base/fault.h"
#include "net/net.h"
#include "net/rtnetlink.h"
#include "net/takeover_parts.h"

#define ALIAS_PLAIN "skerry"
#define ALIAS_QDISC "skerry qdisc" /* the interface had none before */

static int point(const char *label, struct error *err)
{
	int r = fault_point(label);

	return r < 0 ? error_set_errno(err, -r, "%s", label) : 0;
}

/* ---- Asking ---- */

static int dump_links(struct rtnetlink *n, struct buf *out, struct error *err)
{
	const struct ifinfomsg link = {};

	return takeover_dump(n, RTM_GETLINK, &link, sizeof(link), "interfaces", out, err);
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
		r = takeover_dump(&n, RTM_GETADDR, &address, sizeof(address), "addresses", &b, err);
	if (r == 0)
		r = takeover_dump(&n, RTM_GETROUTE, &route, sizeof(route), "routes", &b, err);
	if (r == 0)
		r = takeover_dump(&n, RTM_GETNEIGH, &neighbour, sizeof(neighbour), "neighbours", &b, err);
	return r < 0 ? r : takeover_read(b.p, b.len, names, ret, err);
}

/* ---- Parting ---- */

/* Gives the interface its frames back. @own_qdisc: it came with us; it stays all the same while it serves somebody else. */
static int part(struct rtnetlink *n, const struct takeover_link *l, bool own_qdisc, struct error *err)
{
	int r = takeover_has_qdisc(n, l->index, err), foreign;

	if (r <= 0)
		return r;
	r = takeover_delete_filters(n, l->index);
	if (r < 0)
		return rtnetlink_refused(n, err, -r, "cannot give interface '%s' its frames back", l->name);
	foreign = own_qdisc ? takeover_has_foreign_filters(n, l->index, err) : 1;
	if (foreign)
		return foreign < 0 ? foreign : 0;
	r = takeover_delete_qdisc(n, l->index);
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

static const struct takeover_link *aside_of(const struct takeover_link *links, size_t n, unsigned of)
{
	char name[16];

	takeover_aside_name(of, name);
	for (size_t i = 0; i < n; i++)
		if (streq(links[i].name, name) && takeover_is_ours(&links[i]))
			return &links[i];
	return NULL;
}

/* One TAP and all that hangs on it. The interface may have gone; @aside may be NULL, it is somebody's who goes on using it. */
static int release_tap(struct rtnetlink *n, const struct takeover_link *tap, const struct takeover_link *of,
		       const struct takeover_link *aside, struct error *err)
{
	int r = point("takeover.release", err);

	if (r == 0 && of)
		r = part(n, of, streq(tap->alias, ALIAS_QDISC), err);
	/* What it redirects to goes; it may have none, or have gone with its owner. */
	if (aside)
		(void)takeover_delete_qdisc(n, aside->index);
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
		r = release_tap(n, &links[i], link_at(links, n_links, of), aside_of(links, n_links, of), &e);
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

/* What the guest sends to that network is for the namespace's stack, which has to have an address there. */
static int give_address(struct rtnetlink *n, unsigned index, const struct net_takeover_keep *keep)
{
	struct ifaddrmsg head = { .ifa_family = AF_INET, .ifa_scope = RT_SCOPE_LINK, .ifa_index = index };
	struct netlink_request q;
	uint32_t address;

	if (!takeover_control(keep, &address, &head.ifa_prefixlen))
		return -EINVAL;
	address = htonl(address);
	netlink_begin(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof(head));
	netlink_add(&q, IFA_LOCAL, &address, sizeof(address));
	netlink_add(&q, IFA_ADDRESS, &address, sizeof(address));
	return rtnetlink_do(n, &q);
}

static int set_up_tap(struct rtnetlink *n, unsigned index, const struct net_takeover_nic *nic,
		      const struct net_takeover_keep *keep, unsigned aside, bool own_qdisc, struct error *err)
{
	/* Whoever answers for the control address, here or aside, has one hardware address: the guest remembers one. */
	static const uint8_t mac[] = NET_CONTROL_MAC;
	int r = takeover_set_up(n, index, nic->mtu, aside ? mac : NULL, own_qdisc ? ALIAS_QDISC : ALIAS_PLAIN);

	if (r == 0 && keep->control)
		r = give_address(n, index, keep);
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

static int find(struct rtnetlink *n, const struct net_takeover_nic *nic, unsigned *ret_tap, unsigned *ret_aside,
		struct error *err)
{
	_cleanup_free_ struct takeover_link *links = NULL;
	const struct takeover_link *l;
	char aside[16];
	size_t n_links = 0;
	int r = get_links(n, &links, &n_links, err);

	if (r < 0)
		return r;
	*ret_tap = *ret_aside = 0;
	takeover_aside_name(nic->index, aside);
	for (size_t i = 0; i < n_links; i++) {
		if (streq(links[i].name, nic->tap))
			*ret_tap = links[i].index;
		if (streq(links[i].name, aside) && takeover_is_ours(&links[i]))
			*ret_aside = links[i].index;
	}
	l = link_at(links, n_links, nic->index);
	if (!l || !streq(l->mac, nic->mac))
		return error_set(err, ENOENT, "interface '%s' has gone, or is another one now", nic->name);
	return 0;
}

/* What the guest asks is led aside, and what comes from there is for the guest. */
static int stand_aside(struct rtnetlink *n, unsigned tap, unsigned aside, const struct net_takeover_nic *nic,
		       struct error *err)
{
	int r = takeover_add_qdisc(n, aside, nic->tap, err);

	if (r == 0)
		r = takeover_add_redirect(n, aside, tap, nic->tap, err);
	return r < 0 ? r : takeover_ask_aside(n, tap, aside, nic->tap, err);
}

int takeover_index_of(struct rtnetlink *n, const char *name, unsigned *ret, struct error *err)
{
	_cleanup_free_ struct takeover_link *links = NULL;
	size_t n_links = 0;
	int r = get_links(n, &links, &n_links, err);

	for (size_t i = 0; i < n_links; i++)
		if (streq(links[i].name, name)) {
			*ret = links[i].index;
			return 0;
		}
	return r < 0 ? r : error_set(err, ENODEV, "'%s' has gone", name);
}

/* From the TAP to the interface, and back. @aside: 0 = there is none. */
static int redirect(struct rtnetlink *n, unsigned tap, unsigned aside, const struct net_takeover_nic *nic,
		    const struct net_takeover_keep *keep, bool own_qdisc, struct error *err)
{
	int r = takeover_add_qdisc(n, tap, nic->tap, err);

	if (r == 0 && aside)
		r = stand_aside(n, tap, aside, nic, err);
	if (r == 0 && keep->control)
		r = takeover_keep_inside(n, tap, keep, aside, nic->tap, err);
	if (r == 0)
		r = takeover_add_redirect(n, tap, nic->index, nic->tap, err);
	if (r == 0)
		r = point("takeover.outward", err);
	if (r == 0 && own_qdisc)
		r = takeover_add_qdisc(n, nic->index, nic->name, err);
	if (r == 0)
		r = point("takeover.qdisc", err);
	if (r == 0)
		r = takeover_keep_outside(n, nic->index, tap, keep, nic->name, err);
	if (r == 0 && aside)
		r = takeover_hush_outside(n, nic->index, nic->name, err);
	if (r == 0)
		r = takeover_add_redirect(n, nic->index, tap, nic->name, err);
	return r < 0 ? r : point("takeover.joined", err);
}

/* *ret_made: the TAP is there, whatever else failed. */
static int join(struct rtnetlink *n, int tun, const struct net_takeover_nic *nic, const struct net_takeover_keep *keep,
		bool *ret_made, struct error *err)
{
	unsigned tap = 0, aside = 0;
	bool own_qdisc;
	int r = takeover_has_qdisc(n, nic->index, err);

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
		r = find(n, nic, &tap, &aside, err);
	if (r == 0)
		r = set_up_tap(n, tap, nic, keep, aside, own_qdisc, err);
	if (r == 0)
		r = point("takeover.tap-up", err);
	return r < 0 ? r : redirect(n, tap, aside, nic, keep, own_qdisc, err);
}

/* What an earlier attach left that was broken off: nobody holds its TAP. */
static int clear_leftovers(struct rtnetlink *n, int netns_fd, const struct net_takeover_nic *nic, struct error *err)
{
	_cleanup_rtnetlink_ struct rtnetlink other = { .fd = -EBADF };
	_cleanup_close_ int probe = -EBADF;
	unsigned tap, aside;
	int r = find(n, nic, &tap, &aside, err);

	if (r < 0 || tap == 0)
		return r;
	r = rtnetlink_open(netns_fd, &other, &probe, err);
	if (r == 0)
		r = open_tap(probe, nic->tap, err);
	return r < 0 ? r : release(n, nic->index, err);
}

int net_takeover_free(int netns_fd, struct error *err)
{
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	_cleanup_free_ struct takeover_link *links = NULL;
	size_t n_links = 0;
	int r = rtnetlink_open(netns_fd, &n, NULL, err);

	if (r == 0)
		r = get_links(&n, &links, &n_links, err);
	for (size_t i = 0; i < n_links && r == 0; i++) {
		_cleanup_rtnetlink_ struct rtnetlink other = { .fd = -EBADF };
		_cleanup_close_ int probe = -EBADF;
		unsigned of;

		if (!streq(links[i].kind, "tun") || !takeover_tap_index(links[i].name, &of))
			continue;
		r = rtnetlink_open(netns_fd, &other, &probe, err);
		if (r == 0)
			r = open_tap(probe, links[i].name, err);
	}
	return r;
}

int net_takeover_attach(int netns_fd, const struct net_takeover_nic *nic, const struct net_takeover_keep *keep,
			int *ret_tap_fd, struct error *err)
{
	static const struct net_takeover_keep nothing;
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	_cleanup_close_ int tun = -EBADF;
	bool made = false;
	int r = rtnetlink_open(netns_fd, &n, &tun, err);

	if (r == 0)
		r = clear_leftovers(&n, netns_fd, nic, err);
	if (r < 0)
		return r;
	r = takeover_has_foreign_filters(&n, nic->index, err);
	if (r != 0)
		return r < 0 ? r : error_set(err, EBUSY, "interface '%s' has traffic filters already", nic->name);
	r = join(&n, tun, nic, keep ? keep : &nothing, &made, err);
	if (r < 0) {
		if (made)
			(void)release(&n, nic->index, NULL);
		return r;
	}
	*ret_tap_fd = TAKE_FD(tun);
	return 0;
}
