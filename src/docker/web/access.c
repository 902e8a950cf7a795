#include "docker/web/access.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

/* Hexadecimal SHA-256 of "@purpose:@text". */
static void digest(const char *purpose, const char *text, char ret[ACCESS_HEX + 1])
{
	static const char digits[] = "0123456789abcdef";
	_cleanup_free_ char *all = xasprintf("%s:%s", purpose, text);
	unsigned char md[SHA256_DIGEST_LENGTH];

	(void)SHA256((const unsigned char *)all, strlen(all), md);
	explicit_bzero(all, strlen(all));
	for (size_t i = 0; i < sizeof(md); i++) {
		ret[2 * i] = digits[md[i] >> 4];
		ret[2 * i + 1] = digits[md[i] & 15];
	}
	ret[ACCESS_HEX] = '\0';
}

void access_init(struct access *a, const char *token)
{
	char name[ACCESS_HEX + 1];

	digest("token", token, a->token);
	digest("cookie", token, a->cookie);
	digest("name", token, name);
	memcpy(a->name, "skerry-", 7);
	memcpy(a->name + 7, name, 8);
	a->name[15] = '\0';
}

bool access_token_fits(const struct access *a, const char *token)
{
	char given[ACCESS_HEX + 1];

	digest("token", token, given);
	return CRYPTO_memcmp(a->token, given, ACCESS_HEX) == 0;
}

bool access_cookie_fits(const struct access *a, const char *header)
{
	size_t name = strlen(a->name);
	bool fits = false;

	for (const char *p = header; p; p = strchr(p, ';') ? strchr(p, ';') + 1 : NULL) {
		p += strspn(p, " \t");
		if (strncmp(p, a->name, name) != 0 || p[name] != '=')
			continue;
		p += name + 1;
		if (strcspn(p, "; \t") == ACCESS_HEX && CRYPTO_memcmp(p, a->cookie, ACCESS_HEX) == 0)
			fits = true;
	}
	return fits;
}

bool access_origin_fits(const char *origin, const char *host)
{
	static const char *const schemes[] = { "http://", "https://" };

	if (!*host)
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
		const char *rest = after_prefix(origin, schemes[i]);

		if (rest && strcasecmp(rest, host) == 0)
			return true;
	}
	return false;
}
