#include "base/clock.h"

#include <limits.h>
#include <stdio.h>
#include <time.h>

static uint64_t now(clockid_t id)
{
	struct timespec ts;

	/* Fails for unknown clocks only. */
	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

uint64_t clock_monotonic_ns(void)
{
	return now(CLOCK_MONOTONIC);
}

uint64_t clock_realtime_ns(void)
{
	return now(CLOCK_REALTIME);
}

int clock_poll_timeout(uint64_t deadline_ns)
{
	uint64_t t, ms;

	if (deadline_ns == UINT64_MAX)
		return -1;
	t = clock_monotonic_ns();
	if (deadline_ns <= t)
		return 0;
	ms = (deadline_ns - t - 1) / NS_PER_MS + 1;
	return ms > INT_MAX ? INT_MAX : (int)ms;
}

const char *clock_format_rfc3339(uint64_t realtime_ns, char *out, unsigned n)
{
	time_t t = (time_t)(realtime_ns / NS_PER_SEC);
	struct tm tm;

	if (n && (!gmtime_r(&t, &tm) || !strftime(out, n, "%Y-%m-%dT%H:%M:%SZ", &tm)))
		out[0] = '\0';
	return out;
}
