/* Image references: what is taken stays within its grammar, and its short name means the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A newline at the end belongs to the corpus' files. */
	_cleanup_free_ char *text = xstrndup((const char *)data, size && data[size - 1] == '\n' ? size - 1 : size);
	_cleanup_free_ char *name = NULL, *again = NULL;
	struct reference r, second;

	(void)is_digest_prefix(text);
	if (reference_parse(text, &r, NULL) < 0)
		return 0;
	check(r.repository[0] && r.repository[0] != '/' && r.repository[0] != '.' && !strstr(r.repository, ".."));
	check(!strchr(r.tag, '/') && (!r.digest[0] || is_digest(r.digest)));
	check(r.registry[0] && !strchr(r.registry, '/'));
	name = reference_name(&r);
	check(reference_parse(name, &second, NULL) == 0);
	again = reference_name(&second);
	check(strcmp(name, again) == 0);
	return 0;
}
