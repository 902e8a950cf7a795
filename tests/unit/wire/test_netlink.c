#include "wire/netlink.h"

#include <errno.h>
#include <linux/rtnetlink.h>

#include "base/memory.h"
#include "test.h"

static void begin(struct netlink_request *q)
{
	const struct ifinfomsg link = { .ifi_index = 7 };

	netlink_begin(q, RTM_NEWLINK, NLM_F_CREATE, &link, sizeof(link));
}

TEST(what_is_built_is_read_back)
{
	struct netlink_request q;
	struct netlink_message m;
	struct netlink_attribute a, inner;
	struct ifinfomsg link;
	struct cursor datagram, attributes, nested;
	char text[16];
	size_t nest;

	begin(&q);
	netlink_add_string(&q, IFLA_IFNAME, "eth0");
	nest = netlink_nest(&q, IFLA_LINKINFO);
	netlink_add(&q, IFLA_INFO_KIND, "tun", 3);
	netlink_add_u32(&q, IFLA_INFO_DATA, 5);
	netlink_nest_end(&q, nest);
	netlink_add_u32(&q, IFLA_MTU, 1450);
	ASSERT_OK(netlink_end(&q, 42));

	datagram = cursor_of(q.bytes, q.len);
	ASSERT(netlink_next(&datagram, &m));
	ASSERT_EQ(m.type, RTM_NEWLINK);
	ASSERT_EQ(m.sequence, 42);
	ASSERT_EQ(m.flags, NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE);
	ASSERT(netlink_open(&m, &link, sizeof(link), &attributes));
	ASSERT_EQ(link.ifi_index, 7);
	ASSERT(netlink_next_attribute(&attributes, &a));
	ASSERT_EQ(a.type, IFLA_IFNAME);
	ASSERT(netlink_string(&a, text, sizeof(text)));
	ASSERT_STREQ(text, "eth0");
	ASSERT(!netlink_string(&a, text, 4));
	ASSERT(netlink_next_attribute(&attributes, &a));
	ASSERT_EQ(a.type, IFLA_LINKINFO);
	nested = cursor_of(a.p, a.size);
	ASSERT(netlink_next_attribute(&nested, &inner));
	ASSERT_EQ(inner.size, 3);
	ASSERT(!netlink_string(&inner, text, sizeof(text)));
	ASSERT_EQ(netlink_u32(&inner), 0);
	ASSERT(netlink_next_attribute(&nested, &inner));
	ASSERT_EQ(netlink_u32(&inner), 5);
	ASSERT(!netlink_next_attribute(&nested, &inner));
	ASSERT(!nested.failed);
	ASSERT(netlink_next_attribute(&attributes, &a));
	ASSERT_EQ(netlink_u32(&a), 1450);
	ASSERT(!netlink_next_attribute(&attributes, &a));
	ASSERT(!netlink_next(&datagram, &m));
	ASSERT(!datagram.failed && !attributes.failed);
}

TEST(a_request_that_does_not_fit_is_refused_at_the_end)
{
	uint8_t big[NETLINK_REQUEST_MAX] = { 0 };
	struct netlink_request q;

	begin(&q);
	netlink_add(&q, 1, big, sizeof(big));
	ASSERT_EQ(netlink_end(&q, 1), -E2BIG);
	begin(&q);
	netlink_add(&q, 1, big, SIZE_MAX - 2);
	ASSERT_EQ(netlink_end(&q, 1), -E2BIG);
	begin(&q);
	for (int i = 0; i < 300; i++) {
		size_t nest = netlink_nest(&q, 3);

		netlink_add_u32(&q, 1, 1);
		netlink_nest_end(&q, nest);
	}
	ASSERT_EQ(netlink_end(&q, 1), -E2BIG);
	begin(&q);
	netlink_add(&q, 1, big, NETLINK_REQUEST_MAX - NLMSG_LENGTH(sizeof(struct ifinfomsg)) - NLA_HDRLEN);
	ASSERT_OK(netlink_end(&q, 1));
	ASSERT_EQ(q.len, NETLINK_REQUEST_MAX);
}

