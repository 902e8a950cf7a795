/* Newline-framed text: a line holds no newline, and nothing longer than the bound is kept waiting. */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/lines.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LIMIT = 64 };

static void check(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf in = { 0 };
	const char *line;
	size_t len, used;
	int r;

	buf_add(&in, data, size);
	while ((r = lines_next(&in, LIMIT, &line, &len, &used)) == 1) {
		check(len <= LIMIT && len < used && used <= in.len && line == in.p);
		check(!memchr(line, '\n', len) && in.p[used - 1] == '\n');
		buf_consume(&in, used);
	}
	check(r == 0 || r == -EMSGSIZE);
	check(r != 0 || in.len <= LIMIT);
	return 0;
}
