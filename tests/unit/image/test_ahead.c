#include "image/ahead.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "test.h"

struct counter {
	uint32_t next, end;
	int error_at_end;
};

/* Pieces of all lengths, with numbers in a row. */
static int count(void *data, void *p, size_t n, size_t *ret_n, struct error *err)
{
	struct counter *c = data;
	uint32_t *to = p;
	size_t most = n / sizeof(*to);

	if (c->next == c->end && c->error_at_end)
		return error_set_kind(err, ERROR_DATA, c->error_at_end, "no more numbers");
	for (*ret_n = 0; *ret_n / sizeof(*to) < most && c->next < c->end && *ret_n / sizeof(*to) < c->next % 5000 + 1;
	     *ret_n += sizeof(*to))
		*to++ = c->next++;
	return 0;
}

static void read_all(struct ahead *a, uint32_t expected, int expected_r)
{
	_cleanup_error_ struct error e = {};
	const void *p;
	uint32_t next = 0;
	size_t n;
	int r;

	while ((r = ahead_read(a, &p, &n, &e)) >= 0 && n)
		for (size_t i = 0; i < n; i += sizeof(next)) {
			uint32_t v;

			memcpy(&v, (const uint8_t *)p + i, sizeof(v));
			ASSERT_EQ(v, next++);
		}
	ASSERT_EQ(next, expected);
	ASSERT_EQ(r, expected_r);
	if (r < 0) {
		ASSERT_STREQ(e.msg, "no more numbers");
		ASSERT_EQ(e.kind, ERROR_DATA);
	}
}

TEST(everything_comes_in_order)
{
	struct counter c = { .end = 5000000 };
	_cleanup_(ahead_freep) struct ahead *a = NULL;

	ASSERT_OK(ahead_start(count, &c, &a, NULL));
	read_all(a, 5000000, 0);
	/* The end stays the end. */
	read_all(a, 0, 0);
}

TEST(an_error_comes_behind_what_was_before_it)
{
	struct counter c = { .end = 100000, .error_at_end = EBADMSG };
	_cleanup_(ahead_freep) struct ahead *a = NULL;

	ASSERT_OK(ahead_start(count, &c, &a, NULL));
	read_all(a, 100000, -EBADMSG);
	read_all(a, 0, -EBADMSG);
}

TEST(a_reader_may_go_at_any_time)
{
	for (unsigned n = 0; n < 50; n++) {
		struct counter c = { .end = UINT32_MAX };
		_cleanup_(ahead_freep) struct ahead *a = NULL;
		const void *p;
		size_t k;

		ASSERT_OK(ahead_start(count, &c, &a, NULL));
		for (unsigned i = 0; i < n; i++)
			ASSERT_OK(ahead_read(a, &p, &k, NULL));
	}
}
