#include "docker/web/access.h"

#include <stdlib.h>

#include "base/memory.h"
#include "test.h"

#define TOKEN "0123456789abcdef0123456789abcdef"

TEST(the_token_fits_and_nothing_else_does)
{
	struct access a;

	access_init(&a, TOKEN);
	ASSERT(access_token_fits(&a, TOKEN));
	ASSERT(!access_token_fits(&a, ""));
	ASSERT(!access_token_fits(&a, TOKEN "0"));
	ASSERT(!access_token_fits(&a, "0123456789abcdef0123456789abcdeF"));
	/* It is not kept, and its digest is not another token. */
	ASSERT(!strstr(a.token, TOKEN) && !strstr(a.cookie, TOKEN));
	ASSERT(!access_token_fits(&a, a.token));
	ASSERT(!access_token_fits(&a, a.cookie));
}

static bool fits(const struct access *a, const char *before, const char *name, const char *value, const char *after)
{
	_cleanup_free_ char *header = xasprintf("%s%s=%s%s", before, name, value, after);

	return access_cookie_fits(a, header);
}

TEST(the_cookie_is_found_among_others)
{
	_cleanup_free_ char *long_name = NULL, *longer = NULL;
	struct access a, other;

	access_init(&a, TOKEN);
	access_init(&other, TOKEN "0");
	ASSERT(fits(&a, "", a.name, a.cookie, ""));
	ASSERT(fits(&a, "x=1; ", a.name, a.cookie, ""));
	ASSERT(fits(&a, "", a.name, a.cookie, "; y=2"));
	ASSERT(fits(&a, "skerry-00000000=0;  ", a.name, a.cookie, ";"));
	ASSERT(fits(&a, "", a.name, "stale; ", "") == false);
	/* Two of one name: an old one for another path may come first. */
	long_name = xasprintf("%s=stale; ", a.name);
	ASSERT(fits(&a, long_name, a.name, a.cookie, ""));
	ASSERT(!fits(&a, "", a.name, other.cookie, ""));
	ASSERT(!fits(&a, "", other.name, a.cookie, ""));
	ASSERT(!fits(&a, "x", a.name, a.cookie, ""));
	ASSERT(!fits(&a, "", "x", a.cookie, ""));
	longer = xasprintf("%s0", a.cookie);
	ASSERT(!fits(&a, "", a.name, longer, ""));
	ASSERT(!fits(&a, "", a.name, "", ""));
	ASSERT(!access_cookie_fits(&a, ""));
	ASSERT(!access_cookie_fits(&a, ";;; ;=;"));
	ASSERT(!access_cookie_fits(&a, a.name));
}

TEST(two_volumes_cookies_do_not_meet)
{
	struct access a, b;

	access_init(&a, TOKEN);
	access_init(&b, "another.token-of_16~");
	ASSERT(strcmp(a.name, b.name) != 0 && strcmp(a.cookie, b.cookie) != 0);
}

TEST(an_origin_is_this_host_or_it_is_elsewhere)
{
	ASSERT(access_origin_fits("http://localhost:8080", "localhost:8080"));
	ASSERT(access_origin_fits("https://localhost:8080", "localhost:8080"));
	ASSERT(access_origin_fits("http://[::1]:8080", "[::1]:8080"));
	ASSERT(access_origin_fits("https://Console.example", "console.example"));
	ASSERT(!access_origin_fits("http://localhost:9090", "localhost:8080"));
	ASSERT(!access_origin_fits("http://localhost", "localhost:8080"));
	ASSERT(!access_origin_fits("http://localhost:8080.example", "localhost:8080"));
	ASSERT(!access_origin_fits("http://example/localhost:8080", "localhost:8080"));
	ASSERT(!access_origin_fits("file://localhost:8080", "localhost:8080"));
	ASSERT(!access_origin_fits("null", "localhost:8080"));
	ASSERT(!access_origin_fits("", "localhost:8080"));
	ASSERT(!access_origin_fits("http://", ""));
	ASSERT(!access_origin_fits("", ""));
}
