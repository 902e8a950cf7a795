/* Blobs: images/blobs/sha256/HEX, as in an OCI image layout. A blob is there whole and verified, or not at all; what is half there is
 * images/partial/HEX, kept for the next try. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "store/store.h"

/* Reading; links nothing heavy. */

/* Opens one for reading; *ret_size may be NULL. Returns the descriptor. Errors: -ENOENT (no message needed: callers know better what is
 * missing), -EBADMSG (kind DATA) for what is no digest. */
int blob_open(const struct store *s, const char *digest, uint64_t *ret_size, struct error *err);
bool blob_exists(const struct store *s, const char *digest);
/* Reads a small one (manifest, configuration) whole and, as it may have been damaged on disk since, checks nothing but its size: parsing does.
 * Errors: -ENOENT, -EFBIG above @limit. @out is appended to. */
int blob_read(const struct store *s, const char *digest, size_t limit, struct buf *out, struct error *err);

/* Whoever brings blobs in or relies on ones that no image names yet holds the blobs' lock shared, from before it looks for the first one until
 * image_seal() has named the image; whoever removes blobs holds it exclusively. So a pull under way is never pulled from under. Returns the
 * descriptor that holds the lock. @exclusive does not wait: -EBUSY (kind BUSY) while somebody brings images in. */
int blob_lock(const struct store *s, bool exclusive, struct error *err);

/* Writing; image_build_dep (libcrypto) only. */

struct blob_writer;
/* Begins, or goes on with, the blob of @digest, @size bytes long (UINT64_MAX = not known before). @digest NULL: it is what it turns out to be,
 * and nothing is kept for a next try. Two writers of one digest: the second waits until the first has ended, and finds the blob then
 * (returns 1 with *ret NULL, as it does whenever the blob is there already). The caller holds blob_lock() shared. */
int blob_writer_open(const struct store *s, const char *digest, uint64_t size, struct blob_writer **ret,
		     struct error *err);
/* As blob_writer_open(), without waiting: -EBUSY (kind BUSY) while another one writes it. */
int blob_writer_try(const struct store *s, const char *digest, uint64_t size, struct blob_writer **ret,
		    struct error *err);
/* How many bytes are there from an earlier try: fetch from here on. */
uint64_t blob_writer_offset(const struct blob_writer *w);
/* Forgets what is there: a server did not honour the range. */
int blob_writer_restart(struct blob_writer *w, struct error *err);
/* Appends. Errors: -EBADMSG (kind DATA) past the size. */
int blob_writer_write(struct blob_writer *w, const void *p, size_t n, struct error *err);
/* Verifies size and digest, and gives the blob its name. *ret_digest (may be NULL) is owned by the caller. Errors: -EBADMSG (kind DATA) when it
 * is another content: what was written is removed then. */
int blob_writer_finish(struct blob_writer *w, char **ret_digest, struct error *err);
/* Accepts NULL; returns NULL. What was written stays for the next try where the digest was given. */
struct blob_writer *blob_writer_free(struct blob_writer *w);
DEFINE_CLEANUP(struct blob_writer *, blob_writer_free);

/* A small one from memory. */
int blob_put(const struct store *s, const void *p, size_t n, char **ret_digest, struct error *err);
