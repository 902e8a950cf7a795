#include "net/resolv.h"

#include "test.h"

static bool parse(const char *text, struct strv *search)
{
	return resolv_parse(text, strlen(text), search);
}

TEST(a_server_and_search_domains_are_found)
{
	_cleanup_strv_ struct strv search = {};

	ASSERT(parse("# made by hand\nsearch example.org  lan\noptions edns0\nnameserver 192.0.2.1\n", &search));
	ASSERT_EQ(search.n, 2);
	ASSERT_STREQ(search.items[0], "example.org");
	ASSERT_STREQ(search.items[1], "lan");
	ASSERT(parse("nameserver fe80::1%eth0", &search));
	ASSERT(parse("nameserver\t::1\r\n", &search));
}

TEST(the_last_search_line_counts)
{
	_cleanup_strv_ struct strv search = {};

	ASSERT(!parse("search a b\ndomain c\n", &search));
	ASSERT_EQ(search.n, 1);
	ASSERT_STREQ(search.items[0], "c");
}

TEST(nonsense_is_skipped)
{
	_cleanup_strv_ struct strv search = {};

	ASSERT(!parse("", &search));
	ASSERT(!parse("\n\n\nnameserver\nnameserver host\n#nameserver 192.0.2.1\n;nameserver 192.0.2.1", &search));
	ASSERT(!parse("search a;b c=d ../x a b c d e f g h i\n", &search));
	ASSERT_EQ(search.n, 1); /* the comment begins at ';' */
	ASSERT(!parse("search ../x/ a b c d e f g h\n", &search));
	ASSERT_EQ(search.n, 6);
	ASSERT(!resolv_parse("search \0x\nnameserver 192.0.2.1\0\n", 10, &search));
}
