/* Nothing that drives a terminal passes. */
#include "cli/filter.h"
#include "base/memory.h"
#include "test.h"

static char *filtered(const char *text, size_t len, size_t piece)
{
	struct filter f = {};
	struct buf out = {};

	for (size_t i = 0; i < len; i += piece)
		filter_add(&f, text + i, len - i < piece ? len - i : piece, &out);
	return buf_take(&out);
}

/* The same in one piece and byte by byte. */
static void gives(const char *text, const char *expected)
{
	_cleanup_free_ char *whole = filtered(text, strlen(text), strlen(text) + 1),
			    *bytes = filtered(text, strlen(text), 1);

	ASSERT_STREQ(whole, expected);
	ASSERT_STREQ(bytes, expected);
}

TEST(text_passes)
{
	gives("hello, world\n\tindented\n", "hello, world\n\tindented\n");
	gives("Grüße, 世界 ©\n", "Grüße, 世界 ©\n");
}

TEST(escape_sequences_go)
{
	gives("\033[31mred\033[0m", "red");
	gives("\033[2J\033[1;1Hhome", "home");
	gives("\033]0;title\007after", "after");
	gives("\033]0;title\033\\after", "after");
	gives("\033P+q544e\033\\after", "after");
	gives("\033(Bplain", "plain");
	gives("\033cafter", "after");
	gives("end\033", "end");
}

TEST(control_characters_go)
{
	gives("a\rb\bc\007d\177e\016", "abcde");
	gives("c1 \302\233 31m\302\220x", "c1  31mx");
}

TEST(an_open_sequence_does_not_eat_the_next_line)
{
	gives("\033]0;never ended\nnext\n", "\nnext\n");
	gives("\033[12\nnext", "\nnext");
}
