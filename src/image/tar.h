/* Tar streams read entry by entry, as they come: POSIX ustar and pax, GNU, and the old format before both. Names and values are kept to the
 * byte: they have no encoding here. Sources: pax(1) in POSIX.1-2017 ("pax Interchange Format", "ustar Interchange Format"), the manual of
 * GNU tar ("Standard Format", "Storing Sparse Files").
 *
 * Everything read is hostile: numbers are checked for their range, lengths for what is there, names for where they lead. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "image/tree.h"

enum { TAR_PIECES_MAX = 1 << 20 }; /* of one file with holes; what writes layers keeps to it as well */

/* The stream's next piece, borrowed until the next call; *ret_n 0 at its end. */
typedef int (*tar_read_fn)(void *data, const void **ret, size_t *ret_n, struct error *err);

struct tar_item {
	struct fs_entry entry; /* path: no leading "/" or "./", no ".."; borrowed until the next tar_next() */
	const char *hard_link; /* target, a path like the entry's; NULL = none */
	uint64_t stored; /* bytes of content that the stream holds: less than entry.size when the file has holes */
};

struct tar;
/* @fn, @data: borrowed until tar_free(). */
struct tar *tar_new(tar_read_fn fn, void *data);
struct tar *tar_free(struct tar *t); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct tar *, tar_free);

/* The next entry; content of the one before that was not read is passed over. Returns 1, or 0 at the archive's end (what the stream holds
 * after it has no meaning and is not read). Errors: -EBADMSG (kind DATA) naming the entry; what @fn returns. */
int tar_next(struct tar *t, const struct tar_item **ret, struct error *err);
/* The next piece of a regular file's content, which belongs at *ret_offset (ascending; gaps are holes). Returns 1, or 0 when there is no
 * more. Errors: as tar_next(). */
int tar_content(struct tar *t, uint64_t *ret_offset, const void **ret, size_t *ret_n, struct error *err);
