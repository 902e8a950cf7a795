/* oci:DIR[:NAME], an OCI image layout in a directory. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/progress.h"
#include "image/blob.h"
#include "image/reference.h"
#include "image/select.h"
#include "image/source.h"

enum { PIECE = 256 << 10, COPY_PIECE = 16 << 20 };

struct layout {
	const struct store *store;
	int dir; /* owned */
	struct progress *progress;
	uint64_t done;
};

static char *blob_path(const char *digest)
{
	return xasprintf("blobs/sha256/%s", digest_hex(digest));
}

static int copy_in(struct layout *l, int fd, struct blob_writer *w, struct error *err)
{
	_cleanup_free_ char *piece = xcalloc(1, PIECE);
	ssize_t n;
	int r = 0;

	if (lseek(fd, (off_t)blob_writer_offset(w), SEEK_SET) < 0)
		return error_set_errno(err, errno, "cannot read it");
	while (r >= 0 && (n = read(fd, piece, PIECE)) != 0) {
		if (n < 0)
			return error_set_errno(err, errno, "cannot read it");
		r = blob_writer_write(w, piece, (size_t)n, err);
		l->done += (uint64_t)n;
		if (l->progress)
			progress_update(l->progress, l->done);
	}
	return r < 0 ? r : blob_writer_finish(w, NULL, err);
}

