/* Numbers of headers, and pax's extended headers: records "LENGTH KEY=VALUE\n", where the length counts all of it. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/parse.h"
#include "image/tar_parts.h"

enum { XATTR_NAME_MAX = 255, NS_DIGITS = 9 };
#define NS_PER_SECOND  UINT64_C(1000000000)
#define TIME_MAX       (UINT64_MAX / NS_PER_SECOND - 1)
#define ID_UNSPECIFIED UINT32_MAX

bool tar_number(const char *field, size_t len, int64_t *ret)
{
	const uint8_t *p = (const uint8_t *)field;
	uint64_t v = 0;
	size_t i = 0;

	if (p[0] & 0x80) {
		/* Two's complement; the first bit is the mark, the second one the sign. */
		bool negative = p[0] & 0x40;

		v = (p[0] & 0x3f) | (negative ? ~UINT64_C(0x3f) : 0);
		for (i = 1; i < len; i++) {
			if (v >> 55 != (negative ? 0x1ff : 0))
				return false;
			v = v << 8 | p[i];
		}
		*ret = (int64_t)v;
		return true;
	}
	while (i < len && p[i] == ' ')
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++)
		v = v << 3 | (uint64_t)(p[i] - '0');
	/* The longest field has twelve digits, which is not enough to overflow. */
	for (; i < len && p[i]; i++) /* writers leave rubbish behind the NUL */
		if (p[i] != ' ')
			return false;
	*ret = (int64_t)v;
	return true;
}

uint64_t tar_time_ns(int64_t seconds, uint32_t ns)
{
	if (seconds < 0 || (uint64_t)seconds > TIME_MAX)
		return 0;
	return (uint64_t)seconds * NS_PER_SECOND + ns;
}

int tar_text_set(struct tar *t, struct tar_text *x, const char *p, size_t len, struct error *err)
{
	if (len && memchr(p, '\0', len))
		return tar_bad(t, err, "a NUL byte in its name");
	free(x->p);
	*x = (struct tar_text){};
	/* An empty value takes an earlier one back. */
	if (!len)
		return 0;
	x->p = xstrndup(p, len);
	x->len = len;
	x->set = true;
	return 0;
}

void tar_extended_done(struct tar_extended *x)
{
	for (size_t i = 0; i < x->n_xattrs; i++) {
		free((void *)(uintptr_t)x->xattrs[i].name);
		free((void *)(uintptr_t)x->xattrs[i].value);
	}
	free(x->xattrs);
	free(x->path.p);
	free(x->link.p);
	free(x->acl_access.p);
	free(x->acl_default.p);
	*x = (struct tar_extended){};
}

static int record_bad(struct tar *t, const char *key, struct error *err)
{
	return error_set(err, EBADMSG, "entry %" PRIu64 ": extended header: '%.60s' has no such value",
			 t->n_entries + 1, key);
}

static int record_number(struct tar *t, const char *key, const char *value, size_t len, uint64_t max, uint64_t *ret,
			 bool *ret_has, struct error *err)
{
	*ret_has = len > 0;
	if (!len)
		return 0;
	if (strlen(value) != len || parse_u64(value, 0, max, ret) < 0)
		return record_bad(t, key, err);
	return 0;
}

/* "1700000000.123456789", with a sign and any number of digits. */
static int record_time(struct tar *t, const char *value, size_t len, struct error *err)
{
	_cleanup_free_ char *whole = NULL;
	const char *p = value + (*value == '-'), *dot = strchr(value, '.');
	uint64_t seconds, ns = 0;

	t->extended.has_mtime = len > 0;
	if (!len)
		return 0;
	whole = dot ? xstrndup(p, dot > p ? (size_t)(dot - p) : 0) : xstrdup(p);
	if (strlen(value) != len || parse_u64(whole, 0, UINT64_MAX, &seconds) < 0)
		return record_bad(t, "mtime", err);
	if (dot) {
		size_t digits = strspn(dot + 1, "0123456789");

		if (dot[1 + digits])
			return record_bad(t, "mtime", err);
		for (size_t i = 0; i < NS_DIGITS; i++)
			ns = ns * 10 + (i < digits ? (uint64_t)(dot[1 + i] - '0') : 0);
	}
	t->extended.mtime_ns = *value == '-' || seconds > TIME_MAX ? 0 : seconds * NS_PER_SECOND + ns;
	return 0;
}

