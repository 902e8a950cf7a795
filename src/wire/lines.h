/* Newline-framed text (QMP): bytes in, lines out, bounded. */
#pragma once

#include <stddef.h>

#include "base/buf.h"

/* Takes one line from the front of @in: 1 with *ret_line (borrowed, not NUL-terminated, without CR/LF) and *ret_used to consume;
 * 0 when incomplete; -EMSGSIZE when more than @max bytes hold no newline. */
int lines_next(const struct buf *in, size_t max, const char **ret_line, size_t *ret_len, size_t *ret_used);
