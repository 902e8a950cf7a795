#include "store/name.h"

#include <stdio.h>
#include <string.h>

#include "base/buf.h"

enum { SHOWN_MAX = 40 };

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
