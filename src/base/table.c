#include "base/table.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/parse.h"
#include "base/utf8.h"

enum { GAP = 2 };

struct table {
	const struct table_column *columns; /* borrowed */
	size_t n_columns;
	struct table_cell *cells; /* owned: rows one after the other */
	size_t n_cells, room;
};

struct table *table_new(const struct table_column *columns, size_t n_columns)
{
	struct table *t = xnew(struct table);

	assert(n_columns);
	t->columns = columns;
	t->n_columns = n_columns;
	return t;
}

struct table *table_free(struct table *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->n_cells; i++)
		free(t->cells[i].text);
	free(t->cells);
	free(t);
	return NULL;
}

static void add(struct table *t, struct table_cell cell)
{
	const struct table_column *column = &t->columns[t->n_cells % t->n_columns];

	/* A cell without a value takes its column's type. */
	if (!cell.set)
		cell.type = column->type;
	assert(cell.type == column->type);
	if (t->n_cells == t->room) {
		t->room = t->room ? t->room * 2 : 8 * t->n_columns;
		t->cells = xrealloc_array(t->cells, t->room, sizeof(*t->cells));
	}
	t->cells[t->n_cells++] = cell;
}

void table_text(struct table *t, const char *s)
{
	add(t, (struct table_cell){ .type = TABLE_TEXT, .text = xstrdup(s), .set = s != NULL });
}

void table_number(struct table *t, uint64_t v)
{
	add(t, (struct table_cell){ .type = TABLE_NUMBER, .number = v, .set = true });
}

void table_bytes(struct table *t, uint64_t bytes)
{
	add(t, (struct table_cell){ .type = TABLE_BYTES, .number = bytes, .set = true });
}

void table_bool(struct table *t, bool v)
{
	add(t, (struct table_cell){ .type = TABLE_BOOL, .number = v, .set = true });
}

void table_time(struct table *t, uint64_t realtime_ns)
{
	add(t, (struct table_cell){ .type = TABLE_TIME, .number = realtime_ns, .set = realtime_ns != 0 });
}

void table_none(struct table *t)
{
	add(t, (struct table_cell){});
}

size_t table_rows(const struct table *t)
{
	return t->n_cells / t->n_columns;
}

const struct table_cell *table_cell(const struct table *t, size_t row, size_t column)
{
	assert(row < table_rows(t) && column < t->n_columns);
	return &t->cells[row * t->n_columns + column];
}

/* Appends what a cell shows and returns its width. */
static size_t add_cell(struct buf *b, const struct table_cell *c, uint64_t now_ns)
{
	char text[32];

	if (!c->set)
		return utf8_add_shown(b, "-");
	switch (c->type) {
	case TABLE_TEXT: return utf8_add_shown(b, c->text);
	case TABLE_NUMBER: snprintf(text, sizeof(text), "%" PRIu64, c->number); break;
	case TABLE_BYTES: format_bytes(c->number, text, sizeof(text)); break;
	case TABLE_BOOL: return utf8_add_shown(b, c->number ? "yes" : "no");
	case TABLE_TIME:
		/* A time in the future: the clock was set back. */
		format_age(c->number < now_ns ? (now_ns - c->number) / NS_PER_SEC : 0, text, sizeof(text));
		break;
	}
	return utf8_add_shown(b, text);
}

static void add_spaces(struct buf *b, size_t n)
{
	while (n--)
		buf_addc(b, ' ');
}

/* Text stands left, quantities stand right. Spaces are only written before something, so that no line ends with them. */
static void add_aligned(struct buf *out, size_t *pending, enum table_type type, size_t column_width,
			const struct buf *text, size_t width)
{
	size_t fill = column_width - width;
	bool right = type == TABLE_NUMBER || type == TABLE_BYTES;

	if (width) {
		add_spaces(out, *pending + (right ? fill : 0));
		buf_add(out, text->p, text->len);
		*pending = (right ? 0 : fill) + GAP;
	} else {
		*pending += column_width + GAP;
	}
}

static void measure(const struct table *t, bool header, uint64_t now_ns, size_t *widths)
{
	_cleanup_buf_ struct buf text = {};

	for (size_t c = 0; c < t->n_columns; c++) {
		if (header && t->columns[c].title)
			widths[c] = utf8_add_shown(&text, t->columns[c].title);
		buf_truncate(&text, 0);
	}
	for (size_t i = 0; i < table_rows(t) * t->n_columns; i++) {
		size_t width = add_cell(&text, &t->cells[i], now_ns), *widest = &widths[i % t->n_columns];

		if (width > *widest)
			*widest = width;
		buf_truncate(&text, 0);
	}
}

void table_render(const struct table *t, bool header, struct buf *out)
{
	_cleanup_free_ size_t *widths = xnew_n(size_t, t->n_columns);
	_cleanup_buf_ struct buf text = {};
	uint64_t now_ns = clock_realtime_ns();
	size_t pending = 0;

	measure(t, header, now_ns, widths);
	for (size_t c = 0; header && c < t->n_columns; c++) {
		const struct table_column *column = &t->columns[c];
		size_t width;

		if (!column->title)
			continue;
		buf_truncate(&text, 0);
		width = utf8_add_shown(&text, column->title);
		add_aligned(out, &pending, column->type, widths[c], &text, width);
	}
	if (header)
		buf_addc(out, '\n');
	for (size_t row = 0; row < table_rows(t); row++) {
		pending = 0;
		for (size_t c = 0; c < t->n_columns; c++) {
			size_t width;

			if (!t->columns[c].title)
				continue;
			buf_truncate(&text, 0);
			width = add_cell(&text, table_cell(t, row, c), now_ns);
			add_aligned(out, &pending, t->columns[c].type, widths[c], &text, width);
		}
		buf_addc(out, '\n');
	}
}
