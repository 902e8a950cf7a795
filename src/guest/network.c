#include "guest/network.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "guest/bootconfig.h"

/* The kernel's up flag; <net/if.h> and the kernel's headers do not go together. */
enum { INTERFACE_UP = 1, LOOPBACK_INDEX = 1, PAYLOAD_MAX = 512 };

struct request {
	struct nlmsghdr head;
	uint8_t payload[PAYLOAD_MAX];
};

static void *append(struct request *q, size_t n)
{
	uint8_t *p = (uint8_t *)q + NLMSG_ALIGN(q->head.nlmsg_len);

	q->head.nlmsg_len = NLMSG_ALIGN(q->head.nlmsg_len) + (uint32_t)n;
	return p;
}

static void begin(struct request *q, uint16_t type, uint16_t flags, const void *family_header, size_t n)
{
	memset(q, 0, sizeof(*q));
	q->head.nlmsg_len = NLMSG_HDRLEN;
	q->head.nlmsg_type = type;
	q->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	memcpy(append(q, n), family_header, n);
}

/* A handful of small attributes: they always fit PAYLOAD_MAX. */
static void attribute(struct request *q, uint16_t type, const void *p, size_t n)
{
	struct rtattr a = { .rta_len = (unsigned short)RTA_LENGTH(n), .rta_type = type };
	uint8_t *to = append(q, RTA_LENGTH(n));

	memcpy(to, &a, sizeof(a));
	memcpy(to + RTA_LENGTH(0), p, n);
}

/* Sends it and takes the kernel's answer, which comes at once. */
static int transact(struct request *q)
{
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	union {
		struct nlmsghdr head;
		char bytes[4096];
	} answer;
	const struct nlmsgerr *e = NLMSG_DATA(&answer.head);
	ssize_t n;

	if (fd < 0 || send(fd, q, q->head.nlmsg_len, 0) < 0)
		return -errno;
	n = recv(fd, &answer, sizeof(answer), 0);
	if (n < 0)
		return -errno;
	if ((size_t)n < NLMSG_LENGTH(sizeof(*e)) || answer.head.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return e->error;
}

static int link_up(uint32_t index, uint32_t mtu)
{
	struct ifinfomsg link = { .ifi_index = (int)index, .ifi_flags = INTERFACE_UP, .ifi_change = INTERFACE_UP };
	struct request q;

	begin(&q, RTM_NEWLINK, 0, &link, sizeof(link));
	if (mtu)
		attribute(&q, IFLA_MTU, &mtu, sizeof(mtu));
	return transact(&q);
}

static int add_address(uint32_t index, const char *text)
{
	struct ifaddrmsg m = { .ifa_index = index };
	uint8_t address[16], prefix;
	struct request q;
	int family, r = bootconfig_address(text, &family, address, &prefix);
	size_t n;

	if (r < 0)
		return r;
	n = family == AF_INET ? 4 : 16;
	m.ifa_family = (uint8_t)family;
	m.ifa_prefixlen = prefix;
	/* The host has seen to it that nobody else has it: usable at once. */
	m.ifa_flags = family == AF_INET6 ? IFA_F_NODAD : 0;
	begin(&q, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));
	attribute(&q, IFA_LOCAL, address, n);
	attribute(&q, IFA_ADDRESS, address, n);
	if (family == AF_INET && prefix < 31) {
		uint32_t broadcast;

		memcpy(&broadcast, address, sizeof(broadcast));
		broadcast |= htonl(UINT32_MAX >> prefix);
		attribute(&q, IFA_BROADCAST, &broadcast, sizeof(broadcast));
	}
	return transact(&q);
}

static int add_default_route(uint32_t index, const char *gateway)
{
	struct rtmsg m = {
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_BOOT,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
		.rtm_flags = RTNH_F_ONLINK, /* a gateway may lie outside of the interface's own network */
	};
	uint8_t address[16], prefix;
	struct request q;
	int family, r = bootconfig_address(gateway, &family, address, &prefix);

	if (r < 0)
		return r;
	m.rtm_family = (uint8_t)family;
	begin(&q, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &m, sizeof(m));
	attribute(&q, RTA_GATEWAY, address, family == AF_INET ? 4 : 16);
	attribute(&q, RTA_OIF, &index, sizeof(index));
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

int network_apply(const Skerry__Agent__V1__Interface *i, struct error *err)
{
	uint32_t index = find_interface(i->mac);
	const char *gateways[] = { i->gateway, i->gateway6 };
	int r;

	if (index == 0)
		return error_set(err, ENODEV, "no interface has the hardware address %s", i->mac);
	r = link_up(index, i->mtu);
	if (r < 0)
		return error_set_errno(err, -r, "cannot bring up interface %s", i->mac);
	for (size_t k = 0; k < i->n_addresses; k++) {
		r = add_address(index, i->addresses[k]);
		if (r < 0)
			return error_set_errno(err, -r, "cannot set address %s", i->addresses[k]);
	}
	for (size_t k = 0; k < ARRAY_SIZE(gateways); k++) {
		r = gateways[k][0] ? add_default_route(index, gateways[k]) : 0;
		if (r < 0)
			return error_set_errno(err, -r, "cannot route by %s", gateways[k]);
	}
	return 0;
}
