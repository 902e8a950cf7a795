#include "guest/network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "guest/bootconfig.h"
#include "wire/netlink.h"

/* The kernel's up flag; <net/if.h> and the kernel's headers do not go together. */
enum { INTERFACE_UP = 1, LOOPBACK_INDEX = 1 };

/* Sends it and takes the kernel's answer, which comes at once. */
static int transact(struct netlink_request *q)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	struct netlink_message m;
	uint8_t answer[4096];
	struct cursor c;
	ssize_t n;
	int r = netlink_end(q, 1);

	if (r < 0)
		return r;
	if (fd < 0 || send(fd, q->bytes, q->len, 0) < 0)
		return -errno;
	n = recv(fd, answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	c = cursor_of(answer, (size_t)n);
	return netlink_next(&c, &m) ? netlink_result(&m) : -EBADMSG;
}

static int link_up(uint32_t index, uint32_t mtu)
{
	struct ifinfomsg link = { .ifi_index = (int)index, .ifi_flags = INTERFACE_UP, .ifi_change = INTERFACE_UP };
	struct netlink_request q;

	netlink_begin(&q, RTM_NEWLINK, 0, &link, sizeof(link));
	if (mtu)
		netlink_add_u32(&q, IFLA_MTU, mtu);
	return transact(&q);
}

static int rename_link(uint32_t index, const char *name)
{
	struct ifinfomsg link = { .ifi_index = (int)index };
	struct netlink_request q;

	netlink_begin(&q, RTM_NEWLINK, 0, &link, sizeof(link));
	netlink_add_string(&q, IFLA_IFNAME, name);
	return transact(&q);
}

static int add_address(uint32_t index, const char *text)
{
	struct ifaddrmsg m = { .ifa_index = index };
	uint8_t address[16], prefix;
	struct netlink_request q;
	int family, r = bootconfig_address(text, &family, address, &prefix);
	size_t n;

	if (r < 0)
		return r;
	n = family == AF_INET ? 4 : 16;
	m.ifa_family = (uint8_t)family;
	m.ifa_prefixlen = prefix;
	/* The host has seen to it that nobody else has it: usable at once. */
	m.ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
	netlink_begin(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));
	netlink_add(&q, IFA_LOCAL, address, n);
	netlink_add(&q, IFA_ADDRESS, address, n);
	if (family == AF_INET && prefix < 31) {
		uint32_t broadcast;

		memcpy(&broadcast, address, sizeof(broadcast));
		broadcast |= htonl(UINT32_MAX >> prefix);
		netlink_add(&q, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	}
	return transact(&q);
}

/* RTA_GATEWAY, or RTA_VIA where the gateway is of another family than what it leads to. */
static int add_gateway(struct netlink_request *q, int family, const char *text)
{
	struct {
		uint16_t family;
		uint8_t address[16];
	} via;
	uint8_t prefix;
	int of, r = bootconfig_address(text, &of, via.address, &prefix);
	size_t n = of == AF_INET ? 4 : 16;

	if (r < 0)
		return r;
	via.family = (uint16_t)of;
	if (of == family)
		netlink_add(q, RTA_GATEWAY, via.address, n);
	else
		netlink_add(q, RTA_VIA, &via, sizeof(via.family) + n);
	return 0;
}

static void mask_address(uint8_t address[16], uint8_t prefix)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned keep = prefix > i * 8 ? prefix - i * 8 : 0;

		if (keep < 8)
			address[i] &= (uint8_t)(0xff00 >> keep);
	}
}

static int add_route(uint32_t index, const Skerry__Agent__V1__Route *route)
{
	bool direct = !route->gateway[0];
	struct rtmsg m = {
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_BOOT,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
		/* A gateway may lie outside of the interface's own network. */
		.rtm_flags = direct ? 0 : RTNH_F_ONLINK,
	};
	uint8_t address[16], source[16], prefix;
	struct netlink_request q;
	int family, r = bootconfig_address(route->destination, &family, address, &prefix);
	size_t n;

	if (r < 0)
		return r;
	n = family == AF_INET ? 4 : 16;
	mask_address(address, prefix);
	m.rtm_family = (uint8_t)family;
	m.rtm_dst_len = prefix;
	if (direct && family == AF_INET)
		m.rtm_scope = RT_SCOPE_LINK;
	netlink_begin(&q, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
	if (prefix > 0)
		netlink_add(&q, RTA_DST, address, n);
	netlink_add_u32(&q, RTA_OIF, index);
	if (!direct)
		r = add_gateway(&q, family, route->gateway);
	if (r == 0 && route->source[0]) {
		r = bootconfig_address(route->source, &family, source, &prefix);
		netlink_add(&q, RTA_PREFSRC, source, n);
	}
	if (r < 0)
		return r;
	if (route->metric)
		netlink_add_u32(&q, RTA_PRIORITY, route->metric);
	if (route->mtu) {
		size_t metrics = netlink_nest(&q, RTA_METRICS);

		netlink_add_u32(&q, RTAX_MTU, route->mtu);
		netlink_nest_end(&q, metrics);
	}
	r = transact(&q);
	return r == -EEXIST ? 0 : r;
}

static int add_default_route(uint32_t index, char *gateway)
{
	char everything4[] = "0.0.0.0/0", everything6[] = "::/0";
	Skerry__Agent__V1__Route route;

	skerry__agent__v1__route__init(&route);
	route.destination = strchr(gateway, ':') ? everything6 : everything4;
	route.gateway = gateway;
	return add_route(index, &route);
}

static int add_neighbour(uint32_t index, const Skerry__Agent__V1__Neighbour *n)
{
	struct ndmsg m = { .ndm_ifindex = (int)index, .ndm_state = NUD_PERMANENT };
	uint8_t address[16], mac[6], prefix;
	struct netlink_request q;
	int family, r = bootconfig_address(n->address, &family, address, &prefix);

	if (r == 0)
		r = bootconfig_mac(n->mac, mac);
	if (r < 0)
		return r;
	m.ndm_family = (uint8_t)family;
	netlink_begin(&q, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));
	netlink_add(&q, NDA_DST, address, family == AF_INET ? 4 : 16);
	netlink_add(&q, NDA_LLADDR, mac, sizeof(mac));
	return transact(&q);
}

