/* WWW-Authenticate: what is kept is printable and short, and a Bearer challenge has a realm. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/challenge.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const char *s)
{
	for (; s && *s; s++)
		if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
			abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	_cleanup_(challenge_done) struct challenge c = {};

	challenge_add(text, &c);
	if (c.scheme == CHALLENGE_BEARER && (!c.realm || !*c.realm))
		abort();
	check(c.realm);
	check(c.service);
	check(c.scope);
	check(c.error);
	return 0;
}
