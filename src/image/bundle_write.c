/* One image in a tar that can be piped: nothing is known of a file that is not known before it is begun. The file appears whole or not at all. */
#include "image/bundle_write.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/memory.h"
#include "base/new_file.h"
#include "base/progress.h"
#include "image/blob.h"
#include "image/layer.h"
#include "image/reference.h"

enum { PIECE = 256 << 10 };

struct writing {
	const struct store *store;
	struct archive *archive; /* owned */
	const char *what;
	int progress_fd;
	struct progress *progress; /* owned; NULL = silent, or not begun */
	uint64_t done_bytes;       /* of the blobs */
};

static int broken(const struct writing *w, struct error *err)
{
	int num = archive_errno(w->archive);

	return error_set_errno(err, num > 0 ? num : EIO, "cannot write '%s'", w->what);
}

static int begin(struct writing *w, const char *path, uint64_t size, struct error *err)
{
	struct archive_entry *e = archive_entry_new();
	int r;

	if (!e)
		return error_set(err, ENOMEM, "out of memory");
	archive_entry_set_pathname(e, path);
	archive_entry_set_size(e, (la_int64_t)size);
	archive_entry_set_filetype(e, AE_IFREG);
	archive_entry_set_perm(e, 0644);
	archive_entry_set_mtime(e, 0, 0);
	r = archive_write_header(w->archive, e);
	archive_entry_free(e);
	return r == ARCHIVE_OK ? 0 : broken(w, err);
}

static int add_bytes(struct writing *w, const void *p, size_t n, struct error *err)
{
	return archive_write_data(w->archive, p, n) == (la_ssize_t)n ? 0 : broken(w, err);
}

static int add_text(struct writing *w, const char *path, const void *p, size_t n, struct error *err)
{
	int r = begin(w, path, n, err);

	return r < 0 ? r : add_bytes(w, p, n, err);
}

static int add_blob(struct writing *w, const char *path, const struct oci_descriptor *d, struct error *err)
{
	_cleanup_free_ char *piece = xcalloc(1, PIECE);
	_cleanup_close_ int fd = -EBADF;
	uint64_t size = 0, used = 0;
	ssize_t n = 0;
	int r = fault_point("save-blob");

	if (r < 0)
		return error_set_errno(err, r, "cannot write '%s'", w->what);
	fd = blob_open(w->store, d->digest, &size, err);
	if (fd < 0)
		return fd;
	r = begin(w, path, size, err);
	while (r >= 0 && (n = read(fd, piece, PIECE)) > 0) {
		r = add_bytes(w, piece, (size_t)n, err);
		used += (uint64_t)n;
		progress_update(w->progress, w->done_bytes + used);
	}
	w->done_bytes += d->size;
	return r >= 0 && n < 0 ? error_set_errno(err, errno, "blob %s", d->digest) : r;
}

enum pass { PASS_COUNT, PASS_WRITE };

/* Reads a layer's tar to its end, for its size or into the archive: half of the layer's way, each. */
static int pass(struct writing *w, enum pass which, const struct oci_descriptor *d, const char *diff_id,
		uint64_t *ret_size, struct error *err)
{
	_cleanup_(layer_freep) struct layer *l = NULL;
	const void *p;
	size_t n;
	int r = layer_open(w->store, d, diff_id, false, &l, err);

	*ret_size = 0;
	while (r >= 0 && (r = layer_read(l, &p, &n, err)) >= 0 && n) {
		*ret_size += n;
		r = which == PASS_WRITE ? add_bytes(w, p, n, err) : 0;
		progress_update(w->progress,
				w->done_bytes + (layer_progress(l) + (which == PASS_WRITE ? d->size : 0)) / 2);
	}
	return r < 0 ? r : layer_finish(l, err);
}

/* As a plain tar, which every version of every tool takes; its size has to be known first. */
static int add_layer(struct writing *w, const char *path, const struct oci_descriptor *d, const char *diff_id,
		     struct error *err)
{
	uint64_t size = d->size;
	int r;

