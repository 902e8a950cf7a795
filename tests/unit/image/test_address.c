#include "image/address.h"

#include "base/memory.h"

#include "test.h"

TEST(the_host_is_told_with_its_port)
{
	static const char *const cases[][2] = {
		{ "https://a.example/v2/", "a.example" },
		{ "http://localhost:5000/x?y#z", "localhost:5000" },
		{ "https://user:pw@b:1/", "b:1" },
		{ "https://[::1]:5000/", "[::1]:5000" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *host = address_host(cases[i][0]);

		ASSERT_STREQ(host, cases[i][1]);
	}
	ASSERT(!address_host("no address"));
	ASSERT(!address_host(""));
}

TEST(an_origin_is_scheme_host_and_port)
{
	ASSERT(address_same_origin("https://a/x", "https://a:443/y?z"));
	ASSERT(address_same_origin("https://A/x", "https://a/x"));
	ASSERT(!address_same_origin("https://a/x", "http://a/x"));
	ASSERT(!address_same_origin("https://a/x", "https://a:444/x"));
	ASSERT(!address_same_origin("https://a/x", "https://a.b/x"));
	ASSERT(!address_same_origin("https://a/", "https://a@b/"));
	ASSERT(!address_same_origin("https://a/", "https://a\\@b/"));
	ASSERT(!address_same_origin("", ""));
}

TEST(relative_addresses_are_resolved)
{
	static const char *const cases[][2] = {
		{ "/end", "https://a:5000/end" },
		{ "b?c=d", "https://a:5000/v2/b?c=d" },
		{ "//other/x", "https://other/x" },
		{ "http://other/x", "http://other/x" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *url = address_resolve("https://a:5000/v2/", cases[i][0]);

		ASSERT_STREQ(url, cases[i][1]);
	}
}

TEST(what_would_mean_something_in_a_query_is_escaped)
{
	_cleanup_free_ char *text = address_escape("a/b c&d=e+f:g");

	ASSERT_STREQ(text, "a%2Fb%20c%26d%3De%2Bf%3Ag");
}
