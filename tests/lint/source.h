/* One source file as the rules see it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Three texts of equal length and equal line breaks:
 *   text  the file as it is
 *   code  comments and the contents of literals are spaces
 *   words comments are spaces, literals stay */
struct source {
	const char *path; /* borrowed, relative to the project: "src/base/buf.c" */
	bool has_header;  /* a .h of the same name lies beside it */
	struct buf text, code, words;
};

/* Takes C apart; anything else has code and words equal to text. */
void source_split(struct source *s);
void source_done(struct source *s);
size_t source_line(const struct source *s, size_t offset); /* from 1 */
/* Whether the line at @offset tells its own reason: a comment that begins with "lint:". */
bool source_excused(const struct source *s, size_t offset);
/* Offset of the next whole identifier @id at or after @from in @text, -1 when there is none. */
long source_identifier(const struct buf *text, const char *id, size_t from);
/* Offset just behind the ")" that closes the call whose name ends before @from; -1 when no "(" follows. */
long source_call_end(const struct buf *code, size_t from);
