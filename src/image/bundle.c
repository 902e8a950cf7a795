#include "image/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "image/blob.h"
#include "image/reference.h"
#include "image/tar.h"

enum { FILES_MAX = 100000, LINKS_MAX = 40, HEX_LEN = 64 };

static const char *const documents[] = { "manifest.json", "index.json", "oci-layout" };

static bool is_document(const char *path)
{
	for (size_t i = 0; i < ARRAY_SIZE(documents); i++)
		if (streq(path, documents[i]))
			return true;
	return false;
}

/* What old archives hold beside the layers and nobody needs: of the first image format. */
static bool is_useless(const char *path)
{
	const char *base = strrchr(path, '/');

	base = base ? base + 1 : path;
	return streq(path, "repositories") || streq(base, "VERSION") || streq(base, "json");
}

void bundle_done(struct bundle *b)
{
	for (size_t i = 0; i < b->n; i++) {
		free(b->files[i].path);
		free(b->files[i].digest);
		free(b->files[i].link);
		buf_done(&b->files[i].document);
	}
	free(b->files);
	*b = (struct bundle){};
}

static struct bundle_file *add_file(struct bundle *b, const char *path)
{
	/* Doubled each time that a power of two is full. */
	if ((b->n & (b->n - 1)) == 0)
		b->files = xrealloc_array(b->files, b->n ? 2 * b->n : 1, sizeof(*b->files));
	b->files[b->n] = (struct bundle_file){ .path = xstrdup(path) };
	return &b->files[b->n++];
}

static int read_document(struct tar *t, const struct tar_item *item, const char *what, struct buf *out,
			 struct error *err)
{
	const void *p;
	uint64_t offset;
	size_t n;
	int r;

	if (item->entry.size > OCI_DOCUMENT_MAX)
		return error_set(err, EBADMSG, "%s: %s: larger than 4 MiB", what, item->entry.path);
	while ((r = tar_content(t, &offset, &p, &n, err)) > 0) {
		if (offset != out->len)
			return error_set(err, EBADMSG, "%s: a document with a hole", what);
		buf_add(out, p, n);
	}
	return r;
}

/* "blobs/sha256/HEX" says what it should be; the blob is then verified against it and not fetched twice. */
static char *expected_digest(const char *path)
{
	const char *hex = after_prefix(path, "blobs/sha256/");
	_cleanup_free_ char *digest = hex ? xasprintf("sha256:%s", hex) : NULL;

	return is_digest(digest) ? TAKE_PTR(digest) : NULL;
}

static int read_blob(const struct store *s, struct tar *t, const struct tar_item *item, const char *expected,
		     struct strv *fresh, char **ret_digest, struct error *err)
{
	_cleanup_(blob_writer_freep) struct blob_writer *w = NULL;
	uint64_t offset, at = 0, size = item->entry.size;
	const void *p;
	size_t n;
	int r;

	r = blob_writer_open(s, expected, size, &w, err);
	if (r < 0)
		return r;
	if (r > 0) {
		/* There already: passed over by the next tar_next(). */
		*ret_digest = xstrdup(expected);
		return 0;
	}
	if (blob_writer_offset(w))
		r = blob_writer_restart(w, err);
	/* Nobody writes a packed file with holes, of which a few bytes could be any number of zeros. */
	while (r >= 0 && (r = tar_content(t, &offset, &p, &n, err)) > 0) {
		if (offset != at)
			break;
		r = blob_writer_write(w, p, n, err);
		at = offset + n;
	}
	if (r >= 0 && at < size)
		r = error_set(err, EBADMSG, "'%.200s': a blob with a hole", item->entry.path);
	if (r >= 0)
		r = blob_writer_finish(w, ret_digest, err);
	if (r >= 0 && fresh)
		strv_add(fresh, *ret_digest);
	return r;
}

