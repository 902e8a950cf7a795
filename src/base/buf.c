#include "base/buf.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

void *buf_reserve(struct buf *b, size_t n)
{
	size_t need, cap = b->cap ? b->cap : 64;

	/* One more for the NUL. Sizes from outside are capped by the callers; what overflows here is a mistake of ours. */
	if (__builtin_add_overflow(b->len, n, &need) || __builtin_add_overflow(need, 1, &need))
		abort();
	if (need > b->cap) {
		while (cap < need)
			if (__builtin_mul_overflow(cap, 2, &cap))
				abort();
		b->p = xrealloc_array(b->p, cap, 1);
		b->cap = cap;
		b->p[b->len] = '\0';
	}
	return b->p + b->len;
}

void buf_commit(struct buf *b, size_t n)
{
	if (n > b->cap || b->len + n >= b->cap) {
		if (n == 0)
			return;
		abort();
	}
	b->len += n;
	b->p[b->len] = '\0';
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	void *to = buf_reserve(b, n);

	if (n)
		memcpy(to, p, n);
	buf_commit(b, n);
}

void buf_adds(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_addc(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_vaddf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	assert(fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n < 0)
		abort();
	(void)vsnprintf(buf_reserve(b, (size_t)n), (size_t)n + 1, fmt, again);
	va_end(again);
	buf_commit(b, (size_t)n);
}

void buf_addf(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vaddf(b, fmt, ap);
	va_end(ap);
}

void buf_consume(struct buf *b, size_t n)
{
	if (n > b->len)
		n = b->len;
	if (!n)
		return;
	b->len -= n;
	memmove(b->p, b->p + n, b->len);
	b->p[b->len] = '\0';
}

void buf_truncate(struct buf *b, size_t len)
{
	/* Also at the same length: what was reserved and not committed may have been written over the NUL. */
	if (len > b->len || !b->p)
		return;
	b->len = len;
	b->p[len] = '\0';
}

char *buf_take(struct buf *b)
{
	char *p = b->p ? b->p : xstrdup("");

	*b = (struct buf){};
	return p;
}

void buf_done(struct buf *b)
{
	free(b->p);
	*b = (struct buf){};
}