static int need(void *data, const struct oci_descriptor *d, struct error *err)
{
	_cleanup_(blob_writer_freep) struct blob_writer *w = NULL;
	_cleanup_free_ char *path = blob_path(d->digest);
	_cleanup_close_ int fd = -EBADF;
	struct layout *l = data;
	struct stat st;
	int r;

	if (blob_exists(l->store, d->digest))
		return 0;
	/* What somebody unpacked may hold links; a layout has none. */
	fd = open_beneath(l->dir, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	if (fd < 0)
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s is missing in the layout", d->digest);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != d->size)
		return error_set(err, EBADMSG, "%s: not a file of %llu bytes", path, (unsigned long long)d->size);
	r = blob_writer_open(l->store, d->digest, d->size, &w, err);
	if (r == 0)
		r = copy_in(l, fd, w, err);
	return r < 0 ? error_prefix(err, "%s", path) : 0;
}

/* "DIR:NAME", the name having no '/', so that it is not a part of the path. */
static char *split_operand(const char *operand, const char **ret_name)
{
	const char *slash = strrchr(operand, '/'), *colon = strchr(slash ? slash : operand, ':');

	if (colon && access(operand, F_OK) < 0) {
		*ret_name = colon + 1;
		return xstrndup(operand, (size_t)(colon - operand));
	}
	return xstrdup(operand);
}

static int fetch(const struct store *s, const struct source_request *q, struct oci_descriptor *ret, char **ret_name,
		 struct error *err)
{
	const char *name = q->select;
	_cleanup_free_ char *path = split_operand(q->operand, &name);
	_cleanup_close_ int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_buf_ struct buf index = {};
	struct layout l = { .store = s, .dir = dir };
	int r;

	if (dir < 0)
		return error_set_errno(err, errno, "'%s'", path);
	r = file_read_at(dir, "index.json", OCI_DOCUMENT_MAX, &index);
	if (r == -ENOENT)
		return error_set(err, EBADMSG, "'%s' is no image layout: it has no index.json", path);
	if (r < 0)
		return error_set_errno(err, r, "'%s/index.json'", path);
	if (q->progress_fd >= 0)
		l.progress = progress_new(q->progress_fd, path, 0);
	r = select_manifest(s, &index, path, name, q->platform, need, &l, ret, ret_name, err);
	if (r >= 0)
		r = need(&l, ret, err);
	if (r >= 0)
		r = select_contents(s, ret, need, &l, err);
	progress_finish(l.progress, r >= 0);
	return r;
}

/* ---- Writing ---- */

static int add_size(void *data, const struct oci_descriptor *d, struct error *err)
{
	uint64_t *total = data;

	(void)err;
	*total += d->size;
	return 0;
}

static int copy_blob(struct layout *l, int from, uint64_t size, int to)
{
	int r = 0;

	for (uint64_t at = 0, n; r >= 0 && at < size; at += n) {
		n = size - at < COPY_PIECE ? size - at : COPY_PIECE;
		r = file_copy_range(from, to, at, n);
		progress_update(l->progress, l->done + at + n);
	}
	return r;
}

static int copy_out(void *data, const struct oci_descriptor *d, struct error *err)
{
	struct layout *l = data;
	_cleanup_free_ char *path = blob_path(d->digest), *tmp = xasprintf("%s.tmp", path);
	uint64_t size = 0;
	_cleanup_close_ int from = blob_open(l->store, d->digest, &size, err), to = -EBADF;
	int r;

	if (from < 0)
		return from;
	if (faccessat(l->dir, path, F_OK, 0) == 0) {
		l->done += d->size;
		return 0;
	}
	r = fault_point("save-blob");
	if (r >= 0) {
		to = openat(l->dir, tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
		r = to < 0 ? -errno : copy_blob(l, from, size, to);
	}
	if (r >= 0 && (fsync(to) < 0 || renameat(l->dir, tmp, l->dir, path) < 0))
		r = -errno;
	if (r < 0)
		return error_set_errno(err, r, "cannot write '%s'", path);
	l->done += size;
	return 0;
}

/* Other images that the layout holds stay; one of this name is replaced. */
static int write_index(struct layout *l, const struct oci_descriptor *manifest, const char *name, struct error *err)
{
	_cleanup_json_ struct json *old = NULL, *index = json_object();
	struct json *entries = json_array(), *entry = json_object(), *annotations = json_object();
	_cleanup_buf_ struct buf text = {}, out = {};
	const struct json *list;
	int r = file_read_at(l->dir, "index.json", OCI_DOCUMENT_MAX, &text);

	if (r >= 0)
		r = json_parse(text.p ? text.p : "", text.len, "index.json", &old, err);
	if (r < 0 && r != -ENOENT)
		goto out;
	list = json_get(old, "manifests");
	for (size_t i = 0; i < json_length(list); i++) {
		const char *other =
			json_string(json_get(json_get(json_at(list, i), "annotations"), OCI_ANNOTATION_REF_NAME));

		if (!other || !streq(other, name))
			json_append(entries, json_ref(json_at(list, i)));
	}
	json_set_string(entry, "mediaType", manifest->media_type);
	json_set_string(entry, "digest", manifest->digest);
	json_set_u64(entry, "size", manifest->size);
	json_set_string(annotations, OCI_ANNOTATION_REF_NAME, name);
	json_set(entry, "annotations", annotations);
	json_append(entries, entry);
	annotations = entry = NULL;
	json_set_u64(index, "schemaVersion", 2);
	json_set_string(index, "mediaType", OCI_INDEX_TYPE);
	json_set(index, "manifests", entries);
	entries = NULL;
	json_render(index, true, &out);
	r = file_write_at(l->dir, "index.json", out.p, out.len, 0644, FILE_DURABLE);
	if (r < 0)
		r = error_set_errno(err, r, "cannot write 'index.json'");
out:
	json_free(entries);
	json_free(entry);
	json_free(annotations);
	return r;
}

static int save(const struct store *s, const struct oci_descriptor *manifest, const char *name, const char *operand,
		int progress_fd, struct error *err)
{
	const char *given_name = NULL;
	_cleanup_free_ char *path = split_operand(operand, &given_name);
	_cleanup_close_ int dir = dir_open_create(path, 0755);
	struct layout l = { .store = s, .dir = dir };
	_cleanup_buf_ struct buf text = {};
	uint64_t total = manifest->size;
	int r;

	if (dir < 0)
		return error_set_kind(err, ERROR_CANTCREATE, -dir, "cannot create '%s': %s", path, strerror(-dir));
	r = mkdir_parents_at(dir, "blobs/sha256", 0755);
	if (r < 0)
		return error_set_kind(err, ERROR_CANTCREATE, -r, "cannot create '%s/blobs/sha256': %s", path,
				      strerror(-r));
	r = select_contents(s, manifest, add_size, &total, err);
	if (r >= 0 && progress_fd >= 0)
		l.progress = progress_new(progress_fd, "writing", total);
	if (r >= 0)
		r = copy_out(&l, manifest, err);
	if (r >= 0)
		r = select_contents(s, manifest, copy_out, &l, err);
	l.progress = progress_finish(l.progress, r >= 0);
	if (r < 0)
		return r;
	oci_layout_render(&text);
	r = file_write_at(dir, "oci-layout", text.p, text.len, 0644, 0);
	if (r < 0)
		return error_set_errno(err, r, "cannot write '%s/oci-layout'", path);
	return write_index(&l, manifest, given_name ? given_name : name, err);
}

const struct source source_oci = {
	.scheme = "oci",
	.help = "oci:DIR[:NAME], an OCI image layout",
	.fetch = fetch,
	.save = save,
};
