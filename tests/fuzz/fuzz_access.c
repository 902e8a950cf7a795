/* What a browser sends to be let in to the console's page: "Cookie:", "Origin:" with "Host:", and the token of an address, as lines. The secrets stand in it
 * as single bytes, so that they are met at all: 1 the cookie's name, 2 its value, 3 the token, 4 the host. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/memory.h"
#include "docker/web/access.h"

#define TOKEN "0123456789abcdef0123456789abcdef0123456789abcdef"
#define HOST  "harbour:8006"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One line, with the secrets in their places; what is behind a NUL is in no header. */
static char *next_line(const struct access *a, const uint8_t **data, size_t *size)
{
	struct buf b = {};

	buf_adds(&b, "");
	for (; *size; ++*data, --*size) {
		uint8_t c = **data;

		if (c == '\n') {
			++*data;
			--*size;
			break;
		}
		if (c == 1)
			buf_adds(&b, a->name);
		else if (c == 2)
			buf_adds(&b, a->cookie);
		else if (c == 3)
			buf_adds(&b, TOKEN);
		else if (c == 4)
			buf_adds(&b, HOST);
		else if (c)
			buf_addc(&b, (char)c);
	}
	return b.p ? buf_take(&b) : xstrdup("");
}

/* Is the very cookie there, as a cookie of its own? */
static bool has_cookie(const struct access *a, const char *header)
{
	_cleanup_free_ char *whole = xasprintf("%s=%s", a->name, a->cookie);
	size_t n = strlen(whole);

	for (const char *p = header; (p = strstr(p, whole)); p++) {
		const char *begin = p;

		while (begin > header && (begin[-1] == ' ' || begin[-1] == '\t'))
			begin--;
		if ((begin == header || begin[-1] == ';') && (!p[n] || strchr("; \t", p[n])))
			return true;
	}
	return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_free_ char *cookie = NULL, *origin = NULL, *host = NULL, *token = NULL;
	struct access a;
	const char *after;

	access_init(&a, TOKEN);
	cookie = next_line(&a, &data, &size);
	origin = next_line(&a, &data, &size);
	host = next_line(&a, &data, &size);
	token = next_line(&a, &data, &size);
	if (access_cookie_fits(&a, cookie) != has_cookie(&a, cookie))
		abort();
	if (access_token_fits(&a, token) != streq(token, TOKEN))
		abort();
	after = strstr(origin, "://");
	if (access_origin_fits(origin, host) &&
	    (!*host || !after || strcasecmp(after + 3, host) != 0 || strncmp(origin, "http", 4) != 0))
		abort();
	return 0;
}
