/* Addresses of the web, as libcurl reads them: what is compared and what is spoken to are read by the same parser. */
#pragma once

#include <stdbool.h>

/* "HOST[:PORT]", owned by the caller, or NULL for what is no address. */
char *address_host(const char *url);
bool address_is_tls(const char *url);
/* Scheme, host and port are the same, a default port being as good as one that is written. */
bool address_same_origin(const char *a, const char *b);
/* Where @location, relative or not, leads from @base. Owned by the caller; NULL for what is no address. */
char *address_resolve(const char *base, const char *location);
/* @text for use in a query or a form. Owned by the caller. */
char *address_escape(const char *text);