int tar_xattr_add(struct tar *t, const char *name, const char *value, size_t len, struct error *err)
{
	struct tar_extended *x = &t->extended;
	struct fs_xattr *at = NULL;

	if (!*name || strlen(name) > XATTR_NAME_MAX)
		return tar_bad(t, err, "an extended attribute without a name that it could have");
	for (size_t i = 0; i < x->n_xattrs; i++)
		if (streq(x->xattrs[i].name, name))
			at = &x->xattrs[i];
	if (at) {
		free((void *)(uintptr_t)at->value);
	} else {
		if (x->n_xattrs == TAR_XATTRS_MAX)
			return tar_bad(t, err, "too many extended attributes");
		if (!x->xattrs)
			x->xattrs = xnew_n(struct fs_xattr, TAR_XATTRS_MAX);
		at = &x->xattrs[x->n_xattrs++];
		at->name = xstrdup(name);
	}
	at->value = len ? xmemdup(value, len) : NULL;
	at->len = len;
	return 0;
}

/* Keys that mean nothing here (user names, access times, comments) are passed over. */
static int apply_record(struct tar *t, const char *key, const char *value, size_t len, struct error *err)
{
	struct tar_extended *x = &t->extended;
	const char *rest;

	if (streq(key, "path"))
		return tar_text_set(t, &x->path, value, len, err);
	if (streq(key, "linkpath"))
		return tar_text_set(t, &x->link, value, len, err);
	if (streq(key, "size"))
		return record_number(t, key, value, len, INT64_MAX, &x->size, &x->has_size, err);
	/* The greatest one means "no change" to chown(2). */
	if (streq(key, "uid"))
		return record_number(t, key, value, len, ID_UNSPECIFIED - 1, &x->uid, &x->has_uid, err);
	if (streq(key, "gid"))
		return record_number(t, key, value, len, ID_UNSPECIFIED - 1, &x->gid, &x->has_gid, err);
	if (streq(key, "mtime"))
		return record_time(t, value, len, err);
	if (streq(key, "SCHILY.acl.access"))
		return tar_text_set(t, &x->acl_access, value, len, err);
	if (streq(key, "SCHILY.acl.default"))
		return tar_text_set(t, &x->acl_default, value, len, err);
	/* As text, which has its NUL with it on a disk. */
	if (streq(key, "RHT.security.selinux"))
		return len ? tar_xattr_add(t, "security.selinux", value, strlen(value) + 1, err) : 0;
	rest = after_prefix(key, "SCHILY.xattr.");
	if (rest)
		return tar_xattr_add(t, rest, value, len, err);
	rest = after_prefix(key, "GNU.sparse.");
	return rest ? tar_map_record(t, rest, value, len, err) : 0;
}

/* One record; *p moves past it. */
static int parse_record(struct tar *t, const char **p, const char *end, struct error *err)
{
	const char *blank = memchr(*p, ' ', (size_t)(end - *p)), *equals, *last;
	_cleanup_free_ char *number = NULL, *key = NULL, *value = NULL;
	uint64_t n;

	number = blank ? xstrndup(*p, (size_t)(blank - *p)) : NULL;
	if (!number || parse_u64(number, 1, (uint64_t)(end - *p), &n) < 0 || *p + n < blank + 2)
		return tar_bad(t, err, "extended header: a record's length is wrong");
	last = *p + n - 1;
	equals = memchr(blank + 1, '=', (size_t)(last - blank - 1));
	if (*last != '\n' || !equals || equals == blank + 1)
		return tar_bad(t, err, "extended header: a record is damaged");
	if (memchr(blank + 1, '\0', (size_t)(equals - blank - 1)))
		return tar_bad(t, err, "extended header: a NUL byte in a key");
	key = xstrndup(blank + 1, (size_t)(equals - blank - 1));
	value = xcalloc(1, (size_t)(last - equals));
	memcpy(value, equals + 1, (size_t)(last - equals - 1));
	*p = last + 1;
	return apply_record(t, key, value, (size_t)(last - equals - 1), err);
}

int tar_extended_parse(struct tar *t, const char *p, size_t len, struct error *err)
{
	const char *end = p + len;
	int r = 0;

	while (r >= 0 && p < end)
		r = parse_record(t, &p, end, err);
	return r;
}
