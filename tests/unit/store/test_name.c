#include "store/name.h"

#include <errno.h>

#include "base/buf.h"
#include "test.h"

TEST(good_names_are_taken)
{
	static const char *const good[] = {
		"a",        "Z",       "0",
		"web-1",    "a.b_c-d", "lock",
		"machines", "con",     "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz01234567890", /* 63 */
	};
	struct name n;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		ASSERT_OK(name_parse(good[i], "machine name", &n, NULL));
		ASSERT_STREQ(n.s, good[i]);
	}
}

TEST(bad_names_are_refused_with_the_rule)
{
	static const struct {
		const char *name, *message;
	} bad[] = {
		{ "", "machine name '': must not be empty" },
		{ ".", "machine name '.': must begin with a letter or digit" },
		{ "..", "machine name '..': must begin with a letter or digit" },
		{ "-x", "machine name '-x': must begin with a letter or digit" },
		{ ".lock", "machine name '.lock': must begin with a letter or digit" },
		{ "a/b", "machine name 'a/b': letters, digits, '.', '_' and '-' are allowed, a letter or digit first" },
		{ "../../etc",
		  "machine name '../../etc': letters, digits, '.', '_' and '-' are allowed, a letter or digit first" },
		{ "a b", "machine name 'a b': letters, digits, '.', '_' and '-' are allowed, a letter or digit first" },
		{ "a\n",
		  "machine name 'a\\x0a': letters, digits, '.', '_' and '-' are allowed, a letter or digit first" },
		{ "\033[2J",
		  "machine name '\\x1b[2J': letters, digits, '.', '_' and '-' are allowed, a letter or digit first" },
		{ "\xc3\xa9",
		  "machine name '\\xc3\\xa9': letters, digits, '.', '_' and '-' are allowed, a letter or digit first" },
		{ "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz012345678901",
		  "machine name 'abcdefghijklmnopqrstuvwxyzabcdefghijklmn...': longer than 63 characters" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_error_ struct error e = {};
		struct name n = { "kept" };

		ASSERT_EQ(name_parse(bad[i].name, "machine name", &n, &e), -EINVAL);
		ASSERT_STREQ(e.msg, bad[i].message);
		ASSERT_EQ(error_exit_status(&e), 64);
		ASSERT_STREQ(n.s, "kept");
	}
}

TEST(a_very_long_name_is_no_trouble)
{
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf b = {};
	struct name n;

	for (int i = 0; i < 100000; i++)
		buf_addc(&b, 'x');
	ASSERT_EQ(name_parse(b.p, "machine name", &n, &e), -EINVAL);
	ASSERT(strlen(e.msg) < 200);
}
