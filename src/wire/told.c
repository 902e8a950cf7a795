#include "wire/told.h"

#include <string.h>

enum { LABEL_MAX = 63, NAME_MAX_BYTES = 255 };

void told_add(struct told_out *o, const void *p, size_t n)
{
	if (o->failed || o->size - o->n < n) {
		o->failed = true;
		return;
	}
	if (n)
		memcpy(o->p + o->n, p, n);
	o->n += n;
}

void told_add8(struct told_out *o, uint8_t v)
{
	told_add(o, &v, 1);
}

void told_add16(struct told_out *o, uint16_t v)
{
	const uint8_t p[] = { (uint8_t)(v >> 8), (uint8_t)v };

	told_add(o, p, sizeof(p));
}

void told_add32(struct told_out *o, uint32_t v)
{
	told_add16(o, (uint16_t)(v >> 16));
	told_add16(o, (uint16_t)v);
}

/* 0: @name is none. */
static size_t encode(const char *name, uint8_t out[NAME_MAX_BYTES])
{
	size_t n = 0;

	while (*name) {
		size_t label = strcspn(name, ".");

		if (label == 0 || label > LABEL_MAX || n + 1 + label + 1 > NAME_MAX_BYTES)
			return 0;
		out[n++] = (uint8_t)label;
		memcpy(out + n, name, label);
		n += label;
		name += label;
		if (*name == '.')
			name++;
	}
	if (n == 0)
		return 0;
	out[n++] = 0;
	return n;
}

void told_add_domains(struct told_out *o, const struct told *t)
{
	uint8_t name[NAME_MAX_BYTES];

	for (size_t i = 0; i < t->n_domains; i++)
		told_add(o, name, encode(t->domains[i], name));
}
