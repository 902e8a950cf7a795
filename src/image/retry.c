#include "image/retry.h"

#include <curl/curl.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/parse.h"

enum { FAILURES_MAX = 6 };
#define FIRST_PAUSE_NS (NS_PER_SEC / 4)
#define PAUSE_MAX_NS   (30 * NS_PER_SEC)
#define ASKED_MAX_NS   (120 * NS_PER_SEC)

bool retry_is_transient(long status)
{
	return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504;
}

uint64_t retry_after_parse(const char *value, uint64_t now_ns)
{
	uint64_t seconds, then_ns;
	time_t date;

	if (parse_u64(value, 0, UINT64_MAX / NS_PER_SEC - 1, &seconds) == 0)
		return seconds * NS_PER_SEC;
	/* A number that is too large is no date either; curl_getdate() would make one of it. */
	if (!value[strspn(value, "0123456789 ")])
		return UINT64_MAX;
	date = curl_getdate(value, NULL);
	if (date < 0 || (uint64_t)date > UINT64_MAX / NS_PER_SEC - 1)
		return UINT64_MAX;
	then_ns = (uint64_t)date * NS_PER_SEC;
	return then_ns > now_ns ? then_ns - now_ns : 0;
}

/* Half of it is certain, half is chance: many that failed together are not to come back together. */
static uint64_t with_jitter(uint64_t pause_ns)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != (ssize_t)sizeof(random))
		random = 0;
	return pause_ns / 2 + random % (pause_ns / 2 + 1);
}

bool retry_again(struct retry *r, uint64_t after_ns, uint64_t *ret_wait_ns)
{
	uint64_t pause_ns = FIRST_PAUSE_NS << r->failures;

	if (++r->failures >= FAILURES_MAX)
		return false;
	if (after_ns != UINT64_MAX) {
		*ret_wait_ns = after_ns;
		return after_ns <= ASKED_MAX_NS;
	}
	*ret_wait_ns = with_jitter(pause_ns < PAUSE_MAX_NS ? pause_ns : PAUSE_MAX_NS);
	return true;
}