	if (streq(d->digest, diff_id))
		return add_blob(w, path, d, err);
	r = pass(w, PASS_COUNT, d, diff_id, &size, err);
	if (r >= 0)
		r = begin(w, path, size, err);
	if (r >= 0)
		r = pass(w, PASS_WRITE, d, diff_id, &size, err);
	w->done_bytes += d->size;
	return r;
}

struct image {
	struct oci_manifest manifest;
	struct oci_config config;
};

static void image_done(struct image *i)
{
	oci_manifest_done(&i->manifest);
	oci_config_done(&i->config);
}

static void begin_progress(struct writing *w, const struct image *i)
{
	uint64_t total = i->manifest.config.size;

	if (w->progress_fd < 0)
		return;
	for (size_t k = 0; k < i->manifest.n_layers; k++)
		total += i->manifest.layers[k].size;
	w->progress = progress_new(w->progress_fd, "writing", total);
}

static int load(struct writing *w, const struct oci_descriptor *d, struct image *ret, struct error *err)
{
	_cleanup_buf_ struct buf manifest = {}, config = {};
	const struct store *s = w->store;
	int r = blob_read(s, d->digest, OCI_DOCUMENT_MAX, &manifest, err);

	if (r >= 0)
		r = oci_manifest_parse(manifest.p ? manifest.p : "", manifest.len, d->digest, &ret->manifest, err);
	if (r >= 0)
		r = blob_read(s, ret->manifest.config.digest, OCI_DOCUMENT_MAX, &config, err);
	if (r >= 0)
		r = oci_config_parse(config.p ? config.p : "", config.len, "config", &ret->config, NULL, err);
	if (r >= 0 && ret->manifest.n_layers != ret->config.diff_ids.n)
		r = error_set(err, EBADMSG, "%s: layers and diff_ids differ in number", d->digest);
	if (r >= 0)
		begin_progress(w, ret);
	return r;
}

static int fill_docker(struct writing *w, const struct oci_descriptor *d, const char *name, struct error *err)
{
	_cleanup_(image_done) struct image i = {};
	_cleanup_json_ struct json *list = json_array();
	struct json *entry = json_object(), *tags = strchr(name, '@') ? NULL : json_array(), *layers = json_array();
	_cleanup_free_ char *config = NULL;
	_cleanup_buf_ struct buf text = {};
	int r = load(w, d, &i, err);

	if (r >= 0) {
		config = xasprintf("%s.json", digest_hex(i.manifest.config.digest));
		r = add_blob(w, config, &i.manifest.config, err);
	}
	for (size_t k = 0; r >= 0 && k < i.manifest.n_layers; k++) {
		const char *diff_id = i.config.diff_ids.items[k];
		_cleanup_free_ char *path = xasprintf("%s.tar", digest_hex(diff_id));
		bool again = false;

		/* An empty layer is often there more than once. */
		for (size_t before = 0; before < k && !again; before++)
			again = streq(i.config.diff_ids.items[before], diff_id);
		json_append_string(layers, path);
		if (again)
			w->done_bytes += i.manifest.layers[k].size;
		else
			r = add_layer(w, path, &i.manifest.layers[k], diff_id, err);
	}
	json_set_string(entry, "Config", config);
	/* A digest is no tag: docker refuses the whole archive. */
	if (tags)
		json_append_string(tags, name);
	json_set(entry, "RepoTags", tags ? tags : json_null());
	json_set(entry, "Layers", layers);
	json_append(list, entry);
	json_render(list, false, &text);
	return r < 0 ? r : add_text(w, "manifest.json", text.p, text.len, err);
}

