/* One growable byte buffer; always NUL-terminated once anything was added, so text needs no second type. */
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"

struct buf {
	char *p;    /* owned; NULL while empty */
	size_t len; /* bytes in use, without the NUL */
	size_t cap;
};

void buf_add(struct buf *b, const void *p, size_t n);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) _printf_(2, 3);
void buf_vaddf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* @n writable bytes at the end, not counted until buf_commit(). */
void *buf_reserve(struct buf *b, size_t n);
void buf_commit(struct buf *b, size_t n);
/* Drops the first @n bytes. */
void buf_consume(struct buf *b, size_t n);
void buf_truncate(struct buf *b, size_t len);
/* The text, owned by the caller ("" when empty); @b is empty afterwards. */
char *buf_take(struct buf *b);
void buf_done(struct buf *b);
#define _cleanup_buf_ _cleanup_(buf_done)
