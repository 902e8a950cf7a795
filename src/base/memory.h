/* Allocation. Small sizes that the program itself chooses abort when memory is out; a size that comes from outside goes through
 * try_alloc(). */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "base/cleanup.h"

void *xcalloc(size_t n, size_t size);                 /* zeroed; aborts when out of memory or n*size overflows */
void *xrealloc_array(void *p, size_t n, size_t size); /* aborts likewise */
char *xstrdup(const char *s);                         /* NULL gives NULL */
char *xstrndup(const char *s, size_t n);
void *xmemdup(const void *p, size_t n);
char *xasprintf(const char *fmt, ...) _printf_(1, 2);
char *xvasprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

#define xnew(T)      ((T *)xcalloc(1, sizeof(T)))
#define xnew_n(T, n) ((T *)xcalloc((n), sizeof(T)))

/* Zeroed memory of a size that came from outside. Errors: -E2BIG above @limit, -ENOMEM. @ret is owned by the caller. */
int try_alloc(size_t n, size_t limit, void **ret);

/* A NULL-terminated vector of owned strings. */
struct strv {
	char **items; /* owned; NULL when empty */
	size_t n;
};
void strv_add(struct strv *v, const char *s); /* copies */
void strv_addf(struct strv *v, const char *fmt, ...) _printf_(2, 3);
void strv_take(struct strv *v, char *s);                  /* owns @s from now on */
void strv_copy(struct strv *to, const struct strv *from); /* appends copies */
bool strv_has(const struct strv *v, const char *s);
void strv_done(struct strv *v);
#define _cleanup_strv_ _cleanup_(strv_done)

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}
/* The rest of @s after @prefix, or NULL. */
static inline const char *after_prefix(const char *s, const char *prefix)
{
	size_t n = strlen(prefix);

	return strncmp(s, prefix, n) == 0 ? s + n : NULL;
}
