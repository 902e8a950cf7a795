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
#include "image/blob.h"
#include "image/layer.h"
#include "image/reference.h"

enum { PIECE = 256 << 10 };

struct writing {
	const struct store *store;
	struct archive *archive; /* owned */
	const char *what;
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
	uint64_t size = 0;
	ssize_t n = 0;
	int r = fault_point("save-blob");

	if (r < 0)
		return error_set_errno(err, r, "cannot write '%s'", w->what);
	fd = blob_open(w->store, d->digest, &size, err);
	if (fd < 0)
		return fd;
	r = begin(w, path, size, err);
	while (r >= 0 && (n = read(fd, piece, PIECE)) > 0)
		r = add_bytes(w, piece, (size_t)n, err);
	return r >= 0 && n < 0 ? error_set_errno(err, errno, "blob %s", d->digest) : r;
}

/* Reads a layer's tar to its end; NULL @w: counts only. */
static int pass(struct writing *w, const struct store *s, const struct oci_descriptor *d, const char *diff_id,
		uint64_t *ret_size, struct error *err)
{
	_cleanup_(layer_freep) struct layer *l = NULL;
	const void *p;
	size_t n;
	int r = layer_open(s, d, diff_id, false, &l, err);

	*ret_size = 0;
	while (r >= 0 && (r = layer_read(l, &p, &n, err)) >= 0 && n) {
		*ret_size += n;
		r = w ? add_bytes(w, p, n, err) : 0;
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
	r = pass(NULL, w->store, d, diff_id, &size, err);
	if (r >= 0)
		r = begin(w, path, size, err);
	return r < 0 ? r : pass(w, w->store, d, diff_id, &size, err);
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

static int load(const struct store *s, const struct oci_descriptor *d, struct image *ret, struct error *err)
{
	_cleanup_buf_ struct buf manifest = {}, config = {};
	int r = blob_read(s, d->digest, OCI_DOCUMENT_MAX, &manifest, err);

	if (r >= 0)
		r = oci_manifest_parse(manifest.p ? manifest.p : "", manifest.len, d->digest, &ret->manifest, err);
	if (r >= 0)
		r = blob_read(s, ret->manifest.config.digest, OCI_DOCUMENT_MAX, &config, err);
	if (r >= 0)
		r = oci_config_parse(config.p ? config.p : "", config.len, "config", &ret->config, NULL, err);
	if (r >= 0 && ret->manifest.n_layers != ret->config.diff_ids.n)
		r = error_set(err, EBADMSG, "%s: layers and diff_ids differ in number", d->digest);
	return r;
}

static int fill_docker(struct writing *w, const struct oci_descriptor *d, const char *name, struct error *err)
{
	_cleanup_(image_done) struct image i = {};
	_cleanup_json_ struct json *list = json_array();
	struct json *entry = json_object(), *tags = json_array(), *layers = json_array();
	_cleanup_free_ char *config = NULL;
	_cleanup_buf_ struct buf text = {};
	int r = load(w->store, d, &i, err);

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
		if (!again)
			r = add_layer(w, path, &i.manifest.layers[k], diff_id, err);
	}
	json_set_string(entry, "Config", config);
	json_append_string(tags, name);
	json_set(entry, "RepoTags", tags);
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
	int r = load(w->store, d, &i, err);

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

		if (strv_has(&written, path))
			continue;
		strv_add(&written, path);
		r = add_blob(w, path, blob, err);
	}
	return r < 0 ? r : add_text(w, "index.json", text.p, text.len, err);
}

typedef int (*fill_fn)(struct writing *w, const struct oci_descriptor *d, const char *name, struct error *err);

static int write_to(const struct store *s, int fd, const char *what, fill_fn fill, const struct oci_descriptor *d,
		    const char *name, struct error *err)
{
	struct writing w = { .store = s, .archive = archive_write_new(), .what = what };
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
	return r;
}

static int save(const struct store *s, const struct oci_descriptor *d, const char *name, const char *operand,
		fill_fn fill, struct error *err)
{
	_cleanup_free_ char *tmp = NULL;
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (streq(operand, "-")) {
		if (isatty(STDOUT_FILENO)) {
			(void)error_set_kind(err, ERROR_USAGE, EINVAL, "standard output is a terminal");
			return error_hint(err, "write into a file with -o FILE");
		}
		return write_to(s, STDOUT_FILENO, "standard output", fill, d, name, err);
	}
	tmp = xasprintf("%s.tmp-%ld", operand, (long)getpid());
	fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return error_set_errno(err, errno, "cannot create '%s'", operand);
	r = write_to(s, fd, operand, fill, d, name, err);
	if (r >= 0 && (fsync(fd) < 0 || rename(tmp, operand) < 0))
		r = error_set_errno(err, errno, "cannot write '%s'", operand);
	if (r < 0)
		(void)unlink(tmp);
	return r;
}

int bundle_save_docker(const struct store *s, const struct oci_descriptor *manifest, const char *name,
		       const char *operand, int progress_fd, struct error *err)
{
	(void)progress_fd;
	return save(s, manifest, name, operand, fill_docker, err);
}

int bundle_write_docker(const struct store *s, const struct oci_descriptor *manifest, const char *name, int fd,
			const char *what, struct error *err)
{
	return write_to(s, fd, what, fill_docker, manifest, name, err);
}

int bundle_save_oci(const struct store *s, const struct oci_descriptor *manifest, const char *name, const char *operand,
		    int progress_fd, struct error *err)
{
	(void)progress_fd;
	return save(s, manifest, name, operand, fill_oci, err);
}
