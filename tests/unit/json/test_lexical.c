#include "json/lexical.h"

#include "base/buf.h"
#include "test.h"

static const char *check(const char *text, size_t *offset)
{
	return json_lexical_check(text, strlen(text), offset);
}

TEST(tokens_of_the_standard_pass)
{
	static const char *const good[] = {
		"{}",
		"[]",
		" \t\r\n1 ",
		"0",
		"-0",
		"-1",
		"10",
		"1.5",
		"-0.5e+10",
		"1E-2",
		"18446744073709551615",
		"-9223372036854775808",
		"1e400",
		"true",
		"false",
		"null",
		"\"\"",
		"\"a b\"",
		"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\"",
		"\"\xc3\xa9\"",
		"\"\x7f\"",
		"{\"a\":[1,2,{\"b\":null}]}",
	};
	size_t at;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (check(good[i], &at))
			test_fail(__FILE__, __LINE__, "'%s': %s", good[i], check(good[i], &at));
}

TEST(what_is_no_json_is_told_with_its_place)
{
	static const struct {
		const char *text, *wrong;
		size_t at;
	} bad[] = {
		{ "{'a':1}", "unexpected character", 1 },
		{ "[NaN]", "unexpected character", 1 },
		{ "Infinity", "unexpected character", 0 },
		{ "tRUE", "unexpected character", 0 },
		{ "[01]", "number with a leading zero", 3 },
		{ "-01", "number with a leading zero", 3 },
		{ "1.", "malformed number", 2 },
		{ "-", "malformed number", 1 },
		{ "1e", "malformed number", 2 },
		{ "1e+", "malformed number", 3 },
		{ "18446744073709551616", "number out of range", 20 },
		{ "-9223372036854775809", "number out of range", 20 },
		{ "/*x*/1", "unexpected character", 0 },
		{ "+1", "unexpected character", 0 },
		{ "\"a\nb\"", "control character in a string", 2 },
		{ "\"abc", "unfinished string", 4 },
		{ "\"abc\\", "unfinished string", 5 },
		{ "\"\\x41\"", "unknown escape in a string", 2 },
		{ "\"\\u12g4\"", "malformed \\u escape", 3 },
		{ "\"\\u12", "malformed \\u escape", 3 },
		{ "\"\\u0000\"", "a string with a NUL character", 3 },
		{ "\"\xff\"", "malformed UTF-8", 1 },
		{ "\"\xc0\x80\"", "malformed UTF-8", 1 },
		{ "\"\xed\xa0\x80\"", "malformed UTF-8", 1 },
		{ "\xef\xbb\xbf{}", "unexpected character", 0 },
		{ "\x0b", "unexpected character", 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		size_t at = 99;

		ASSERT_STREQ(check(bad[i].text, &at), bad[i].wrong);
		ASSERT_EQ(at, bad[i].at);
	}
}

TEST(an_embedded_nul_does_not_end_the_check)
{
	size_t at;

	ASSERT_STREQ(json_lexical_check("{}\0x", 4, &at), "unexpected character");
	ASSERT_EQ(at, 2);
}

TEST(depth_has_a_limit)
{
	_cleanup_buf_ struct buf b = {};
	size_t at;

	for (int i = 0; i < JSON_DEPTH_MAX; i++)
		buf_addc(&b, i % 2 ? '{' : '[');
	ASSERT(!check(b.p, &at));
	buf_addc(&b, '[');
	ASSERT_STREQ(check(b.p, &at), "too deeply nested");
	buf_truncate(&b, 0);
	/* Side by side is not deep. */
	for (int i = 0; i < 1000; i++)
		buf_adds(&b, "[]");
	ASSERT(!check(b.p, &at));
}

TEST(a_text_cut_anywhere_is_read_within_its_bounds)
{
	static const char text[] = "{\"k\\u00e9\xc3\xa9\":[-1.5e+3,true,null,\"\\n\"]}";

	/* Exactly as many bytes as said, so that a read behind them is found by AddressSanitizer. */
	for (size_t n = 0; n < sizeof(text); n++) {
		char *copy = malloc(n ? n : 1);
		size_t at;

		memcpy(copy, text, n);
		(void)json_lexical_check(copy, n, &at);
		ASSERT(at <= n);
		free(copy);
	}
}
