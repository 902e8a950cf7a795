/* Strict UTF-8: shortest forms only, no surrogates, nothing above U+10FFFF. */
#pragma once

#include <stddef.h>

#include "base/buf.h"

/* Length in bytes of the valid sequence at @s, which has @n bytes; 0 when there is none. */
size_t utf8_length(const char *s, size_t n);

/* Appends text of unknown origin so that it can be shown on a terminal: control characters (Latin-1's too) and bytes that are not
 * UTF-8 become '?'. Returns the number of characters. */
size_t utf8_add_shown(struct buf *b, const char *s);
/* A copy for a terminal or a log of what somebody else wrote, as above; of text longer than @max bytes the beginning and "...". Owned by the caller. */
char *utf8_shown(const char *s, size_t max);
