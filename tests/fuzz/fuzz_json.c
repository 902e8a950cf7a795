/* Documents from outside: what is taken is written, in both forms, and must read back the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "json/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_json_ struct json *tree = NULL;

	if (json_parse((const char *)data, size, "input", &tree, NULL) < 0)
		return 0;
	for (int pretty = 0; pretty < 2; pretty++) {
		_cleanup_json_ struct json *again = NULL;
		_cleanup_buf_ struct buf a = {}, b = {};

		json_render(tree, pretty, &a);
		if (json_parse(a.p, a.len, "output", &again, NULL) < 0)
			abort();
		json_render(again, pretty, &b);
		if (a.len != b.len || memcmp(a.p, b.p, a.len) != 0)
			abort();
	}
	return 0;
}
