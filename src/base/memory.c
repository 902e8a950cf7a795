#include "base/memory.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>

static _noreturn_ void out_of_memory(void)
{
	static const char text[] = "skerry: out of memory\n";
	ssize_t n = write(STDERR_FILENO, text, sizeof(text) - 1);

	(void)n;
	abort();
}

void *xcalloc(size_t n, size_t size)
{
	/* calloc checks the product; a size of 0 still gives a pointer of its own. */
	void *p = n && size ? calloc(n, size) : calloc(1, 1);

	if (!p)
		out_of_memory();
	return p;
}

void *xrealloc_array(void *p, size_t n, size_t size)
{
	size_t bytes;

	if (__builtin_mul_overflow(n, size, &bytes))
		out_of_memory();
	p = realloc(p, bytes ? bytes : 1);
	if (!p)
		out_of_memory();
	return p;
}

char *xstrdup(const char *s)
{
	return s ? xmemdup(s, strlen(s) + 1) : NULL;
}

char *xstrndup(const char *s, size_t n)
{
	size_t len = strnlen(s, n);
	char *r = xcalloc(len + 1, 1);

	memcpy(r, s, len);
	return r;
}

void *xmemdup(const void *p, size_t n)
{
	void *r = xcalloc(n ? n : 1, 1);

	if (n)
		memcpy(r, p, n);
	return r;
}

char *xvasprintf(const char *fmt, va_list ap)
{
	char *s;

	if (vasprintf(&s, fmt, ap) < 0)
		out_of_memory();
	return s;
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = xvasprintf(fmt, ap);
	va_end(ap);
	return s;
}

int try_alloc(size_t n, size_t limit, void **ret)
{
	void *p;

	if (n > limit)
		return -E2BIG;
	p = calloc(1, n ? n : 1);
	if (!p)
		return -ENOMEM;
	*ret = p;
	return 0;
}

void strv_take(struct strv *v, char *s)
{
	/* Grows by doubling: the capacity is the power of two that holds n + 1 (the NULL). */
	if (!v->items || ((v->n + 1) & v->n) == 0)
		v->items = xrealloc_array(v->items, (v->n + 1) * 2, sizeof(*v->items));
	v->items[v->n++] = s;
	v->items[v->n] = NULL;
}

void strv_add(struct strv *v, const char *s)
{
	strv_take(v, xstrdup(s));
}

void strv_addf(struct strv *v, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strv_take(v, xvasprintf(fmt, ap));
	va_end(ap);
}

void strv_copy(struct strv *to, const struct strv *from)
{
	/* The count is read first: a vector may be appended to itself. */
	for (size_t i = 0, n = from->n; i < n; i++)
		strv_add(to, from->items[i]);
}

bool strv_has(const struct strv *v, const char *s)
{
	for (size_t i = 0; i < v->n; i++)
		if (streq(v->items[i], s))
			return true;
	return false;
}

void strv_done(struct strv *v)
{
	for (size_t i = 0; i < v->n; i++)
		free(v->items[i]);
	free(v->items);
	*v = (struct strv){};
}
