#include "net/neighbour.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>

#include "net/rtnetlink.h"

enum { KNOWN = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP };

struct address {
	int family;
	uint8_t bytes[16];
	size_t size;
};

static bool read_address(const char *text, struct address *ret)
{
	ret->family = strchr(text, ':') ? AF_INET6 : AF_INET;
	ret->size = ret->family == AF_INET6 ? 16 : 4;
	return inet_pton(ret->family, text, ret->bytes) == 1;
}

/* Whether @m is about that address, with a hardware address that is good. */
static bool is_it(const struct netlink_message *m, unsigned index, const struct address *a, uint8_t ret_mac[6])
{
	struct netlink_attribute t;
	struct cursor c;
	struct ndmsg head;
	bool same = false, known = false;

	if (m->type != RTM_NEWNEIGH || !netlink_open(m, &head, sizeof(head), &c) || head.ndm_family != a->family ||
	    head.ndm_ifindex != (int)index || !(head.ndm_state & KNOWN))
		return false;
	while (netlink_next_attribute(&c, &t)) {
		same = same || (t.type == NDA_DST && t.size == a->size && memcmp(t.p, a->bytes, a->size) == 0);
		if (t.type == NDA_LLADDR && t.size == 6) {
			memcpy(ret_mac, t.p, 6);
			known = true;
		}
	}
	return same && known;
}

/* What both questions begin with. */
static int open_for(const char *address, struct address *a, struct ndmsg *head, struct rtnetlink *n)
{
	if (!read_address(address, a))
		return -EINVAL;
	head->ndm_family = (uint8_t)a->family;
	return rtnetlink_open(-1, n, NULL, NULL);
}

int net_neighbour_find(unsigned index, const char *address, uint8_t ret_mac[6])
{
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	_cleanup_buf_ struct buf b = {};
	struct netlink_request q;
	struct netlink_message m;
	struct address a;
	struct ndmsg head = {};
	uint8_t mac[6];
	struct cursor c;
	int r;

	r = open_for(address, &a, &head, &n);
	if (r < 0)
		return r;
	netlink_begin(&q, RTM_GETNEIGH, NLM_F_DUMP, &head, sizeof(head));
	r = rtnetlink_dump(&n, &q, &b);
	if (r < 0)
		return r;
	c = cursor_of(b.p, b.len);
	while (netlink_next(&c, &m))
		if (is_it(&m, index, &a, mac)) {
			memcpy(ret_mac, mac, sizeof(mac));
			return 0;
		}
	return -ENOENT;
}

int net_neighbour_ask(unsigned index, const char *address)
{
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	struct ndmsg head = { .ndm_ifindex = (int)index, .ndm_flags = NTF_USE };
	struct netlink_request q;
	struct address a;
	int r;

	r = open_for(address, &a, &head, &n);
	if (r < 0)
		return r;
	netlink_begin(&q, RTM_NEWNEIGH, NLM_F_CREATE, &head, sizeof(head));
	netlink_add(&q, NDA_DST, a.bytes, a.size);
	return rtnetlink_do(&n, &q);
}
