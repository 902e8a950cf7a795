#include "cli/filter.h"

static enum filter_state filter_text(unsigned char c, struct buf *out)
{
	if (c == 0x1b)
		return FILTER_ESCAPE;
	/* U+0080..U+009F are the control characters of 8-bit terminals; in UTF-8 they begin with this byte. */
	if (c == 0xc2)
		return FILTER_C2;
	if (c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f))
		buf_addc(out, (char)c);
	return FILTER_TEXT;
}

static enum filter_state filter_byte(enum filter_state state, unsigned char c, struct buf *out)
{
	switch (state) {
	case FILTER_TEXT: return filter_text(c, out);
	case FILTER_ESCAPE:
		if (c == '[')
			return FILTER_CSI;
		if (c == ']' || c == 'P' || c == 'X' || c == '^' || c == '_')
			return FILTER_STRING;
		/* Intermediate bytes (ESC ( B) precede the final one. */
		return c >= 0x20 && c <= 0x2f ? FILTER_ESCAPE : FILTER_TEXT;
	case FILTER_CSI:
		if (c == '\n')
			return filter_text(c, out);
		return c >= 0x40 && c <= 0x7e ? FILTER_TEXT : FILTER_CSI;
	case FILTER_STRING:
		/* A string that never ends would eat the rest of the log. */
		if (c == '\n')
			return filter_text(c, out);
		if (c == 0x1b)
			return FILTER_STRING_ESCAPE;
		return c == 0x07 ? FILTER_TEXT : FILTER_STRING;
	case FILTER_STRING_ESCAPE: return c == '\\' ? FILTER_TEXT : filter_byte(FILTER_ESCAPE, c, out);
	case FILTER_C2:
		if (c >= 0x80 && c <= 0x9f)
			return FILTER_TEXT;
		buf_addc(out, (char)0xc2);
		return filter_text(c, out);
	}
	return FILTER_TEXT;
}

void filter_add(struct filter *f, const char *text, size_t len, struct buf *out)
{
	for (size_t i = 0; i < len; i++)
		f->state = filter_byte(f->state, (unsigned char)text[i], out);
}
