#include "image/challenge.h"

#include <strings.h>

#include "base/buf.h"

enum { VALUE_MAX = 8 << 10, PARAMETER_MAX = 4 << 10 };

static const char token_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+-.^_`|~";
static const char white[] = " \t";

void challenge_done(struct challenge *c)
{
	free(c->realm);
	free(c->service);
	free(c->scope);
	free(c->error);
	*c = (struct challenge){};
}

/* ---- scopes ---- */

/* The first @n bytes of @list hold the @m bytes at @word, between separators. */
static bool lists(const char *list, size_t n, const char *word, size_t m)
{
	for (const char *p = list, *end = list + n; p <= end;) {
		size_t len = strcspn(p, ", ");

		if (len > (size_t)(end - p))
			len = (size_t)(end - p);
		if (len == m && memcmp(p, word, m) == 0)
			return true;
		p += len + 1;
	}
	return false;
}

/* How much of one scope is "TYPE:NAME:"; a name may have colons of its own. */
static size_t resource_bytes(const char *word, size_t n)
{
	const char *colon = memrchr(word, ':', n);

	return colon ? (size_t)(colon - word) + 1 : 0;
}

static bool allows(const char *scope, const char *resource, size_t n, const char *action, size_t m)
{
	for (const char *p = scope; *p;) {
		size_t len = strcspn(p, " "), of = resource_bytes(p, len);

		if (of == n && memcmp(p, resource, n) == 0 && lists(p + of, len - of, action, m))
			return true;
		p += len + (p[len] == ' ');
	}
	return false;
}

bool scope_covers(const char *scope, const char *wanted)
{
	for (const char *p = wanted; *p;) {
		size_t len = strcspn(p, " "), of = resource_bytes(p, len);

		for (size_t at = of; len && at <= len;) {
			size_t m = strcspn(p + at, ", ");

			if (!allows(scope, p, of, p + at, m))
				return false;
			at += m + 1;
		}
		p += len + (p[len] == ' ');
	}
	return true;
}

/* ---- challenges ---- */

/* Nothing that a request or a terminal could be made to misread. */
static bool is_printable(const char *s)
{
	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || (unsigned char)*s >= 0x7f)
			return false;
	return true;
}

/* A token or a quoted string. Moves *@p behind it; NULL when there is neither. Owned by the caller. */
static char *parameter_value(const char **p)
{
	_cleanup_buf_ struct buf b = {};
	const char *s = *p;

	if (*s != '"') {
		size_t n = strspn(s, token_chars);

		*p = s + n;
		return n ? xstrndup(s, n) : NULL;
	}
	for (s++; *s && *s != '"'; s++) {
		if (*s == '\\' && s[1])
			s++;
		buf_addc(&b, *s);
	}
	if (*s != '"')
		return NULL;
	*p = s + 1;
	return buf_take(&b);
}

static void keep(char **slot, char **value)
{
	if (*slot || strlen(*value) > PARAMETER_MAX || !is_printable(*value))
		return;
	*slot = TAKE_PTR(*value);
}

/* The first of a name counts: a second one is not to change what was read. */
static void take_parameter(struct challenge *c, const char *name, size_t n, char **value)
{
	static const struct {
		const char *name;
		size_t offset;
	} known[] = {
		{ "realm", offsetof(struct challenge, realm) },
		{ "service", offsetof(struct challenge, service) },
		{ "scope", offsetof(struct challenge, scope) },
		{ "error", offsetof(struct challenge, error) },
	};

	for (size_t i = 0; i < ARRAY_SIZE(known); i++)
		if (strlen(known[i].name) == n && strncasecmp(known[i].name, name, n) == 0)
			keep((char **)((char *)c + known[i].offset), value);
}

static void offer(struct challenge *best, struct challenge *c)
{
	bool usable = c->scheme == CHALLENGE_BASIC || (c->scheme == CHALLENGE_BEARER && c->realm && *c->realm);

	if (usable && c->scheme > best->scheme) {
		challenge_done(best);
		*best = *c;
		*c = (struct challenge){};
	}
	challenge_done(c);
}

static enum challenge_scheme scheme_of(const char *s, size_t n)
{
	if (n == 6 && strncasecmp(s, "bearer", n) == 0)
		return CHALLENGE_BEARER;
	return n == 5 && strncasecmp(s, "basic", n) == 0 ? CHALLENGE_BASIC : CHALLENGE_NONE;
}

void challenge_add(const char *value, struct challenge *ret)
{
	struct challenge c = {};
	const char *p = value;

	if (strlen(value) > VALUE_MAX)
		return;
	for (;;) {
		_cleanup_free_ char *v = NULL;
		const char *word, *after;
		size_t n;

		p += strspn(p, " \t,");
		n = strspn(p, token_chars);
		if (!n)
			break;
		word = p;
		after = p + n + strspn(p + n, white);
		if (*after != '=') {
			/* A word without '=' begins the next challenge. */
			offer(ret, &c);
			c.scheme = scheme_of(word, n);
			p = after;
			continue;
		}
		p = after + 1;
		p += strspn(p, white);
		v = parameter_value(&p);
		if (!v)
			break;
		take_parameter(&c, word, n, &v);
	}
	offer(ret, &c);
}
