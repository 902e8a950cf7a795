/* Who may see the page: whoever knows its token, or has the cookie that a visit with the token left. Pure: what is compared takes the same time
 * whatever is sent, and nothing of it is kept. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { ACCESS_HEX = 64 };

struct access {
	char token[ACCESS_HEX + 1];  /* its digest: the token itself is not kept */
	char cookie[ACCESS_HEX + 1]; /* the cookie's value: made from the token, so that it outlives this process */
	char name[16];               /* the cookie's: browsers keep one jar for all ports of a host */
};

void access_init(struct access *a, const char *token);
bool access_token_fits(const struct access *a, const char *token);
/* @header: "Cookie:", NAME=VALUE; … (RFC 6265, 5.4). */
bool access_cookie_fits(const struct access *a, const char *header);
/* A page that a browser got from elsewhere says so: @origin ("Origin:", RFC 6454) is http or https of @host ("Host:") and nothing else; whether
 * a proxy in front speaks TLS is not known here. */
bool access_origin_fits(const char *origin, const char *host);
