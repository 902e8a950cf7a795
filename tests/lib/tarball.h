/* Tar archives made by hand, whole or broken in ways that no tar program would write. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct tarball_entry {
	const char *name; /* at most 100 bytes: longer ones take a pax record */
	char type;        /* '0', '1', …; 0 = '0' */
	unsigned mode;    /* 0 = 0644, of a directory 0755 */
	uint64_t uid, gid, mtime;
	uint64_t size; /* 0 = the content's */
	const char *link;
	unsigned major, minor;
	const void *content;
	size_t n;
};
/* Header, content and padding. */
void tarball_add(struct buf *out, const struct tarball_entry *e);
/* One "LENGTH KEY=VALUE\n". */
void tarball_record(struct buf *records, const char *key, const void *value, size_t n);
/* An extended header of type 'x' (or another) for the entry that follows. */
void tarball_extended(struct buf *out, char type, const struct buf *records);
void tarball_end(struct buf *out);

/* Shorthands. */
void tarball_file(struct buf *out, const char *name, const char *text);
void tarball_dir(struct buf *out, const char *name);
void tarball_link(struct buf *out, char type, const char *name, const char *target);
/* Makes the sum right again, after a header at @at has been changed. */
void tarball_sum(struct buf *out, size_t at);
