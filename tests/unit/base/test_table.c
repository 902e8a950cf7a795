#include "base/table.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "test.h"

static const struct table_column columns[] = {
	{ "name", "NAME", TABLE_TEXT }, { "cpus", "CPUS", TABLE_NUMBER }, { "memory_bytes", "MEMORY", TABLE_BYTES },
	{ "id", NULL, TABLE_TEXT },     { "home", "HOME", TABLE_BOOL },   { "created", "AGE", TABLE_TIME },
};

static void row(struct table *t, const char *name, uint64_t cpus)
{
	table_text(t, name);
	table_number(t, cpus);
	table_bytes(t, 512 << 20);
	table_text(t, "hidden");
	table_bool(t, true);
	/* Far from the next minute and from the last: the clock may be set meanwhile. */
	table_time(t, clock_realtime_ns() - 150 * NS_PER_SEC);
}

TEST(columns_are_as_wide_as_their_content)
{
	struct table *t = table_new(columns, ARRAY_SIZE(columns));
	_cleanup_buf_ struct buf b = {}, bare = {};

	row(t, "web", 2);
	row(t, "a-longer-name", 16);
	table_render(t, true, &b);
	ASSERT_STREQ(b.p, "NAME           CPUS   MEMORY  HOME  AGE\n"
			  "web               2  512 MiB  yes   2 min\n"
			  "a-longer-name    16  512 MiB  yes   2 min\n");
	table_render(t, false, &bare);
	ASSERT_STREQ(bare.p, "web             2  512 MiB  yes  2 min\n"
			     "a-longer-name  16  512 MiB  yes  2 min\n");
	ASSERT_EQ(table_rows(t), 2);
	table_free(t);
}

TEST(cells_stay_typed)
{
	struct table *t = table_new(columns, ARRAY_SIZE(columns));
	const struct table_cell *c;

	row(t, "web", UINT64_MAX);
	c = table_cell(t, 0, 1);
	ASSERT_EQ(c->type, TABLE_NUMBER);
	ASSERT(c->number == UINT64_MAX && c->set);
	c = table_cell(t, 0, 3);
	ASSERT_STREQ(c->text, "hidden");
	table_free(t);
}

TEST(missing_values_are_dashes)
{
	static const struct table_column two[] = { { "a", "A", TABLE_TEXT },
						   { "b", "B", TABLE_BYTES },
						   { "c", "C", TABLE_TIME } };
	struct table *t = table_new(two, 3);
	_cleanup_buf_ struct buf b = {};

	table_text(t, NULL);
	table_none(t);
	table_time(t, 0);
	table_render(t, true, &b);
	ASSERT_STREQ(b.p, "A  B  C\n-  -  -\n");
	ASSERT(!table_cell(t, 0, 1)->set);
	ASSERT_EQ(table_cell(t, 0, 1)->type, TABLE_BYTES);
	table_free(t);
}

TEST(an_empty_table_has_its_header)
{
	struct table *t = table_new(columns, 2);
	_cleanup_buf_ struct buf b = {}, none = {};

	table_render(t, true, &b);
	ASSERT_STREQ(b.p, "NAME  CPUS\n");
	table_render(t, false, &none);
	ASSERT_EQ(none.len, 0);
	table_free(t);
	ASSERT(!table_free(NULL));
}

TEST(hostile_text_drives_no_terminal_and_keeps_the_columns)
{
	struct table *t = table_new(columns, 2);
	_cleanup_buf_ struct buf b = {};

	table_text(t, "\033[31m\n");
	table_number(t, 1);
	table_text(t, "d\xc3\xa9j\xc3\xa0");
	table_number(t, 2);
	table_text(t, "");
	table_number(t, 3);
	table_render(t, false, &b);
	ASSERT_STREQ(b.p, "?[31m?  1\n"
			  "d\xc3\xa9j\xc3\xa0    2\n"
			  "        3\n");
	table_free(t);
}

TEST(a_future_time_is_now)
{
	static const struct table_column one[] = { { "t", "T", TABLE_TIME } };
	struct table *t = table_new(one, 1);
	_cleanup_buf_ struct buf b = {};

	table_time(t, UINT64_MAX);
	table_render(t, false, &b);
	ASSERT_STREQ(b.p, "0 s\n");
	table_free(t);
}
