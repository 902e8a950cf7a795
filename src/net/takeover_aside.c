/* Devices by which this program itself speaks with the guest, and the namespace's stack with it. They go with their descriptors: nothing has to be
 * put back. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if.h>
#include <linux/if_link.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/ioctl.h>
#include <fcntl.h>

#include "base/fault.h"
#include "net/net.h"
#include "net/rtnetlink.h"
#include "net/takeover_parts.h"

enum { CONTROL_PREFIX = 30, MORE_FOR_SIX = 20, LEAST_MTU = 576 };

/* ---- Setting up, of TAPs too ---- */

/* The host's stack has nothing to say on the TAP: without this it would greet the guest with router solicitations of its own. */
int takeover_silence(struct rtnetlink *n, unsigned index)
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

int takeover_set_up(struct rtnetlink *n, unsigned index, uint32_t mtu, const uint8_t *mac, const char *alias)
{
	struct ifinfomsg link = { .ifi_index = (int)index };
	struct netlink_request q;
	int r;

	netlink_begin(&q, RTM_NEWLINK, 0, &link, sizeof(link));
	netlink_add_string(&q, IFLA_IFALIAS, alias);
	if (mtu)
		netlink_add_u32(&q, IFLA_MTU, mtu);
	if (mac)
		netlink_add(&q, IFLA_ADDRESS, mac, 6);
	r = rtnetlink_do(n, &q);
	if (r == 0)
		r = takeover_silence(n, index);
	if (r < 0)
		return r;
	link.ifi_flags = link.ifi_change = IFF_UP;
	netlink_begin(&q, RTM_NEWLINK, 0, &link, sizeof(link));
	return rtnetlink_do(n, &q);
}

/* ---- Devices ---- */

/* One that exists is somebody's: they do not outlive their descriptors. *ret_index: its number. */
static int make(struct rtnetlink *n, int fd, const char *name, int flags, uint32_t mtu, unsigned *ret_index,
		struct error *err)
{
	struct ifreq request = { .ifr_flags = (short)(flags | IFF_NO_PI | IFF_TUN_EXCL) };
	int r = 0;

	memcpy(request.ifr_name, name, strlen(name) + 1);
	if (ioctl(fd, TUNSETIFF, &request) < 0) {
		r = -errno;
		return r == -EBUSY || r == -EEXIST
			       ? error_set(err, EBUSY, "'%s' is there: a machine runs in this container's network",
					   name)
			       : error_set_errno(err, -r, "cannot make '%s'", name);
	}
	r = takeover_index_of(n, name, ret_index, err);
	if (r == 0) {
		r = takeover_set_up(n, *ret_index, mtu, NULL, "skerry");
		if (r < 0)
			return rtnetlink_refused(n, err, -r, "cannot set up '%s'", name);
	}
	return r;
}

static int point(const char *label, struct error *err)
{
	int r = fault_point(label);

	return r < 0 ? error_set_errno(err, -r, "%s", label) : 0;
}

int net_takeover_aside(const struct net_takeover_nic *nic, int *ret_fd, struct error *err)
{
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	_cleanup_close_ int fd = -EBADF;
	char name[16];
	unsigned index;
	int r = rtnetlink_open(-1, &n, &fd, err);

	takeover_aside_name(nic->index, name);
	if (r == 0)
		r = point("takeover.aside", err);
	if (r == 0)
		r = make(&n, fd, name, IFF_TAP, nic->mtu, &index, err);
	if (r < 0)
		return r;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* NET_CONTROL_HOST here, and both the guest's addresses in a network at the other end. */
static int give_address(struct rtnetlink *n, unsigned index)
{
	const struct ifaddrmsg head = {
		.ifa_family = AF_INET, .ifa_prefixlen = CONTROL_PREFIX, .ifa_scope = RT_SCOPE_LINK, .ifa_index = index
	};
	struct in_addr here, there;
	struct netlink_request q;

	if (inet_pton(AF_INET, NET_CONTROL_HOST, &here) != 1 || inet_pton(AF_INET, NET_CONTROL_LEASED, &there) != 1)
		return -EINVAL;
	netlink_begin(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &head, sizeof(head));
	netlink_add(&q, IFA_LOCAL, &here, sizeof(here));
	netlink_add(&q, IFA_ADDRESS, &there, sizeof(there));
	return rtnetlink_do(n, &q);
}

int net_takeover_control(uint32_t mtu, int *ret_fd, struct error *err)
{
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	_cleanup_close_ int fd = -EBADF;
	unsigned index = 0;
	int r = rtnetlink_open(-1, &n, &fd, err);

	/* A packet becomes longer as IPv6. */
	mtu = mtu > LEAST_MTU + MORE_FOR_SIX ? mtu - MORE_FOR_SIX : LEAST_MTU;
	if (r == 0)
		r = point("takeover.control", err);
	if (r == 0)
		r = make(&n, fd, TAKEOVER_TUN, IFF_TUN, mtu, &index, err);
	if (r < 0)
		return r;
	r = give_address(&n, index);
	if (r < 0)
		return rtnetlink_refused(&n, err, -r, "cannot give '" TAKEOVER_TUN "' its address");
	*ret_fd = TAKE_FD(fd);
	return 0;
}
