/* Bounds-checked reading of bytes from outside: a failure sticks and is checked once at the end. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct cursor {
	const uint8_t *p;
	const uint8_t *end;
	bool failed;
};

static inline struct cursor cursor_of(const void *p, size_t n)
{
	return (struct cursor){ .p = p, .end = n ? (const uint8_t *)p + n : p };
}
static inline size_t cursor_left(const struct cursor *c)
{
	return (size_t)(c->end - c->p);
}
/* @n bytes, or NULL and failed. */
static inline const uint8_t *cursor_bytes(struct cursor *c, size_t n)
{
	const uint8_t *p = c->p;

	if (c->failed || cursor_left(c) < n) {
		c->failed = true;
		return NULL;
	}
	c->p += n;
	return p;
}
static inline uint8_t cursor_u8(struct cursor *c)
{
	const uint8_t *p = cursor_bytes(c, 1);

	return p ? *p : 0;
}
static inline uint16_t cursor_u16be(struct cursor *c)
{
	const uint8_t *p = cursor_bytes(c, 2);

	return p ? (uint16_t)(p[0] << 8 | p[1]) : 0;
}
static inline uint32_t cursor_u32be(struct cursor *c)
{
	const uint8_t *p = cursor_bytes(c, 4);

	return p ? (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3] : 0;
}
static inline uint64_t cursor_u64be(struct cursor *c)
{
	uint64_t hi = cursor_u32be(c);

	return hi << 32 | cursor_u32be(c);
}
