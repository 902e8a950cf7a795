#include "net/resolv.h"

#include "test.h"

static struct resolv parse(const char *text)
{
	struct resolv r = {};

	resolv_parse(text, strlen(text), &r);
	return r;
}

TEST(a_server_and_search_domains_are_found)
{
	struct resolv r = parse("# made by hand\nsearch example.org  lan\noptions edns0\nnameserver 192.0.2.1\n");

	ASSERT(r.server && r.first_direct);
	ASSERT_STREQ(r.direct, "192.0.2.1");
	ASSERT_EQ(r.search.n, 2);
	ASSERT_STREQ(r.search.items[0], "example.org");
	ASSERT_STREQ(r.search.items[1], "lan");
	resolv_done(&r);
}

TEST(a_server_on_the_loopback_or_of_ipv6_is_one_but_not_direct)
{
	struct resolv r = parse("nameserver 127.0.0.53\n");

	ASSERT(r.server && !r.first_direct);
	ASSERT_STREQ(r.direct, "");
	resolv_done(&r);
	r = parse("nameserver fe80::1%eth0\r\nnameserver\t198.51.100.7\r\nnameserver 192.0.2.1");
	ASSERT(r.server && !r.first_direct);
	ASSERT_STREQ(r.direct, "198.51.100.7");
	resolv_done(&r);
	r = parse("nameserver ::1");
	ASSERT(r.server && !r.first_direct && !r.direct[0]);
	resolv_done(&r);
}

TEST(the_first_three_servers_are_in_their_order)
{
	struct resolv r = parse("nameserver 127.0.0.11\nnameserver fe80::1%eth0\nnameserver no\nnameserver 192.0.2.1\n"
				"nameserver 192.0.2.2\nsearch lan\n");

	ASSERT_EQ(r.servers.n, 3);
	ASSERT_STREQ(r.servers.items[0], "127.0.0.11");
	ASSERT_STREQ(r.servers.items[1], "fe80::1");
	ASSERT_STREQ(r.servers.items[2], "192.0.2.1");
	ASSERT_EQ(r.search.n, 1);
	resolv_done(&r);
}

TEST(the_last_search_line_counts)
{
	struct resolv r = parse("search a b\ndomain c\n");

	ASSERT(!r.server);
	ASSERT_EQ(r.search.n, 1);
	ASSERT_STREQ(r.search.items[0], "c");
	resolv_done(&r);
}

TEST(nonsense_is_skipped)
{
	static const char *const texts[] = { "",
					     "\n\n\n",
					     "nameserver\nnameserver host\n",
					     "#nameserver 192.0.2.1\n;nameserver 192.0.2.1",
					     "nameserver 1.2.3.4.5\n",
					     "search a;b c=d ../x a b c d e f g h i\n",
					     "search ../x/ a b c d e f g h\n" };
	static const size_t domains[] = { 0, 0, 0, 0, 0, 1 /* the comment begins at ';' */, 6 };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		struct resolv r = parse(texts[i]);

		ASSERT(!r.server && !r.first_direct && !r.direct[0]);
		ASSERT_EQ(r.search.n, domains[i]);
		resolv_done(&r);
	}
	struct resolv r = {};

	resolv_parse("search \0x\nnameserver 192.0.2.1\0\n", 10, &r);
	ASSERT(!r.server);
	resolv_done(&r);
}
