/* Packed layers: gzip, zstd, xz, bzip2 or none, in pieces of any size. */
#include <stdint.h>
#include <stdlib.h>

#include "image/unpacker.h"

enum { OUT_MAX = 8 << 20 };

struct pieces {
	const uint8_t *p;
	size_t left, piece;
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int next_piece(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	struct pieces *s = data;

	(void)err;
	*ret = s->p;
	*ret_n = s->left < s->piece ? s->left : s->piece;
	s->p += *ret_n;
	s->left -= *ret_n;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t steps[] = { 64 << 10, 512, 4097 };
	struct pieces s = { data + 1, size - 1, 0 };
	_cleanup_(unpacker_freep) struct unpacker *u = NULL;
	size_t step, n = 1, sum = 0;
	uint8_t *out;

	if (size < 2)
		return 0;
	s.piece = 1 + data[0];
	step = steps[data[0] % 3];
	out = malloc(step);
	if (!out)
		abort();
	u = unpacker_new(data + 1, size - 1 < 6 ? size - 1 : 6, next_piece, &s);
	while (n && sum < OUT_MAX && unpacker_fill(u, out, step, &n, NULL) >= 0) {
		if (n > step)
			abort();
		sum += n;
	}
	free(out);
	return 0;
}