/* Index of the interface with that hardware address; 0 = none. */
static uint32_t find_interface(const char *mac)
{
	uint8_t wanted[6], got[6];
	DIR *d = opendir("/sys/class/net");
	const struct dirent *e;
	uint64_t index = 0;

	if (!d)
		return 0;
	(void)bootconfig_mac(mac, wanted);
	while (index == 0 && (e = readdir(d))) {
		_cleanup_buf_ struct buf path = { 0 }, text = { 0 };

		if (e->d_name[0] == '.')
			continue;
		buf_addf(&path, "%s/address", e->d_name);
		if (file_read_at(dirfd(d), path.p, 128, &text) < 0 || text.len != 18)
			continue;
		buf_truncate(&text, 17);
		if (bootconfig_mac(text.p, got) < 0 || memcmp(got, wanted, sizeof(got)) != 0)
			continue;
		buf_truncate(&path, 0);
		buf_truncate(&text, 0);
		buf_addf(&path, "%s/ifindex", e->d_name);
		if (file_read_at(dirfd(d), path.p, 32, &text) < 0 || text.len < 2)
			continue;
		buf_truncate(&text, text.len - 1);
		(void)parse_u64(text.p, 1, INT32_MAX, &index);
	}
	closedir(d);
	return (uint32_t)index;
}

int network_loopback(struct error *err)
{
	int r = link_up(LOOPBACK_INDEX, 0);

	return r < 0 ? error_set_errno(err, -r, "cannot bring up the loopback interface") : 0;
}

/* Interfaces are down, so that they can be renamed; one that has the name already makes room, its own turn comes later. */
static int give_name(uint32_t index, const char *name)
{
	_cleanup_buf_ struct buf path = { 0 }, text = { 0 };
	uint64_t other;
	int dir, r;

	if (!name[0])
		return 0;
	dir = open("/sys/class/net", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return -errno;
	buf_addf(&path, "%s/ifindex", name);
	r = file_read_at(dir, path.p, 32, &text);
	(void)safe_close(dir);
	if (r == 0 && text.len >= 2) {
		char aside[16];

		buf_truncate(&text, text.len - 1);
		if (parse_u64(text.p, 1, INT32_MAX, &other) < 0)
			return -EBADMSG;
		if (other == index)
			return 0;
		(void)snprintf(aside, sizeof(aside), "aside%u", (uint32_t)other);
		r = rename_link((uint32_t)other, aside);
		if (r < 0)
			return r;
	}
	return rename_link(index, name);
}

static int apply_routes(uint32_t index, const Skerry__Agent__V1__Interface *i, struct error *err)
{
	char *gateways[] = { i->gateway, i->gateway6 };
	int r;

	for (size_t k = 0; k < ARRAY_SIZE(gateways); k++) {
		r = gateways[k][0] ? add_default_route(index, gateways[k]) : 0;
		if (r < 0)
			return error_set_errno(err, -r, "cannot route by %s", gateways[k]);
	}
	/* What is on the link comes first: a gateway may be reached by it. */
	for (int by_gateway = 0; by_gateway < 2; by_gateway++)
		for (size_t k = 0; k < i->n_routes; k++) {
			const Skerry__Agent__V1__Route *route = i->routes[k];

			if ((route->gateway[0] != '\0') != by_gateway)
				continue;
			r = add_route(index, route);
			if (r < 0)
				return error_set_errno(err, -r, "cannot route to %s%s%s", route->destination,
						       by_gateway ? " by " : "", route->gateway);
		}
	for (size_t k = 0; k < i->n_neighbours; k++) {
		r = add_neighbour(index, i->neighbours[k]);
		if (r < 0)
			return error_set_errno(err, -r, "cannot set neighbour %s", i->neighbours[k]->address);
	}
	return 0;
}

int network_apply(const Skerry__Agent__V1__Interface *i, struct error *err)
{
	uint32_t index = find_interface(i->mac);
	int r;

	if (index == 0)
		return error_set(err, ENODEV, "no interface has the hardware address %s", i->mac);
	r = give_name(index, i->name);
	if (r < 0)
		return error_set_errno(err, -r, "cannot name interface %s %s", i->mac, i->name);
	r = link_up(index, i->mtu);
	if (r < 0)
		return error_set_errno(err, -r, "cannot bring up interface %s", i->mac);
	for (size_t k = 0; k < i->n_addresses; k++) {
		r = add_address(index, i->addresses[k]);
		if (r < 0)
			return error_set_errno(err, -r, "cannot set address %s", i->addresses[k]);
	}
	return apply_routes(index, i, err);
}