static int fill_oci(struct writing *w, const struct oci_descriptor *d, const char *name, struct error *err)
{
	_cleanup_(image_done) struct image i = {};
	_cleanup_json_ struct json *index = json_object();
	struct json *entries = json_array(), *entry = json_object(), *annotations = json_object();
	_cleanup_buf_ struct buf text = {}, layout = {};
	_cleanup_strv_ struct strv written = {};
	int r = load(w, d, &i, err);

	json_set_string(entry, "mediaType", d->media_type);
	json_set_string(entry, "digest", d->digest);
	json_set_u64(entry, "size", d->size);
	json_set_string(annotations, OCI_ANNOTATION_REF_NAME, name);
	json_set(entry, "annotations", annotations);
	json_append(entries, entry);
	json_set_u64(index, "schemaVersion", 2);
	json_set_string(index, "mediaType", OCI_INDEX_TYPE);
	json_set(index, "manifests", entries);
	json_render(index, false, &text);
	oci_layout_render(&layout);
	if (r >= 0)
		r = add_text(w, "oci-layout", layout.p, layout.len, err);
	for (size_t k = 0; r >= 0 && k < i.manifest.n_layers + 2; k++) {
		const struct oci_descriptor *blob = k == 0   ? d
						    : k == 1 ? &i.manifest.config
							     : &i.manifest.layers[k - 2];
		_cleanup_free_ char *path = xasprintf("blobs/sha256/%s", digest_hex(blob->digest));

		if (strv_has(&written, path)) {
			w->done_bytes += blob->size;
			continue;
		}
		strv_add(&written, path);
		r = add_blob(w, path, blob, err);
	}
	return r < 0 ? r : add_text(w, "index.json", text.p, text.len, err);
}

typedef int (*fill_fn)(struct writing *w, const struct oci_descriptor *d, const char *name, struct error *err);

static int write_to(const struct store *s, int fd, const char *what, fill_fn fill, const struct oci_descriptor *d,
		    const char *name, int progress_fd, struct error *err)
{
	struct writing w = { .store = s, .archive = archive_write_new(), .what = what, .progress_fd = progress_fd };
	int r;

	if (!w.archive)
		return error_set(err, ENOMEM, "out of memory");
	if (archive_write_set_format_pax_restricted(w.archive) != ARCHIVE_OK ||
	    archive_write_open_fd(w.archive, fd) != ARCHIVE_OK)
		r = broken(&w, err);
	else
		r = fill(&w, d, name, err);
	if (r >= 0 && archive_write_close(w.archive) != ARCHIVE_OK)
		r = broken(&w, err);
	(void)archive_write_free(w.archive);
	progress_finish(w.progress, r >= 0);
	return r;
}

/* Who reads it at the other end of a pipe may have a bar of its own on the same terminal. */
static bool is_piped(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
}

static int save(const struct store *s, const struct oci_descriptor *d, const char *name, const char *operand,
		fill_fn fill, int progress_fd, struct error *err)
{
	_cleanup_(new_file_done) struct new_file f = NEW_FILE_INIT;
	int r;

	if (streq(operand, "-")) {
		if (is_piped(STDOUT_FILENO))
			progress_fd = -1;
		if (isatty(STDOUT_FILENO)) {
			(void)error_set_kind(err, ERROR_USAGE, EINVAL, "standard output is a terminal");
			return error_hint(err, "write into a file with -o FILE");
		}
		return write_to(s, STDOUT_FILENO, "standard output", fill, d, name, progress_fd, err);
	}
	r = new_file_open(&f, operand, 0644);
	if (r < 0) {
		(void)error_set_kind(err, ERROR_CANTCREATE, -r, "cannot create '%s': %s", operand, strerror(-r));
		return r == -ENOTSUP ? error_hint(err, "it writes files, or - for standard output") : r;
	}
	r = write_to(s, f.fd, operand, fill, d, name, progress_fd, err);
	if (r < 0)
		return r;
	r = new_file_finish(&f, true);
	return r < 0 ? error_set_errno(err, r, "cannot write '%s'", operand) : 0;
}

int bundle_save_docker(const struct store *s, const struct oci_descriptor *manifest, const char *name,
		       const char *operand, int progress_fd, struct error *err)
{
	return save(s, manifest, name, operand, fill_docker, progress_fd, err);
}

int bundle_write_docker(const struct store *s, const struct oci_descriptor *manifest, const char *name, int fd,
			const char *what, int progress_fd, struct error *err)
{
	return write_to(s, fd, what, fill_docker, manifest, name, progress_fd, err);
}

int bundle_save_oci(const struct store *s, const struct oci_descriptor *manifest, const char *name, const char *operand,
		    int progress_fd, struct error *err)
{
	return save(s, manifest, name, operand, fill_oci, progress_fd, err);
}
