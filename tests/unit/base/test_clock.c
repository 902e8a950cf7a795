#include "base/clock.h"

#include <limits.h>

#include "test.h"

TEST(monotonic_never_goes_back)
{
	uint64_t before = clock_monotonic_ns();

	for (int i = 0; i < 1000; i++) {
		uint64_t now = clock_monotonic_ns();

		ASSERT(now >= before);
		before = now;
	}
}

TEST(timeouts_round_up)
{
	uint64_t now = clock_monotonic_ns();
	int ms;

	ASSERT_EQ(clock_poll_timeout(UINT64_MAX), -1);
	ASSERT_EQ(clock_poll_timeout(0), 0);
	ASSERT_EQ(clock_poll_timeout(now), 0);
	ms = clock_poll_timeout(now + 3600 * NS_PER_SEC);
	ASSERT(ms > 3500 * 1000 && ms <= 3600 * 1000);
	/* A deadline that has not passed never gives 0, which would make a loop spin. */
	do {
		now = clock_monotonic_ns();
		ms = clock_poll_timeout(now + 100 * NS_PER_MS + 1);
	} while (clock_monotonic_ns() > now + 100 * NS_PER_MS);
	ASSERT(ms > 0 && ms <= 101);
	ASSERT_EQ(clock_poll_timeout(UINT64_MAX - 1), INT_MAX);
}

TEST(rfc3339)
{
	char out[21];

	ASSERT_STREQ(clock_format_rfc3339(0, out, sizeof(out)), "1970-01-01T00:00:00Z");
	ASSERT_STREQ(clock_format_rfc3339(UINT64_C(1769860800) * NS_PER_SEC + 999, out, sizeof(out)),
		     "2026-01-31T12:00:00Z");
	ASSERT_STREQ(clock_format_rfc3339(UINT64_MAX, out, sizeof(out)), "2554-07-21T23:34:33Z");
	ASSERT_STREQ(clock_format_rfc3339(0, out, 5), "");
}
