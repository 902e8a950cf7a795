#include "base/utf8.h"

#include <stdint.h>
#include <string.h>

#include "base/memory.h"

size_t utf8_length(const char *s, size_t n)
{
	static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
	const unsigned char *p = (const unsigned char *)s;
	size_t len;
	uint32_t c;

	if (!n)
		return 0;
	if (p[0] < 0x80)
		return 1;
	len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
	if (p[0] < 0xc2 || p[0] > 0xf4 || n < len)
		return 0;
	c = p[0] & (0x7fu >> len);
	for (size_t i = 1; i < len; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (p[i] & 0x3f);
	}
	return c < smallest[len] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ? 0 : len;
}

size_t utf8_add_shown(struct buf *b, const char *s)
{
	size_t left = strlen(s), shown = 0, n;

	for (; left; shown++, s += n, left -= n) {
		const unsigned char *p = (const unsigned char *)s;
		size_t plain = 0;

		while (plain < left && p[plain] >= 0x20 && p[plain] < 0x7f)
			plain++;
		if (plain) {
			buf_add(b, s, plain);
			shown += plain - 1;
			n = plain;
			continue;
		}
		n = utf8_length(s, left);
		if (!n || p[0] < 0x20 || p[0] == 0x7f || (p[0] == 0xc2 && p[1] < 0xa0))
			buf_addc(b, '?');
		else
			buf_add(b, s, n);
		n += n == 0;
	}
	return shown;
}

char *utf8_shown(const char *s, size_t max)
{
	_cleanup_free_ char *head = xstrndup(s, max);
	bool cut = strlen(s) > max;
	struct buf b = {};

	/* No character is cut in two: what is left of one is not shown as a wrong byte. */
	for (size_t n = strlen(head), back = 1; cut && back <= 3 && back <= n; back++) {
		unsigned char c = (unsigned char)head[n - back];

		if ((c & 0xc0) == 0x80)
			continue;
		if (c >= 0xc2 && !utf8_length(head + n - back, back))
			head[n - back] = '\0';
		break;
	}
	utf8_add_shown(&b, head);
	if (cut)
		buf_adds(&b, "...");
	return buf_take(&b);
}