/* A copy of exactly @n bytes, so that a sanitizer sees a byte too far. */
static void read_all(const void *p, size_t n, unsigned *ret_messages, bool *ret_failed)
{
	_cleanup_free_ uint8_t *copy = n ? xmemdup(p, n) : NULL;
	struct cursor c = cursor_of(copy, n), attributes;
	struct netlink_message m;
	struct netlink_attribute a;
	struct ifinfomsg link;
	char text[8];

	*ret_messages = 0;
	while (netlink_next(&c, &m)) {
		++*ret_messages;
		(void)netlink_result(&m);
		netlink_reason(&m, text, sizeof(text));
		if (!netlink_open(&m, &link, sizeof(link), &attributes))
			continue;
		while (netlink_next_attribute(&attributes, &a)) {
			(void)netlink_string(&a, text, sizeof(text));
			(void)netlink_u32(&a);
		}
	}
	*ret_failed = c.failed;
}

TEST(hostile_lengths_are_refused)
{
	static const uint32_t lengths[] = { 0, 1, 15, 17, 31, 1000, UINT32_MAX, UINT32_MAX - 3, INT32_MAX };
	static const uint16_t attribute_lengths[] = { 0, 1, 3, 5, 9, 1000, UINT16_MAX, UINT16_MAX - 2 };
	struct netlink_request q;
	unsigned n;
	bool failed;

	for (size_t i = 0; i < ARRAY_SIZE(lengths); i++) {
		begin(&q);
		netlink_add_u32(&q, IFLA_MTU, 1);
		ASSERT_OK(netlink_end(&q, 1));
		memcpy(q.bytes, &lengths[i], sizeof(lengths[i]));
		read_all(q.bytes, q.len, &n, &failed);
		ASSERT(failed);
	}
	for (size_t i = 0; i < ARRAY_SIZE(attribute_lengths); i++) {
		begin(&q);
		netlink_add_u32(&q, IFLA_MTU, 1);
		ASSERT_OK(netlink_end(&q, 1));
		memcpy(q.bytes + NLMSG_LENGTH(sizeof(struct ifinfomsg)), &attribute_lengths[i], 2);
		read_all(q.bytes, q.len, &n, &failed);
		ASSERT_EQ(n, 1);
	}
	/* Cut at every byte. */
	begin(&q);
	netlink_add_string(&q, IFLA_IFNAME, "eth0");
	ASSERT_OK(netlink_end(&q, 1));
	for (size_t len = 1; len < q.len; len++) {
		read_all(q.bytes, len, &n, &failed);
		ASSERT(failed && n == 0);
	}
}

static int result_of(uint16_t type, int32_t num, size_t n)
{
	struct netlink_message m = { .type = type, .p = (const uint8_t *)&num, .size = n };

	return netlink_result(&m);
}

TEST(results_are_errnos_or_refused)
{
	ASSERT_EQ(result_of(NLMSG_ERROR, 0, 4), 0);
	ASSERT_EQ(result_of(NLMSG_ERROR, -EEXIST, 4), -EEXIST);
	ASSERT_EQ(result_of(NLMSG_DONE, -EPERM, 4), -EPERM);
	ASSERT_EQ(result_of(NLMSG_ERROR, 1, 4), -EBADMSG);
	ASSERT_EQ(result_of(NLMSG_ERROR, INT32_MIN, 4), -EBADMSG);
	ASSERT_EQ(result_of(NLMSG_ERROR, 0, 3), -EBADMSG);
	ASSERT_EQ(result_of(RTM_NEWLINK, 0, 4), -EBADMSG);
}

TEST(the_kernels_words_are_found_behind_the_request)
{
	struct {
		struct nlmsgerr e;
		uint8_t request[8];
		struct nlattr a;
		char text[8];
	} capped_not = { .e = { .error = -EINVAL, .msg = { .nlmsg_len = sizeof(struct nlmsghdr) + 5 } },
			 .a = { .nla_len = sizeof(struct nlattr) + 8, .nla_type = NLMSGERR_ATTR_MSG },
			 .text = "because" };
	struct netlink_message m = { .type = NLMSG_ERROR,
				     .flags = NLM_F_ACK_TLVS,
				     .p = (const uint8_t *)&capped_not,
				     .size = sizeof(capped_not) };
	char text[64];

	netlink_reason(&m, text, sizeof(text));
	ASSERT_STREQ(text, "because");
	netlink_reason(&m, text, 4);
	ASSERT_STREQ(text, "");
	capped_not.e.msg.nlmsg_len = UINT32_MAX;
	netlink_reason(&m, text, sizeof(text));
	ASSERT_STREQ(text, "");
	capped_not.e.msg.nlmsg_len = 3;
	netlink_reason(&m, text, sizeof(text));
	ASSERT_STREQ(text, "");
	m.flags = 0;
	netlink_reason(&m, text, sizeof(text));
	ASSERT_STREQ(text, "");
}
