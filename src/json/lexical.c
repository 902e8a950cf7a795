#include "json/lexical.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/utf8.h"

struct scan {
	const char *p, *end;
};

static bool more(const struct scan *s)
{
	return s->p < s->end;
}

static bool is_digit(const struct scan *s)
{
	return more(s) && *s->p >= '0' && *s->p <= '9';
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static const char *scan_escape(struct scan *s)
{
	s->p++;
	if (!more(s))
		return "unfinished string";
	if (*s->p != 'u') {
		if (!memchr("\"\\/bfnrt", *s->p, 8))
			return "unknown escape in a string";
		s->p++;
		return NULL;
	}
	s->p++;
	for (int i = 0; i < 4; i++)
		if (s->end - s->p <= i || !is_hex(s->p[i]))
			return "malformed \\u escape";
	if (memcmp(s->p, "0000", 4) == 0)
		return "a string with a NUL character";
	s->p += 4;
	return NULL;
}

static const char *scan_string(struct scan *s)
{
	for (s->p++; more(s);) {
		const char *wrong;
		size_t n;

		if (*s->p == '"') {
			s->p++;
			return NULL;
		}
		if (*s->p == '\\') {
			wrong = scan_escape(s);
			if (wrong)
				return wrong;
			continue;
		}
		if ((unsigned char)*s->p < 0x20)
			return "control character in a string";
		n = utf8_length(s->p, (size_t)(s->end - s->p));
		if (!n)
			return "malformed UTF-8";
		s->p += n;
	}
	return "unfinished string";
}

static const char *scan_number(struct scan *s)
{
	bool negative = *s->p == '-', too_large = false, fraction = false;
	const char *first;
	uint64_t v = 0;

	if (negative)
		s->p++;
	if (!is_digit(s))
		return "malformed number";
	first = s->p;
	for (; is_digit(s); s->p++)
		if (__builtin_mul_overflow(v, 10, &v) || __builtin_add_overflow(v, (uint64_t)(*s->p - '0'), &v))
			too_large = true;
	if (*first == '0' && s->p - first > 1)
		return "number with a leading zero";
	if (more(s) && *s->p == '.') {
		fraction = true;
		s->p++;
		if (!is_digit(s))
			return "malformed number";
		while (is_digit(s))
			s->p++;
	}
	if (more(s) && (*s->p == 'e' || *s->p == 'E')) {
		fraction = true;
		s->p++;
		if (more(s) && (*s->p == '+' || *s->p == '-'))
			s->p++;
		if (!is_digit(s))
			return "malformed number";
		while (is_digit(s))
			s->p++;
	}
	if (!fraction && (too_large || (negative && v > UINT64_C(1) << 63)))
		return "number out of range";
	return NULL;
}

static const char *scan_literal(struct scan *s)
{
	static const char *const literals[] = { "true", "false", "null" };

	for (size_t i = 0; i < sizeof(literals) / sizeof(literals[0]); i++) {
		size_t n = strlen(literals[i]);

		if ((size_t)(s->end - s->p) >= n && memcmp(s->p, literals[i], n) == 0) {
			s->p += n;
			return NULL;
		}
	}
	return "unexpected character";
}

const char *json_lexical_check(const char *text, size_t len, size_t *ret_offset)
{
	struct scan s = { text, text + len };
	const char *wrong = NULL;
	unsigned depth = 0;

	while (!wrong && more(&s)) {
		switch (*s.p) {
		case ' ':
		case '\t':
		case '\n':
		case '\r':
		case ',':
		case ':': s.p++; break;
		case '{':
		case '[':
			if (++depth > JSON_DEPTH_MAX)
				wrong = "too deeply nested";
			else
				s.p++;
			break;
		case '}':
		case ']':
			depth -= depth > 0;
			s.p++;
			break;
		case '"': wrong = scan_string(&s); break;
		case '-':
		case '0' ... '9': wrong = scan_number(&s); break;
		default: wrong = scan_literal(&s); break;
		}
	}
	*ret_offset = (size_t)(s.p - text);
	return wrong;
}
