/* A table for people: columns sized to content, header, no borders. Cells are kept as typed values, so that a caller can render the
 * same table as JSON. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum table_type { TABLE_TEXT, TABLE_NUMBER, TABLE_BYTES, TABLE_BOOL, TABLE_TIME };

struct table_column {
	const char *key;   /* JSON key: "memory_bytes" */
	const char *title; /* "MEMORY"; NULL = JSON only */
	enum table_type type;
};

struct table_cell {
	enum table_type type;
	char *text;      /* owned; NULL = no value (shown as "-", null in JSON) */
	uint64_t number; /* for all but TEXT */
	bool set;
};

struct table;
struct table *table_new(const struct table_column *columns,
			size_t n_columns); /* columns are borrowed and outlive the table */
struct table *table_free(struct table *t);
/* Fill a row from left to right; a row ends when all its columns are filled. */
void table_text(struct table *t, const char *s); /* NULL = no value */
void table_number(struct table *t, uint64_t v);
void table_bytes(struct table *t, uint64_t bytes);
void table_bool(struct table *t, bool v);
void table_time(struct table *t, uint64_t realtime_ns); /* 0 = no value; shown as an age */
void table_none(struct table *t);
size_t table_rows(const struct table *t);
const struct table_cell *table_cell(const struct table *t, size_t row, size_t column);
/* Appends the text form. Control characters in cells are shown as '?': a name from outside must not drive a terminal. */
void table_render(const struct table *t, bool header, struct buf *out);
