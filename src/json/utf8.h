/* Strict UTF-8: shortest forms only, no surrogates, nothing above U+10FFFF. */
#pragma once

#include <stddef.h>

/* Length in bytes of the valid sequence at @s, which has @n bytes; 0 when there is none. */
size_t utf8_length(const char *s, size_t n);
