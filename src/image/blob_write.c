/* Half a blob is images/partial/HEX, locked (flock) by who writes it; a finished one is renamed below blobs/sha256/. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/flusher.h"
#include "image/blob.h"
#include "image/oci.h"
#include "image/reference.h"
#include "json/json.h"

enum { PIECE = 1 << 18, TRIES = 100 };

struct blob_writer {
	const struct store *store;
	int fd;       /* owned, locked */
	char *path;   /* owned; below images/ */
	char *digest; /* owned; NULL = not known before */
	uint64_t size, written;
	EVP_MD_CTX *md;          /* owned; over what is written */
	struct flusher *flusher; /* owned */
	bool done;
};

static int prepare(const struct store *s, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	int r = mkdir_parents_at(s->images_fd, "blobs/sha256", 0700);

	if (r >= 0)
		r = mkdir_parents_at(s->images_fd, "partial", 0700);
	oci_layout_render(&text);
	if (r >= 0 && faccessat(s->images_fd, "oci-layout", F_OK, 0) < 0)
		r = file_write_at(s->images_fd, "oci-layout", text.p, text.len, 0644, 0);
	return r < 0 ? error_set_errno(err, r, "cannot create the blobs' directories below '%s/images'", s->home_path)
		     : 0;
}

static void start_digest(struct blob_writer *w)
{
	/* SHA-256 exists in every libcrypto; failing here means that memory is out. */
	if (!w->md)
		w->md = EVP_MD_CTX_new();
	if (!w->md || EVP_DigestInit_ex(w->md, EVP_sha256(), NULL) != 1)
		abort();
	w->written = 0;
}

static void add_digest(struct blob_writer *w, const void *p, size_t n)
{
	if (EVP_DigestUpdate(w->md, p, n) != 1)
		abort();
	w->written += n;
}

static int file_error(const struct blob_writer *w, int r, struct error *err)
{
	return error_set_errno(err, r, "images/%s", w->path);
}

/* What an earlier try left counts as written. */
static int resume(struct blob_writer *w, struct error *err)
{
	_cleanup_free_ char *piece = xcalloc(1, PIECE);
	ssize_t n;

	start_digest(w);
	while ((n = pread(w->fd, piece, PIECE, (off_t)w->written)) > 0) {
		if ((uint64_t)n > w->size - w->written)
			return blob_writer_restart(w, err);
		add_digest(w, piece, (size_t)n);
	}
	return n < 0 ? file_error(w, -errno, err) : 0;
}

