/* What resolv.conf says. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/memory.h"

/* Reads the text of a resolv.conf: true when it names a server; search domains (the last "search" or "domain" line, at most 6 that look like
 * domain names) are added to @search. Anything else is skipped. */
bool resolv_parse(const char *text, size_t len, struct strv *search);
