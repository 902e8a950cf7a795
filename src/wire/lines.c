#include "wire/lines.h"

#include <errno.h>
#include <string.h>

int lines_next(const struct buf *in, size_t max, const char **ret_line, size_t *ret_len, size_t *ret_used)
{
	const char *newline = in->len ? memchr(in->p, '\n', in->len) : NULL;
	size_t n = newline ? (size_t)(newline - in->p) : in->len;

	if (n > max)
		return -EMSGSIZE;
	if (!newline)
		return 0;
	*ret_used = n + 1;
	while (n > 0 && in->p[n - 1] == '\r')
		n--;
	*ret_line = in->p;
	*ret_len = n;
	return 1;
}
