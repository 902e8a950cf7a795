/* One error: a number for the program, and what/which/why/hint for the person.
 *
 * A function that can fail returns 0 (or a non-negative value that its comment names) or a negative errno, and fills the
 * last argument. @err may be NULL everywhere; it is untouched on success and set exactly once, at the place that knows.
 * Layers above may prefix a noun ("disk 'system'"), never tell the story again. */
#pragma once

#include <stdarg.h>

#include "base/cleanup.h"

enum error_kind {
	ERROR_FAILED,      /* exit 1: anything without a kind of its own */
	ERROR_USAGE,       /* 64 */
	ERROR_DATA,        /* 65: bad input data (a record, an image, an archive) */
	ERROR_UNAVAILABLE, /* 69: something needed is missing on the host */
	ERROR_CANTCREATE,  /* 73 */
	ERROR_BUSY,        /* 75: try again */
	ERROR_DENIED,      /* 77 */
	ERROR_CONFIG,      /* 78 */
	ERROR_NOT_FOUND,   /* 1: a machine, image or kernel of that name does not exist */
	ERROR_EXISTS,      /* 73 */
	ERROR_TIMEOUT,     /* 1 */
	ERROR_KIND_MAX,
};

struct error {
	int num; /* positive errno; 0 = no error */
	enum error_kind kind;
	char *msg; /* owned: "disk 'system': cannot open '/x.qcow2': No such file or directory", no control characters */
	char *hint; /* owned, may be NULL: one thing that the user can do */
};

/* Sets @err from an errno (sign ignored); the kind is derived from it (ENOENT: NOT_FOUND, EEXIST: EXISTS, EBUSY/EAGAIN: BUSY,
 * EACCES/EPERM: DENIED, ETIMEDOUT: TIMEOUT, EBADMSG/EILSEQ: DATA, ENOSPC/EDQUOT/EROFS: CANTCREATE, else FAILED).
 * Both return -@num, for `return error_set(…)`. error_set_errno() appends ": " and the errno's text. */
int error_set(struct error *err, int num, const char *fmt, ...) _printf_(3, 4);
int error_set_errno(struct error *err, int num, const char *fmt, ...) _printf_(3, 4);

/* As error_set(), with a kind that the number does not tell. */
int error_set_kind(struct error *err, enum error_kind kind, int num, const char *fmt, ...) _printf_(4, 5);

/* Puts "PREFIX: " before the message. Returns -err->num (-EIO when @err is NULL). */
int error_prefix(struct error *err, const char *fmt, ...) _printf_(2, 3);

/* Sets the hint when there is none yet; it may have several lines. Returns -err->num (-EIO when @err is NULL). */
int error_hint(struct error *err, const char *fmt, ...) _printf_(2, 3);

/* Moves @from into @to (which may be NULL: @from is then released). Returns -num. */
int error_move(struct error *to, struct error *from);

/* Exit status of design: one table. */
int error_exit_status(const struct error *err);

/* Releases the strings and makes it "no error" again. */
void error_done(struct error *err);
#define _cleanup_error_ _cleanup_(error_done)
