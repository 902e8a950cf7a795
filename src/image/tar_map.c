/* Files with holes, in the four ways in which GNU tar has written them: a map in the header and blocks behind it (old), in records one by one
 * (0.0), in one record (0.1), or as text before the content (1.0, today's). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parse.h"
#include "image/tar_parts.h"

enum { IN_HEADER = 4, IN_BLOCK = 21, FIELD = 12, HEADER_AT = 386, MORE_AT = 482, SIZE_AT = 483, BLOCK_MORE_AT = 504 };

void tar_map_done(struct tar_map *m)
{
	free(m->items);
	free(m->name.p);
	*m = (struct tar_map){};
}

static int bad_map(struct tar *t, struct error *err)
{
	return tar_bad(t, err, "its map of holes is damaged");
}

static int add_offset(struct tar *t, uint64_t offset, struct error *err)
{
	struct tar_map *m = &t->map;

	if (m->half)
		return bad_map(t, err);
	if (m->n == TAR_PIECES_MAX)
		return tar_bad(t, err, "it has too many holes");
	if (m->n == m->cap) {
		m->cap = m->cap ? m->cap * 2 : 16;
		m->items = xrealloc_array(m->items, m->cap, sizeof(*m->items));
	}
	m->items[m->n] = (struct tar_piece){ .offset = offset };
	m->half = true;
	m->is_sparse = true;
	return 0;
}

static int add_size(struct tar *t, uint64_t size, struct error *err)
{
	struct tar_map *m = &t->map;

	if (!m->half)
		return bad_map(t, err);
	m->items[m->n++].size = size;
	m->half = false;
	return 0;
}

static int add_number(struct tar *t, const char *p, size_t len, bool is_size, struct error *err)
{
	_cleanup_free_ char *text = xstrndup(p, len);
	uint64_t v;

	if (parse_u64(text, 0, INT64_MAX, &v) < 0)
		return bad_map(t, err);
	return is_size ? add_size(t, v, err) : add_offset(t, v, err);
}

/* "0,512,4096,512": offsets and sizes in turn. */
static int parse_list(struct tar *t, const char *p, struct error *err)
{
	bool is_size = false;
	int r = 0;

	t->map.n = 0;
	t->map.half = false;
	t->map.is_sparse = true;
	while (r >= 0 && *p) {
		size_t n = strcspn(p, ",");

		r = add_number(t, p, n, is_size, err);
		is_size = !is_size;
		p += n + (p[n] == ',');
	}
	return r;
}

int tar_map_record(struct tar *t, const char *key, const char *value, size_t len, struct error *err)
{
	struct tar_map *m = &t->map;

	if (streq(key, "name"))
		return tar_text_set(t, &m->name, value, len, err);
	if (strlen(value) != len)
		return bad_map(t, err);
	if (streq(key, "major"))
		return parse_u64(value, 0, 1, &m->major) < 0 ? bad_map(t, err) : 0;
	if (streq(key, "minor"))
		return parse_u64(value, 0, 1, &m->minor) < 0 ? bad_map(t, err) : 0;
	if (streq(key, "size") || streq(key, "realsize")) {
		m->has_real_size = true;
		m->is_sparse = true;
		return parse_u64(value, 0, INT64_MAX, &m->real_size) < 0 ? bad_map(t, err) : 0;
	}
	if (streq(key, "offset"))
		return add_number(t, value, len, false, err);
	if (streq(key, "numbytes"))
		return add_number(t, value, len, true, err);
	if (streq(key, "map"))
		return parse_list(t, value, err);
	return 0; /* numblocks: what the records say by themselves */
}

static int add_pair(struct tar *t, const char *p, struct error *err)
{
	int64_t offset, size;
	int r;

	if (!tar_number(p, FIELD, &offset) || !tar_number(p + FIELD, FIELD, &size) || offset < 0 || size < 0)
		return bad_map(t, err);
	r = add_offset(t, (uint64_t)offset, err);
	return r < 0 ? r : add_size(t, (uint64_t)size, err);
}

static int add_pairs(struct tar *t, const char *p, size_t n, struct error *err)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n && p[i * FIELD * 2]; i++)
		r = add_pair(t, p + i * FIELD * 2, err);
	return r;
}

int tar_map_from_header(struct tar *t, const struct tar_header *h, struct error *err)
{
	const char *raw = (const char *)h;
	bool more = raw[MORE_AT];
	int64_t size;
	int r;

	tar_map_done(&t->map);
	if (!tar_number(raw + SIZE_AT, FIELD, &size) || size < 0)
		return bad_map(t, err);
	t->map.is_sparse = t->map.has_real_size = true;
	t->map.real_size = (uint64_t)size;
	r = add_pairs(t, raw + HEADER_AT, IN_HEADER, err);
	while (r >= 0 && more) {
		const uint8_t *block;

		r = tar_take_block(t, &block, err);
		if (r == 0)
			return bad_map(t, err);
		if (r > 0)
			r = add_pairs(t, (const char *)block, IN_BLOCK, err);
		more = r >= 0 && block[BLOCK_MORE_AT];
	}
	return r;
}

/* Version 1.0: a count, then offsets and sizes, a line for each, padded to whole blocks. */
struct lines {
	const uint8_t *block;
	size_t at;
};

static int read_line(struct tar *t, struct lines *l, uint64_t *ret, struct error *err)
{
	char text[24];
	size_t n = 0;

	for (;; l->at++) {
		if (!l->block || l->at == TAR_BLOCK) {
			int r;

			if (t->content_left < TAR_BLOCK)
				return bad_map(t, err);
			r = tar_take_block(t, &l->block, err);
			if (r <= 0)
				return r < 0 ? r : bad_map(t, err);
			t->content_left -= TAR_BLOCK;
			l->at = 0;
		}
		if (l->block[l->at] == '\n')
			break;
		if (n == sizeof(text) - 1)
			return bad_map(t, err);
		text[n++] = (char)l->block[l->at];
	}
	l->at++;
	text[n] = '\0';
	return strlen(text) != n || parse_u64(text, 0, INT64_MAX, ret) < 0 ? bad_map(t, err) : 0;
}

int tar_map_prepare(struct tar *t, struct error *err)
{
	struct tar_map *m = &t->map;
	struct lines lines = {};
	uint64_t count, v;
	int r;

	if (m->half)
		return bad_map(t, err);
	if (m->major != 1)
		return 0;
	m->n = 0;
	m->is_sparse = true;
	r = read_line(t, &lines, &count, err);
	if (r >= 0 && count > TAR_PIECES_MAX)
		return tar_bad(t, err, "it has too many holes");
	for (uint64_t i = 0; r >= 0 && i < count * 2; i++) {
		r = read_line(t, &lines, &v, err);
		if (r >= 0)
			r = i % 2 ? add_size(t, v, err) : add_offset(t, v, err);
	}
	return r;
}

/* Ascending, apart from each other, inside the file, and as long together as what is stored. */
int tar_map_check(struct tar *t, struct error *err)
{
	struct tar_map *m = &t->map;
	uint64_t end = 0, sum = 0;

	if (!m->has_real_size)
		return bad_map(t, err);
	for (size_t i = 0; i < m->n; i++) {
		const struct tar_piece *p = &m->items[i];

		if (p->offset < end || p->offset > m->real_size || p->size > m->real_size - p->offset)
			return bad_map(t, err);
		end = p->offset + p->size;
		sum += p->size;
	}
	return sum == t->content_left ? 0 : bad_map(t, err);
}
