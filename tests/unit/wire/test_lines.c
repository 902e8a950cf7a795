#include "wire/lines.h"

#include <errno.h>

#include "test.h"

TEST(lines_are_taken_one_by_one)
{
	_cleanup_buf_ struct buf b = { 0 };
	const char *line;
	size_t len, used;

	ASSERT_EQ(lines_next(&b, 100, &line, &len, &used), 0);
	buf_adds(&b, "{\"a\": 1}\r\n\nrest");
	ASSERT_EQ(lines_next(&b, 100, &line, &len, &used), 1);
	ASSERT_EQ(len, 8);
	ASSERT_MEMEQ(line, "{\"a\": 1}", 8);
	ASSERT_EQ(used, 10);
	buf_consume(&b, used);
	ASSERT_EQ(lines_next(&b, 100, &line, &len, &used), 1);
	ASSERT_EQ(len, 0);
	ASSERT_EQ(used, 1);
	buf_consume(&b, used);
	ASSERT_EQ(lines_next(&b, 100, &line, &len, &used), 0);
}

TEST(lines_without_end_are_bounded)
{
	_cleanup_buf_ struct buf b = { 0 };
	const char *line;
	size_t len, used;

	buf_adds(&b, "12345678");
	ASSERT_EQ(lines_next(&b, 8, &line, &len, &used), 0);
	ASSERT_EQ(lines_next(&b, 7, &line, &len, &used), -EMSGSIZE);
	buf_adds(&b, "\n");
	ASSERT_EQ(lines_next(&b, 8, &line, &len, &used), 1);
	ASSERT_EQ(lines_next(&b, 7, &line, &len, &used), -EMSGSIZE);
}