/* What a link says, as a path from the archive's root; NULL when it leaves that. */
static char *link_target(const char *path, const char *target)
{
	const char *slash = strrchr(path, '/');
	_cleanup_buf_ struct buf out = {};

	if (*target == '/')
		return NULL;
	if (slash)
		buf_add(&out, path, (size_t)(slash - path));
	for (const char *p = target; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0) {
			const char *last = out.len ? strrchr(out.p, '/') : NULL;

			if (!out.len)
				return NULL;
			buf_truncate(&out, last ? (size_t)(last - out.p) : 0);
		} else if (n && !(n == 1 && *p == '.')) {
			if (out.len)
				buf_addc(&out, '/');
			buf_add(&out, p, n);
		}
		p += n + (p[n] == '/');
	}
	return out.len ? buf_take(&out) : NULL;
}

static int take_item(const struct store *s, struct tar *t, const struct tar_item *item, const char *what,
		     struct strv *fresh, struct bundle *b, struct error *err)
{
	const struct fs_entry *e = &item->entry;
	_cleanup_free_ char *path = xstrdup(e->path), *expected = NULL;
	struct bundle_file *f;
	int r;

	if (S_ISDIR(e->mode))
		return 0;
	if (b->n >= FILES_MAX)
		return error_set_kind(err, ERROR_DATA, EFBIG, "%s: more than %d files", what, FILES_MAX);
	f = add_file(b, path);
	f->size = e->size;
	if (item->hard_link) {
		f->link = xstrdup(item->hard_link);
		return 0;
	}
	if (S_ISLNK(e->mode)) {
		f->link = link_target(path, e->link);
		return f->link ? 0 : error_set(err, EBADMSG, "%s: '%s' leads out of the archive", what, path);
	}
	if (!S_ISREG(e->mode))
		return error_set(err, EBADMSG, "%s: '%s' is neither a file nor a link", what, path);
	if (is_document(path))
		return read_document(t, item, what, &f->document, err);
	if (is_useless(path))
		return 0;
	expected = expected_digest(path);
	r = read_blob(s, t, item, expected, fresh, &f->digest, err);
	return r < 0 ? error_prefix(err, "%s: '%s'", what, path) : 0;
}

static int compare(const void *a, const void *b)
{
	const struct bundle_file *x = a, *y = b;

	return strcmp(x->path, y->path);
}

int bundle_read(const struct store *s, struct stream *stream, const char *what, struct strv *fresh, struct bundle *ret,
		struct error *err)
{
	_cleanup_(bundle_done) struct bundle b = {};
	_cleanup_(tar_freep) struct tar *t = NULL;
	const struct tar_item *item;
	int r;

	t = tar_new(stream_read, stream);
	while ((r = tar_next(t, &item, err)) > 0) {
		r = take_item(s, t, item, what, fresh, &b, err);
		if (r < 0)
			return r;
	}
	if (r < 0)
		return error_prefix(err, "%s", what);
	qsort(b.files, b.n, sizeof(*b.files), compare);
	for (size_t i = 1; i < b.n; i++)
		if (streq(b.files[i - 1].path, b.files[i].path))
			return error_set(err, EBADMSG, "%s: '%s' is there twice", what, b.files[i].path);
	*ret = b;
	b = (struct bundle){};
	return 0;
}

const struct bundle_file *bundle_find(const struct bundle *b, const char *path)
{
	for (int i = 0; b->n && i < LINKS_MAX; i++) {
		struct bundle_file key = { .path = xstrdup(path) };
		const struct bundle_file *f = bsearch(&key, b->files, b->n, sizeof(*b->files), compare);

		free(key.path);
		if (!f || !f->link)
			return f;
		path = f->link;
	}
	return NULL;
}

bool bundle_begins_with(const char *path)
{
	const char *hex;

	if (is_document(path) || streq(path, "repositories") || streq(path, "blobs") || after_prefix(path, "blobs/"))
		return true;
	/* With the prefix: as go-containerregistry, and so crane, ko and kaniko, name the configuration. */
	hex = after_prefix(path, "sha256:");
	return strspn(hex ? hex : path, "0123456789abcdef") == HEX_LEN;
}
