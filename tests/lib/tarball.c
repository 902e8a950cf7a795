#include "tarball.h"

#include <stdio.h>
#include <string.h>

enum { BLOCK = 512, SUM_AT = 148 };

static void put_octal(char *field, size_t n, uint64_t v)
{
	for (size_t i = n - 1; i-- > 0; v >>= 3)
		field[i] = (char)('0' + (v & 7));
}

void tarball_sum(struct buf *out, size_t at)
{
	uint8_t *h = (uint8_t *)out->p + at;
	unsigned sum = 0;

	memset(h + SUM_AT, ' ', 8);
	for (size_t i = 0; i < BLOCK; i++)
		sum += h[i];
	(void)snprintf((char *)h + SUM_AT, 8, "%06o", sum);
}

static void pad(struct buf *out)
{
	static const char zeros[BLOCK];

	buf_add(out, zeros, -out->len % BLOCK);
}

void tarball_add(struct buf *out, const struct tarball_entry *e)
{
	char h[BLOCK] = {}, type = e->type ? e->type : '0';
	size_t at = out->len;

	memcpy(h, e->name, strnlen(e->name, 100));
	put_octal(h + 100, 8, e->mode ? e->mode : type == '5' ? 0755 : 0644);
	put_octal(h + 108, 8, e->uid);
	put_octal(h + 116, 8, e->gid);
	put_octal(h + 124, 12, e->size ? e->size : e->n);
	put_octal(h + 136, 12, e->mtime);
	h[156] = type;
	if (e->link)
		memcpy(h + 157, e->link, strnlen(e->link, 100));
	memcpy(h + 257, "ustar\00000", 8);
	put_octal(h + 329, 8, e->major);
	put_octal(h + 337, 8, e->minor);
	buf_add(out, h, BLOCK);
	tarball_sum(out, at);
	if (e->n)
		buf_add(out, e->content, e->n);
	pad(out);
}

void tarball_record(struct buf *records, const char *key, const void *value, size_t n)
{
	size_t body = strlen(key) + n + 3, len = body;
	char digits[24];

	/* The length counts its own digits. */
	do
		len = body + (size_t)snprintf(digits, sizeof(digits), "%zu", len);
	while (body + strlen(digits) != len || (size_t)snprintf(digits, sizeof(digits), "%zu", len) + body != len);
	buf_addf(records, "%zu %s=", len, key);
	buf_add(records, value, n);
	buf_addc(records, '\n');
}

void tarball_extended(struct buf *out, char type, const struct buf *records)
{
	tarball_add(out, &(struct tarball_entry){
				 .name = "PaxHeaders/x", .type = type, .content = records->p, .n = records->len });
}

void tarball_end(struct buf *out)
{
	static const char zeros[2 * BLOCK];

	buf_add(out, zeros, sizeof(zeros));
}

void tarball_file(struct buf *out, const char *name, const char *text)
{
	tarball_add(out, &(struct tarball_entry){ .name = name, .content = text, .n = strlen(text) });
}

void tarball_dir(struct buf *out, const char *name)
{
	tarball_add(out, &(struct tarball_entry){ .name = name, .type = '5' });
}

void tarball_link(struct buf *out, char type, const char *name, const char *target)
{
	tarball_add(out, &(struct tarball_entry){ .name = name, .type = type, .mode = 0777, .link = target });
}
