/* The token service's answer: a token fits into a header, and an error quotes nothing of the answer. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "image/token.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(token_done) struct token t = {};
	_cleanup_error_ struct error e = {};
	int r = token_parse((const char *)data, size, "host", 1000, &t, &e);

	if (r < 0 ? !e.msg || strncmp(e.msg, "host: the token service's answer", 32) != 0 || t.text : e.num)
		abort();
	if (r >= 0 && (!*t.text || t.expires_ns <= 1000))
		abort();
	for (const char *p = t.text; p && *p; p++)
		if (*p <= ' ' || (unsigned char)*p >= 0x7f)
			abort();
	return 0;
}
