#include "base/utf8.h"

#include "base/memory.h"
#include "test.h"

TEST(valid_sequences_have_their_length)
{
	static const struct {
		const char *s;
		size_t n;
	} cases[] = { { "a", 1 },
		      { "\x7f", 1 },
		      { "\xc2\x80", 2 },
		      { "\xdf\xbf", 2 },
		      { "\xe0\xa0\x80", 3 },
		      { "\xed\x9f\xbf", 3 },
		      { "\xee\x80\x80", 3 },
		      { "\xef\xbf\xbf", 3 },
		      { "\xf0\x90\x80\x80", 4 },
		      { "\xf4\x8f\xbf\xbf", 4 } };

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		ASSERT_EQ(utf8_length(cases[i].s, strlen(cases[i].s)), cases[i].n);
	ASSERT_EQ(utf8_length("", 1), 1);
	ASSERT_EQ(utf8_length("", 0), 0);
}

TEST(malformed_sequences_are_refused)
{
	static const char *const bad[] = {
		"\x80",
		"\xbf",
		"\xc0\x80",
		"\xc1\xbf",
		"\xe0\x80\x80",
		"\xe0\x9f\xbf",
		"\xed\xa0\x80",
		"\xed\xbf\xbf",
		"\xf0\x80\x80\x80",
		"\xf0\x8f\xbf\xbf",
		"\xf4\x90\x80\x80",
		"\xf5\x80\x80\x80",
		"\xff",
		"\xfe",
		"\xc2",
		"\xe1\x80",
		"\xf1\x80\x80",
		"\xc2\x41",
		"\xe1\x80\x41",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(utf8_length(bad[i], strlen(bad[i])), 0);
}

TEST(nothing_that_drives_a_terminal_is_shown)
{
	_cleanup_buf_ struct buf b = {};

	ASSERT_EQ(utf8_add_shown(&b, "a\033[2J\n\xc2\x9b"
				     "1m\xff\x7f\xc3\xa9"),
		  12);
	ASSERT_STREQ(b.p, "a?[2J??1m??\xc3\xa9");
}

TEST(what_is_long_is_cut_between_characters)
{
	static const struct {
		const char *text;
		size_t max;
		const char *shown;
	} cases[] = {
		{ "", 4, "" },
		{ "abcd", 4, "abcd" },
		{ "abcde", 4, "abcd..." },
		{ "ab\n\033[1m", 4, "ab??..." },
		{ "abc\xc3\xa9", 4, "abc..." },
		{ "abc\xc3\xa9", 5, "abc\xc3\xa9" },
		{ "ab\xc3\xa9z", 4, "ab\xc3\xa9..." },
		{ "a\xf0\x9f\x98\x80", 4, "a..." },
		{ "\xf0\x9f\x98\x80", 0, "..." },
		{ "\x80\x80\x80\x80\x80", 4, "????..." },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *shown = utf8_shown(cases[i].text, cases[i].max);

		ASSERT_STREQ(shown, cases[i].shown);
	}
}
