/* What every command prints in the same way. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/table.h"
#include "json/json.h"

enum output_format { FORMAT_TABLE, FORMAT_JSON };
#define FORMAT_WORDS     "table|json"
#define FORMAT_OPTION(S) CHOICE(0, "format", "table|json", S, format, "How to print", .words = FORMAT_WORDS)
#define QUIET_OPTION(S)  FLAG('q', "quiet", S, quiet, "Print names only")

/* Writes all of it to standard output, also where somebody who has it too made it one that does not block. Returns 0 or -errno. */
int output_all(const char *text, size_t len);
/* Writes all of it to standard output. Errors: -EPIPE and the like, with a message. */
int output_text(const char *text, size_t len, struct error *err);
int output_line(struct error *err, const char *fmt, ...) _printf_(2, 3);
/* Indented JSON. */
int output_json(const struct json *j, struct error *err);
/* The table as text or as a JSON array of objects; @quiet: the first column only, one per line. Frees nothing. */
int output_table(const struct table *t, const struct table_column *columns, size_t n_columns, int format, bool quiet,
		 struct error *err);

/* "skerry: …" and "hint: …" on standard error. */
void output_error(const struct error *err);
/* One line for a person on standard error: "skerry: …". */
void output_notice(const char *fmt, ...) _printf_(1, 2);
/* Asks on the terminal: true only for y or yes. */
bool output_confirm(const char *question);
