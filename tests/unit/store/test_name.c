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

TEST(image_names_have_a_tag)
{
	struct image_name n;

	ASSERT_OK(image_name_parse("debian", &n, NULL));
	ASSERT_STREQ(n.name, "debian");
	ASSERT_STREQ(n.tag, "latest");
	ASSERT_STREQ(n.digest, "");
	ASSERT_OK(image_name_parse("debian:12", &n, NULL));
	ASSERT_STREQ(n.name, "debian");
	ASSERT_STREQ(n.tag, "12");
	ASSERT_OK(image_name_parse("team/web.app/x_y:_v1.0-rc", &n, NULL));
	ASSERT_STREQ(n.name, "team/web.app/x_y");
	ASSERT_STREQ(n.tag, "_v1.0-rc");
	ASSERT_OK(image_name_parse("sha256", &n, NULL));
	ASSERT_STREQ(n.name, "sha256");
}

TEST(image_digests)
{
	static const char full[] = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
	_cleanup_error_ struct error e = {};
	struct image_name n;

	ASSERT_OK(image_name_parse(full, &n, NULL));
	ASSERT_STREQ(n.digest, full);
	ASSERT_STREQ(n.name, "");
	ASSERT_STREQ(n.tag, "");
	ASSERT_OK(image_name_parse("sha256:0123456789ab", &n, NULL));
	ASSERT_STREQ(n.digest, "sha256:0123456789ab");
	ASSERT_EQ(image_name_parse("sha256:0123456789a", &n, &e), -EINVAL);
	ASSERT_CONTAINS(e.msg, "at least 12");
	ASSERT_EQ(image_name_parse("sha256:0123456789AB", &n, &e), -EINVAL);
	ASSERT_CONTAINS(e.msg, "lower-case");
	ASSERT_EQ(image_name_parse("sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0", &n, &e),
		  -EINVAL);
	ASSERT_CONTAINS(e.msg, "at most 64");
	ASSERT_EQ(image_name_parse("sha256:../../../../x", &n, &e), -EINVAL);
}

TEST(bad_image_names_are_refused)
{
	static const char *const bad[] = {
		"",     ":",      ":tag", "a:",  "a:-x",  "a:.x",  "a:b:c", "a//b", "/a",   "a/",
		"../a", "a/../b", "a/.b", "a b", "a:b c", "a:b/c", "A:\n",  "a@b",  "a/:x", "\xff",
	};
	_cleanup_buf_ struct buf b = {};
	struct image_name n;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_error_ struct error e = {};

		if (image_name_parse(bad[i], &n, &e) != -EINVAL)
			test_fail(__FILE__, __LINE__, "'%s' is taken", bad[i]);
		ASSERT_EQ(error_exit_status(&e), 64);
	}
	for (int i = 0; i < 255; i++)
		buf_addc(&b, 'x');
	ASSERT_OK(image_name_parse(b.p, &n, NULL));
	buf_addc(&b, 'x');
	ASSERT_EQ(image_name_parse(b.p, &n, NULL), -EINVAL);
	buf_truncate(&b, 0);
	buf_adds(&b, "a:");
	for (int i = 0; i < 128; i++)
		buf_addc(&b, 'x');
	ASSERT_OK(image_name_parse(b.p, &n, NULL));
	buf_addc(&b, 'x');
	ASSERT_EQ(image_name_parse(b.p, &n, NULL), -EINVAL);
}
