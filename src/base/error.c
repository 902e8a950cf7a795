#include "base/error.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const int exit_status[ERROR_KIND_MAX] = {
	[ERROR_FAILED] = 1,      [ERROR_USAGE] = 64,  [ERROR_DATA] = 65,   [ERROR_UNAVAILABLE] = 69,
	[ERROR_CANTCREATE] = 73, [ERROR_BUSY] = 75,   [ERROR_DENIED] = 77, [ERROR_CONFIG] = 78,
	[ERROR_NOT_FOUND] = 1,   [ERROR_EXISTS] = 73, [ERROR_TIMEOUT] = 1,
};

static enum error_kind kind_of(int num)
{
	switch (num) {
	case ENOENT: return ERROR_NOT_FOUND;
	case EEXIST: return ERROR_EXISTS;
	case EBUSY:
	case EAGAIN: return ERROR_BUSY;
	case EACCES:
	case EPERM: return ERROR_DENIED;
	case ETIMEDOUT: return ERROR_TIMEOUT;
	case EBADMSG:
	case EILSEQ: return ERROR_DATA;
	case ENOSPC:
	case EDQUOT:
	case EROFS: return ERROR_CANTCREATE;
	default: return ERROR_FAILED;
	}
}

/* A caller that reports a failure without a number still has failed. */
static int positive(int num)
{
	if (num == 0)
		return EIO;
	return num < 0 ? -num : num;
}

/* Messages quote names that come from outside, and are shown on terminals, which nothing in them may steer. */
static void take_controls_out(char *s, bool lines)
{
	for (unsigned char *p = (unsigned char *)s; *p; p++) {
		bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;

		if ((*p < ' ' && !(lines && *p == '\n')) || *p == 0x7f || c1)
			*p = '?';
		if (c1)
			*++p = '?';
	}
}

/* NULL when memory is out: the number and the kind still tell what happened. */
static char *format_or_null(const char *fmt, va_list ap, bool lines) __attribute__((format(printf, 1, 0)));
static char *format_or_null(const char *fmt, va_list ap, bool lines)
{
	char *s;

	if (vasprintf(&s, fmt, ap) < 0)
		return NULL;
	take_controls_out(s, lines);
	return s;
}

static int set(struct error *err, enum error_kind kind, int num, char *msg)
{
	if (!err) {
		free(msg);
		return -num;
	}
	error_done(err);
	*err = (struct error){ .num = num, .kind = kind, .msg = msg };
	return -num;
}

int error_set(struct error *err, int num, const char *fmt, ...)
{
	va_list ap;
	char *msg;

	num = positive(num);
	va_start(ap, fmt);
	msg = err ? format_or_null(fmt, ap, false) : NULL;
	va_end(ap);
	return set(err, kind_of(num), num, msg);
}

int error_set_kind(struct error *err, enum error_kind kind, int num, const char *fmt, ...)
{
	va_list ap;
	char *msg;

	num = positive(num);
	va_start(ap, fmt);
	msg = err ? format_or_null(fmt, ap, false) : NULL;
	va_end(ap);
	return set(err, kind, num, msg);
}

int error_set_errno(struct error *err, int num, const char *fmt, ...)
{
	va_list ap;
	char *msg, *full;

	num = positive(num);
	va_start(ap, fmt);
	msg = err ? format_or_null(fmt, ap, false) : NULL;
	va_end(ap);
	if (msg && asprintf(&full, "%s: %s", msg, strerror(num)) >= 0) {
		free(msg);
		msg = full;
	}
	return set(err, kind_of(num), num, msg);
}

int error_prefix(struct error *err, const char *fmt, ...)
{
	va_list ap;
	char *prefix, *full;

	if (!err)
		return -EIO;
	va_start(ap, fmt);
	prefix = format_or_null(fmt, ap, false);
	va_end(ap);
	if (prefix && asprintf(&full, "%s: %s", prefix, err->msg ? err->msg : strerror(err->num)) >= 0) {
		free(err->msg);
		err->msg = full;
	}
	free(prefix);
	return -positive(err->num);
}

int error_hint(struct error *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return -EIO;
	if (!err->hint) {
		va_start(ap, fmt);
		err->hint = format_or_null(fmt, ap, true);
		va_end(ap);
	}
	return -positive(err->num);
}

int error_move(struct error *to, struct error *from)
{
	int num = positive(from->num);

	if (to == from)
		return -num;
	if (to) {
		error_done(to);
		*to = *from;
		*from = (struct error){};
	} else {
		error_done(from);
	}
	return -num;
}

int error_exit_status(const struct error *err)
{
	if (!err || !err->num)
		return 0;
	return err->kind >= 0 && err->kind < ERROR_KIND_MAX ? exit_status[err->kind] : 1;
}

void error_done(struct error *err)
{
	if (!err)
		return;
	free(err->msg);
	free(err->hint);
	*err = (struct error){};
}
