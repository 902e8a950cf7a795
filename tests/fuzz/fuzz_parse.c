/* What a user types: numbers, sizes, spans, names. What is taken keeps its bounds, and a name never leads out of its directory. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parse.h"
#include "store/name.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* A newline at the end belongs to the corpus' files. */
	_cleanup_free_ char *text = xstrndup((const char *)data, size && data[size - 1] == '\n' ? size - 1 : size);
	struct name name;
	uint64_t v;
	bool b;

	if (parse_u64(text, 3, 70000, &v) == 0)
		check(v >= 3 && v <= 70000 && text[0] >= '0' && text[0] <= '9');
	if (parse_bytes(text, 1 << 20, &v) == 0)
		check(text[0] >= '0' && text[0] <= '9');
	(void)parse_duration_ns(text, &v);
	(void)parse_bool(text, &b);
	if (name_parse(text, "name", &name, NULL) == 0)
		check(strcmp(name.s, text) == 0 && name.s[0] != '.' && !strchr(name.s, '/'));
	return 0;
}
