/* Text from a guest or a record on its way to a terminal: what could drive the terminal is taken out. The state lives across pieces. */
#pragma once

#include <stddef.h>

#include "base/buf.h"

enum filter_state { FILTER_TEXT, FILTER_ESCAPE, FILTER_CSI, FILTER_STRING, FILTER_STRING_ESCAPE, FILTER_C2 };

struct filter {
	enum filter_state state; /* zeroed = start */
};

/* Appends @text without escape sequences and control characters; newline and tab stay. */
void filter_add(struct filter *f, const char *text, size_t len, struct buf *out);
