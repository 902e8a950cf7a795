/* The users' files of an image. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "guest/account.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *text = xstrndup((const char *)data, size);
	char *fields[7], *at = text, *end = text + strlen(text);

	while (account_next_line(&at, fields, 7))
		for (int i = 0; i < 7; i++)
			if (!fields[i] || strpbrk(fields[i], i < 6 ? ":\n" : "\n") ||
			    strlen(fields[i]) > (size_t)(end - text))
				abort();
	return 0;
}
