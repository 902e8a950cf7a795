/* An archive that carries images: what `docker save` writes, an OCI layout in a tar, or both at once. It is read in one pass, in any order, from
 * a pipe as well: documents are kept in memory, every other file becomes a blob as it comes by. Names in the archive are names in a
 * table and nothing else; no path of this host is made of them. */
#pragma once

#include "base/buf.h"
#include "image/oci.h"
#include "image/stream.h"
#include "store/store.h"

struct bundle_file {
	char *path;   /* owned; normalised */
	char *digest; /* owned; of the blob, NULL for a document or a link */
	char *link;   /* owned; the path that it stands for, or NULL */
	uint64_t size;
	struct buf document; /* of manifest.json, index.json, oci-layout */
};

struct bundle {
	struct bundle_file *files; /* owned, sorted by path */
	size_t n;
};

/* The caller holds blob_lock() shared. @stream is read to its end; @what names it in messages. @fresh (may be NULL): the digests of the blobs that were not
 * there before are added. Errors: -EBADMSG (kind DATA) naming the entry. */
int bundle_read(const struct store *s, struct stream *stream, const char *what, struct strv *fresh, struct bundle *ret,
		struct error *err);
void bundle_done(struct bundle *b);
/* Follows links. NULL: there is none, or a link leads nowhere. */
const struct bundle_file *bundle_find(const struct bundle *b, const char *path);

/* Does a tar whose first entry is @path look like one of these, rather than like a root file system? */
bool bundle_begins_with(const char *path);
