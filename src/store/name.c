#include "store/name.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

enum { SHOWN_MAX = 40, DIGEST_PREFIX_MIN = 12, DIGEST_LEN = 64 };

static const char rule[] = "letters, digits, '.', '_' and '-' are allowed, a letter or digit first";

/* isalnum(3) depends on the locale. */
static bool is_alnum(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static bool is_name_char(char c)
{
	return is_alnum(c) || c == '.' || c == '_' || c == '-';
}

/* The name in quotes, shortened, with what is not printable ASCII as \xNN: it goes to a terminal. */
static void add_quoted(struct buf *b, const char *s)
{
	buf_addc(b, '\'');
	for (size_t i = 0; s[i]; i++) {
		unsigned char c = (unsigned char)s[i];

		if (i == SHOWN_MAX) {
			buf_adds(b, "...");
			break;
		}
		if (c < 0x20 || c >= 0x7f)
			buf_addf(b, "\\x%02x", c);
		else
			buf_addc(b, (char)c);
	}
	buf_addc(b, '\'');
}

static int refuse(const char *s, const char *what, const char *why, struct error *err)
{
	_cleanup_buf_ struct buf quoted = {};

	add_quoted(&quoted, s);
	return error_set_kind(err, ERROR_USAGE, EINVAL, "%s %s: %s", what, quoted.p, why);
}

/* What is wrong with the first @n bytes of @s as a name, or NULL. */
static const char *name_fault(const char *s, size_t n)
{
	if (!n)
		return "must not be empty";
	for (size_t i = 0; i < n; i++)
		if (!is_name_char(s[i]))
			return rule;
	return is_alnum(s[0]) ? NULL : "must begin with a letter or digit";
}

int name_parse(const char *s, const char *what, struct name *ret, struct error *err)
{
	size_t n = strlen(s);
	const char *fault = name_fault(s, n);

	if (!fault && n >= sizeof(ret->s))
		fault = "longer than 63 characters";
	if (fault)
		return refuse(s, what, fault, err);
	*ret = (struct name){};
	memcpy(ret->s, s, n);
	return 0;
}

static int parse_digest(const char *s, const char *hex, struct image_name *ret, struct error *err)
{
	size_t n = strspn(hex, "0123456789abcdef");

	if (hex[n] != '\0')
		return refuse(s, "image", "a digest has lower-case hexadecimal digits only", err);
	if (n < DIGEST_PREFIX_MIN)
		return refuse(s, "image", "a digest needs at least 12 digits", err);
	if (n > DIGEST_LEN)
		return refuse(s, "image", "a digest has at most 64 digits", err);
	*ret = (struct image_name){};
	snprintf(ret->digest, sizeof(ret->digest), "sha256:%s", hex);
	return 0;
}

static const char *tag_fault(const char *tag)
{
	size_t n = strlen(tag);

	if (!n)
		return "the tag must not be empty";
	if (!is_alnum(tag[0]) && tag[0] != '_')
		return "the tag must begin with a letter, a digit or '_'";
	for (size_t i = 0; i < n; i++)
		if (!is_name_char(tag[i]))
			return "letters, digits, '.', '_' and '-' are allowed in a tag";
	return n > 128 ? "the tag is longer than 128 characters" : NULL;
}

int image_name_parse(const char *s, struct image_name *ret, struct error *err)
{
	static const char digest_prefix[] = "sha256:";
	const char *slash = strrchr(s, '/'), *colon = strchr(slash ? slash : s, ':'), *fault = NULL, *part = s;
	const char *tag = colon ? colon + 1 : "latest";
	size_t n = colon ? (size_t)(colon - s) : strlen(s);

	if (strncmp(s, digest_prefix, strlen(digest_prefix)) == 0)
		return parse_digest(s, s + strlen(digest_prefix), ret, err);
	for (;;) {
		const char *end = memchr(part, '/', (size_t)(s + n - part));

		fault = name_fault(part, (size_t)((end ? end : s + n) - part));
		if (fault || !end)
			break;
		part = end + 1;
	}
	if (!fault && n >= sizeof(ret->name))
		fault = "longer than 255 characters";
	if (!fault)
		fault = tag_fault(tag);
	if (fault)
		return refuse(s, "image", fault, err);
	*ret = (struct image_name){};
	memcpy(ret->name, s, n);
	memcpy(ret->tag, tag, strlen(tag));
	return 0;
}
