/* A configuration file: what is taken is a tree that JSON can say. */
#include <stdint.h>
#include <stdlib.h>

#include "json/yamltree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_json_ struct json *tree = NULL;
	struct error e = {};

	if (yaml_parse((const char *)data, size, "input", &tree, &e) < 0) {
		if (!e.msg)
			abort();
		error_done(&e);
	} else {
		_cleanup_buf_ struct buf out = {};

		json_render(tree, false, &out);
		if (!out.len)
			abort();
	}
	return 0;
}
