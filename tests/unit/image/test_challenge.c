#include "image/challenge.h"

#include "test.h"

static struct challenge read_one(const char *value)
{
	struct challenge c = {};

	challenge_add(value, &c);
	return c;
}

TEST(a_bearer_challenge_is_read)
{
	_cleanup_(challenge_done) struct challenge c =
		read_one("Bearer realm=\"https://auth.example/token\",service=\"registry.example\","
			 "scope=\"repository:a/b:pull,push\",error=\"insufficient_scope\"");

	ASSERT_EQ(c.scheme, CHALLENGE_BEARER);
	ASSERT_STREQ(c.realm, "https://auth.example/token");
	ASSERT_STREQ(c.service, "registry.example");
	ASSERT_STREQ(c.scope, "repository:a/b:pull,push");
	ASSERT_STREQ(c.error, "insufficient_scope");
}

TEST(names_and_schemes_are_read_in_either_case_with_white_space_and_escapes)
{
	_cleanup_(challenge_done) struct challenge c =
		read_one(" bEARER  Realm = \"a\\\"b\\\\c\" ,\tSERVICE=tok , x=y");

	ASSERT_EQ(c.scheme, CHALLENGE_BEARER);
	ASSERT_STREQ(c.realm, "a\"b\\c");
	ASSERT_STREQ(c.service, "tok");
	ASSERT(!c.scope);
}

TEST(the_best_of_several_is_taken)
{
	_cleanup_(challenge_done) struct challenge one = read_one(
							   "Basic realm=\"x\", Bearer realm=\"https://t\", Digest a=b"),
						   two = read_one("Negotiate, Basic realm=\"x, Bearer y\"");

	ASSERT_EQ(one.scheme, CHALLENGE_BEARER);
	ASSERT_STREQ(one.realm, "https://t");
	ASSERT_EQ(two.scheme, CHALLENGE_BASIC);
	ASSERT_STREQ(two.realm, "x, Bearer y");
	challenge_add("Bearer realm=\"https://later\"", &two);
	ASSERT_EQ(two.scheme, CHALLENGE_BEARER);
	challenge_add("Basic realm=\"z\"", &two);
	ASSERT_STREQ(two.realm, "https://later");
}

TEST(what_is_no_challenge_gives_none)
{
	static const char *const bad[] = { "",
					   ",,,",
					   "=",
					   "Bearer",
					   "Bearer realm=",
					   "Bearer realm=\"\"",
					   "Bearer realm=\"open",
					   "Digest realm=\"x\"",
					   "\"",
					   "Bearer realm=\"a\nb\"" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_(challenge_done) struct challenge c = read_one(bad[i]);

		ASSERT_EQ(c.scheme, CHALLENGE_NONE);
	}
}

TEST(a_parameter_that_comes_twice_counts_once)
{
	_cleanup_(challenge_done) struct challenge c = read_one("Bearer realm=\"https://a\",realm=\"https://b\"");

	ASSERT_STREQ(c.realm, "https://a");
}

TEST(a_header_without_end_is_passed_over)
{
	_cleanup_free_ char *text = xcalloc(1, 100001), *value = NULL;
	_cleanup_(challenge_done) struct challenge c = {};

	memset(text, 'a', 100000);
	value = xasprintf("Bearer realm=\"%s\"", text);
	challenge_add(value, &c);
	ASSERT_EQ(c.scheme, CHALLENGE_NONE);
}

TEST(a_scope_is_compared_by_what_it_allows)
{
	static const char both[] = "repository:a/b:pull,push";
	static const struct {
		const char *scope, *wanted;
		bool covers;
	} cases[] = {
		{ both, both, true },
		{ both, "repository:a/b:push,pull", true },
		{ both, "repository:a/b:push", true },
		{ "repository:a/b:pull", both, false },
		{ "repository:x:pull repository:a/b:push,pull", "repository:a/b:pull,push repository:x:pull", true },
		{ "repository:a/b:pull repository:a/b:push", both, true },
		{ both, "repository:a/c:pull", false },
		{ both, "repository:a/b:pul", false },
		{ both, "repository:a/b:pull,delete", false },
		{ "repository:host:5000/a:pull", "repository:host:5000/a:pull", true },
		{ "repository:host:5000/a:pull", "repository:host:5001/a:pull", false },
		{ "registry:catalog:*", "registry:catalog:*", true },
		{ "word", "word", true },
		{ "word", "other", false },
		{ "  a:b:c ", "a:b:c", true },
		{ "a:b:c", "  ", true },
		{ "", "a:b:c", false },
		{ "a:b:", "a:b:", true },
		{ "a:b:c", "a:b:", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		ASSERT_EQ(scope_covers(cases[i].scope, cases[i].wanted), cases[i].covers);
}
