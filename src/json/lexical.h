/* The part of RFC 8259 that json-c is lax about, checked before it sees the text. */
#pragma once

#include <stddef.h>

enum { JSON_DEPTH_MAX = 64 };

/* Every token of @text is one that RFC 8259 knows: no single quotes, NaN, leading zeros, raw control characters or malformed UTF-8;
 * brackets are at most JSON_DEPTH_MAX deep; and nothing is there that we would read as something else: "\u0000" in a string (C strings
 * end there), whole numbers that fit neither int64_t nor uint64_t. The order of tokens is the parser's to check.
 * Returns NULL, or what is wrong, with the place in *ret_offset. */
const char *json_lexical_check(const char *text, size_t len, size_t *ret_offset);
