#include "source.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

enum state { CODE, LINE_COMMENT, BLOCK_COMMENT, STRING, CHARACTER };

static bool is_c(const char *path)
{
	size_t n = strlen(path);

	return n > 2 && path[n - 2] == '.' && (path[n - 1] == 'c' || path[n - 1] == 'h');
}

static enum state enter(const char *p)
{
	if (p[0] == '/' && p[1] == '/')
		return LINE_COMMENT;
	if (p[0] == '/' && p[1] == '*')
		return BLOCK_COMMENT;
	return p[0] == '"' ? STRING : p[0] == '\'' ? CHARACTER : CODE;
}

static void blank(struct buf *b, size_t from, size_t n)
{
	for (size_t i = from; i < from + n && i < b->len; i++)
		if (b->p[i] != '\n')
			b->p[i] = ' ';
}

void source_split(struct source *s)
{
	const char *t = s->text.p;
	enum state state = CODE;

	buf_add(&s->code, t, s->text.len);
	buf_add(&s->words, t, s->text.len);
	if (!is_c(s->path))
		return;
	for (size_t i = 0; i < s->text.len; i++) {
		bool quoted = state == STRING || state == CHARACTER;
		size_t n = 1;

		if (state == CODE) {
			state = enter(t + i);
			if (state == LINE_COMMENT || state == BLOCK_COMMENT) {
				n = 2;
				blank(&s->code, i, n);
				blank(&s->words, i, n);
			}
		} else if (quoted && t[i] == '\\') {
			n = 2;
			blank(&s->code, i, n);
		} else if (t[i] == (state == STRING ? '"' : '\'') && quoted) {
			state = CODE;
		} else if (state == BLOCK_COMMENT && t[i] == '*' && t[i + 1] == '/') {
			n = 2;
			blank(&s->code, i, n);
			blank(&s->words, i, n);
			state = CODE;
		} else if (t[i] == '\n' && state != BLOCK_COMMENT) {
			state = CODE;
		} else {
			blank(&s->code, i, n);
			if (!quoted)
				blank(&s->words, i, n);
		}
		i += n - 1;
	}
}

void source_done(struct source *s)
{
	buf_done(&s->text);
	buf_done(&s->code);
	buf_done(&s->words);
}

size_t source_line(const struct source *s, size_t offset)
{
	size_t line = 1;

	for (size_t i = 0; i < offset && i < s->text.len; i++)
		line += s->text.p[i] == '\n';
	return line;
}

bool source_excused(const struct source *s, size_t offset)
{
	const char *end = memchr(s->text.p + offset, '\n', s->text.len - offset);
	const char *note = strstr(s->text.p + offset, "/* lint: ");

	return note && (!end || note < end);
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_';
}

long source_identifier(const struct buf *text, const char *id, size_t from)
{
	size_t n = strlen(id);

	for (const char *p = text->p + from; from <= text->len && (p = strstr(p, id)); p++)
		if ((p == text->p || !is_word(p[-1])) && !is_word(p[n]))
			return p - text->p;
	return -1;
}

long source_call_end(const struct buf *code, size_t from)
{
	unsigned depth = 0;

	while (from < code->len && isspace((unsigned char)code->p[from]))
		from++;
	if (from >= code->len || code->p[from] != '(')
		return -1;
	for (; from < code->len; from++) {
		depth += code->p[from] == '(';
		if (code->p[from] == ')' && --depth == 0)
			return (long)from + 1;
	}
	return -1;
}
