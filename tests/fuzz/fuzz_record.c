/* Records as a user's editor, a full disk or a stranger may leave them: the parser and the field tables of a machine. What was read is
 * written and must read back the same. */
#include <stdint.h>
#include <stdlib.h>

#include "machine/machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_fields(const struct json *tree, const struct json_field *fields, void *target, void *again,
		       const void *zero, size_t n)
{
	memcpy(target, zero, n);
	memcpy(again, zero, n);
	if (json_load(tree, fields, target, "record", NULL) >= 0) {
		struct json *copy = json_object(), *second = json_object();
		struct buf a = {}, b = {};

		json_store(copy, fields, target);
		if (json_load(copy, fields, again, "record", NULL) < 0)
			abort();
		json_store(second, fields, again);
		json_render(copy, false, &a);
		json_render(second, false, &b);
		if (a.len != b.len || memcmp(a.p, b.p, a.len) != 0)
			abort();
		buf_done(&a);
		buf_done(&b);
		json_free(copy);
		json_free(second);
		json_fields_done(fields, again);
	}
	json_fields_done(fields, target);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct machine_spec no_spec;
	static const struct machine_state no_state;
	static const struct machine_exit no_exit;
	struct machine_spec spec[2];
	struct machine_state state[2];
	struct machine_exit ended[2];
	struct json *tree;

	if (json_parse((const char *)data, size, "input", &tree, NULL) < 0)
		return 0;
	try_fields(tree, machine_spec_fields, &spec[0], &spec[1], &no_spec, sizeof(no_spec));
	try_fields(tree, machine_state_fields, &state[0], &state[1], &no_state, sizeof(no_state));
	try_fields(tree, machine_exit_fields, &ended[0], &ended[1], &no_exit, sizeof(no_exit));
	json_free(tree);
	return 0;
}
