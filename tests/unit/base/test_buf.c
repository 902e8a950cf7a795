#include "base/buf.h"

#include "base/memory.h"
#include "test.h"

TEST(text_is_always_terminated)
{
	_cleanup_buf_ struct buf b = {};

	buf_adds(&b, "");
	ASSERT_STREQ(b.p, "");
	buf_adds(&b, "ab");
	buf_addc(&b, 'c');
	buf_addf(&b, "%d%s", 1, "x");
	ASSERT_STREQ(b.p, "abc1x");
	ASSERT_EQ(b.len, 5);
}

TEST(it_grows_past_every_boundary)
{
	_cleanup_buf_ struct buf b = {};

	for (int i = 0; i < 10000; i++) {
		buf_addc(&b, (char)('a' + i % 26));
		ASSERT_EQ(b.p[b.len], 0);
	}
	ASSERT_EQ(b.len, 10000);
	for (int i = 0; i < 10000; i++)
		ASSERT_EQ(b.p[i], 'a' + i % 26);
}

TEST(binary_bytes_pass)
{
	_cleanup_buf_ struct buf b = {};

	buf_add(&b, "a\0b", 3);
	buf_add(&b, NULL, 0);
	ASSERT_EQ(b.len, 3);
	ASSERT_MEMEQ(b.p, "a\0b\0", 4);
}

TEST(formatting_longer_than_the_room_is_whole)
{
	_cleanup_buf_ struct buf b = {};

	buf_addf(&b, "%0500d", 7);
	ASSERT_EQ(b.len, 500);
	ASSERT_EQ(b.p[499], '7');
}

TEST(reserved_bytes_count_once_committed)
{
	_cleanup_buf_ struct buf b = {};
	char *p = buf_reserve(&b, 100);

	memset(p, 'x', 100);
	ASSERT_EQ(b.len, 0);
	buf_commit(&b, 60);
	ASSERT_EQ(b.len, 60);
	ASSERT_EQ(b.p[60], 0);
	buf_commit(&b, 0);
	ASSERT_EQ(b.len, 60);
}

TEST(consume_drops_from_the_front)
{
	_cleanup_buf_ struct buf b = {};

	buf_consume(&b, 5);
	buf_adds(&b, "hello world");
	buf_consume(&b, 6);
	ASSERT_STREQ(b.p, "world");
	buf_consume(&b, 0);
	ASSERT_STREQ(b.p, "world");
	buf_consume(&b, 100);
	ASSERT_EQ(b.len, 0);
	ASSERT_STREQ(b.p, "");
}

TEST(truncate_only_shortens)
{
	_cleanup_buf_ struct buf b = {};

	buf_truncate(&b, 3);
	buf_adds(&b, "abcdef");
	buf_truncate(&b, 9);
	ASSERT_EQ(b.len, 6);
	buf_truncate(&b, 2);
	ASSERT_STREQ(b.p, "ab");
}

TEST(take_gives_the_text_away)
{
	_cleanup_buf_ struct buf b = {};
	_cleanup_free_ char *empty = buf_take(&b), *text = NULL;

	ASSERT_STREQ(empty, "");
	buf_adds(&b, "x");
	text = buf_take(&b);
	ASSERT_STREQ(text, "x");
	ASSERT(!b.p && !b.len && !b.cap);
}
