/* Names that become file names, checked once and carried as their own type. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

/* Machine, kernel and home names: [A-Za-z0-9][A-Za-z0-9._-]{0,62}, so that one also serves as a host name label (RFC 1123 length). */
struct name {
	char s[64];
};

/* @what is the noun for the message ("machine name"). Errors: -EINVAL (kind USAGE, exit 64) that says which rule was broken; a long or
 * unprintable input is quoted shortened and escaped. */
int name_parse(const char *s, const char *what, struct name *ret, struct error *err);