/* The file behind the descriptor may have become a blob, or gone, while we waited for its lock. */
static bool is_current(const struct blob_writer *w)
{
	struct stat ours, there;

	return fstat(w->fd, &ours) == 0 && fstatat(w->store->images_fd, w->path, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

static int open_partial(struct blob_writer *w, bool wait, struct error *err)
{
	int exclusive = w->digest ? 0 : O_EXCL;
	int r = fault_point("blob-partial");

	if (r < 0)
		return file_error(w, r, err);
	w->fd = openat(w->store->images_fd, w->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | exclusive, 0600);
	if (w->fd < 0)
		return file_error(w, -errno, err);
	if (flock(w->fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB) == 0)
		return 0;
	if (errno == EWOULDBLOCK)
		return error_set(err, EBUSY, "images/%s: another process writes it", w->path);
	return file_error(w, -errno, err);
}

static int open_known(struct blob_writer *w, bool wait, struct error *err)
{
	for (int i = 0; i < TRIES; i++) {
		int r;

		if (blob_exists(w->store, w->digest))
			return 1;
		r = open_partial(w, wait, err);
		if (r < 0)
			return r;
		if (is_current(w)) {
			if (!blob_exists(w->store, w->digest))
				return resume(w, err);
			/* It has become one since we looked: what we have just made is a part of nothing. */
			(void)unlinkat(w->store->images_fd, w->path, 0);
			return 1;
		}
		w->fd = safe_close(w->fd);
	}
	return error_set(err, EBUSY, "images/%s: somebody else makes and removes it", w->path);
}

static int open_unknown(struct blob_writer *w, struct error *err)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return error_set_errno(err, errno, "no random bytes");
	w->path = xasprintf("partial/.tmp-%016" PRIx64, random);
	start_digest(w);
	return open_partial(w, true, err);
}

static int writer_open(const struct store *s, const char *digest, uint64_t size, bool wait, struct blob_writer **ret,
		       struct error *err)
{
	_cleanup_(blob_writer_freep) struct blob_writer *w = xnew(struct blob_writer);
	int r;

	*ret = NULL;
	w->store = s;
	w->fd = -EBADF;
	w->size = size;
	if (digest && !is_digest(digest))
		return error_set(err, EBADMSG, "'%.80s' is no sha256 digest", digest);
	r = prepare(s, err);
	if (r < 0)
		return r;
	if (digest) {
		w->digest = xstrdup(digest);
		w->path = xasprintf("partial/%s", digest_hex(digest));
		r = open_known(w, wait, err);
	} else {
		r = open_unknown(w, err);
	}
	if (r == 0)
		*ret = TAKE_PTR(w);
	return r;
}

int blob_writer_open(const struct store *s, const char *digest, uint64_t size, struct blob_writer **ret,
		     struct error *err)
{
	return writer_open(s, digest, size, true, ret, err);
}

int blob_writer_try(const struct store *s, const char *digest, uint64_t size, struct blob_writer **ret,
		    struct error *err)
{
	return writer_open(s, digest, size, false, ret, err);
}

uint64_t blob_writer_offset(const struct blob_writer *w)
{
	return w->written;
}

int blob_writer_restart(struct blob_writer *w, struct error *err)
{
	if (ftruncate(w->fd, 0) < 0)
		return file_error(w, -errno, err);
	start_digest(w);
	return 0;
}

int blob_writer_write(struct blob_writer *w, const void *p, size_t n, struct error *err)
{
	int r;

	if (n > w->size - w->written)
		return error_set(err, EBADMSG, "blob %s: longer than the %" PRIu64 " bytes that it should have",
				 w->digest ? w->digest : "", w->size);
	r = pwrite_full(w->fd, p, n, w->written);
	if (r < 0)
		return file_error(w, r, err);
	if (!w->flusher)
		w->flusher = flusher_new(w->fd);
	flusher_note(w->flusher, w->written, n);
	add_digest(w, p, n);
	return 0;
}

static char *digest_text(struct blob_writer *w)
{
	_cleanup_buf_ struct buf out = {};
	uint8_t md[32];

	if (EVP_DigestFinal_ex(w->md, md, NULL) != 1)
		abort();
	buf_adds(&out, "sha256:");
	for (size_t i = 0; i < sizeof(md); i++)
		buf_addf(&out, "%02x", md[i]);
	return buf_take(&out);
}

/* Not what it should be: nothing of it is worth a next try. */
static int refuse(struct blob_writer *w)
{
	(void)unlinkat(w->store->images_fd, w->path, 0);
	w->done = true;
	return -EBADMSG;
}

static int give_name(struct blob_writer *w, const char *digest, struct error *err)
{
	_cleanup_free_ char *to = xasprintf("blobs/sha256/%s", digest_hex(digest));
	_cleanup_close_ int dir = -EBADF;
	int r = fault_point("blob-finish");

	if (r >= 0 && (fchmod(w->fd, 0444) < 0 || fsync(w->fd) < 0))
		r = -errno;
	if (r >= 0 && renameat(w->store->images_fd, w->path, w->store->images_fd, to) < 0)
		r = -errno;
	if (r < 0)
		return file_error(w, r, err);
	w->done = true;
	dir = openat(w->store->images_fd, "blobs/sha256", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? -errno : fsync_dir(dir);
	return r < 0 ? error_set_errno(err, r, "images/blobs/sha256") : 0;
}

int blob_writer_finish(struct blob_writer *w, char **ret_digest, struct error *err)
{
	_cleanup_free_ char *found = NULL;
	int r;

	if (w->size != UINT64_MAX && w->written != w->size) {
		/* What is missing can still be fetched. */
		return error_set(err, EBADMSG, "blob %s: %" PRIu64 " bytes instead of %" PRIu64,
				 w->digest ? w->digest : "", w->written, w->size);
	}
	found = digest_text(w);
	if (w->digest && !streq(found, w->digest)) {
		error_set(err, EBADMSG, "blob %s: its content has another digest, %s", w->digest, found);
		return refuse(w);
	}
	r = give_name(w, found, err);
	if (r >= 0 && ret_digest)
		*ret_digest = TAKE_PTR(found);
	return r;
}

struct blob_writer *blob_writer_free(struct blob_writer *w)
{
	if (!w)
		return NULL;
	if (!w->digest && !w->done && w->fd >= 0)
		(void)unlinkat(w->store->images_fd, w->path, 0);
	flusher_free(w->flusher);
	(void)safe_close(w->fd);
	EVP_MD_CTX_free(w->md);
	free(w->path);
	free(w->digest);
	free(w);
	return NULL;
}

int blob_put(const struct store *s, const void *p, size_t n, char **ret_digest, struct error *err)
{
	_cleanup_(blob_writer_freep) struct blob_writer *w = NULL;
	int r = blob_writer_open(s, NULL, n, &w, err);

	if (r >= 0)
		r = blob_writer_write(w, p, n, err);
	return r < 0 ? r : blob_writer_finish(w, ret_digest, err);
}
