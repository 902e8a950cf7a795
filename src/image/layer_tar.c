#include "image/layer_tar.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "image/tar.h"

enum { ZEROS = 256 << 10, NS_IN_S = 1000000000 };
#define SPARSE_FROM (UINT64_C(64) << 20)

struct layer_tar {
	struct archive *archive; /* owned */
	int fd;                  /* borrowed */
	int failed;              /* errno of a write that failed */
	uint64_t size, at;       /* the file that is being written */
	uint8_t *zeros;          /* owned */
};

static la_ssize_t on_write(struct archive *a, void *data, const void *p, size_t n)
{
	struct layer_tar *t = data;
	int r = write_full(t->fd, p, n);

	if (r < 0) {
		t->failed = -r;
		archive_set_error(a, -r, "%s", strerror(-r));
		return -1;
	}
	return (la_ssize_t)n;
}

static int failed(struct layer_tar *t, struct error *err, const char *path)
{
	const char *why = archive_error_string(t->archive);
	int num = archive_errno(t->archive);

	if (t->failed)
		return error_set_errno(err, t->failed, "cannot write the layer");
	return error_set(err, num > 0 ? num : EIO, "'%.512s': cannot be put into a layer: %s", path,
			 why ? why : "unknown reason");
}

int layer_tar_new(int fd, struct layer_tar **ret, struct error *err)
{
	struct layer_tar *t = xnew(struct layer_tar);

	t->fd = fd;
	t->zeros = xcalloc(1, ZEROS);
	t->archive = archive_write_new();
	if (!t->archive || archive_write_set_format_pax(t->archive) != ARCHIVE_OK ||
	    archive_write_set_format_option(t->archive, "pax", "xattrheader", "SCHILY") != ARCHIVE_OK ||
	    archive_write_add_filter_none(t->archive) != ARCHIVE_OK ||
	    archive_write_set_bytes_per_block(t->archive, ZEROS) != ARCHIVE_OK ||
	    archive_write_set_bytes_in_last_block(t->archive, 1) != ARCHIVE_OK ||
	    archive_write_open(t->archive, t, NULL, on_write, NULL) != ARCHIVE_OK) {
		(void)error_set(err, EIO, "cannot begin a layer: %s",
				t->archive ? archive_error_string(t->archive) : "no memory");
		layer_tar_free(t);
		return -EIO;
	}
	*ret = t;
	return 0;
}

struct layer_tar *layer_tar_free(struct layer_tar *t)
{
	if (!t)
		return NULL;
	if (t->archive)
		(void)archive_write_free(t->archive);
	free(t->zeros);
	free(t);
	return NULL;
}

static void free_entry(struct archive_entry **e)
{
	archive_entry_free(*e);
}

static int header(struct layer_tar *t, struct archive_entry *e, const char *path, struct error *err)
{
	int r = archive_write_header(t->archive, e);

	/* A warning: a name that is no UTF-8, which is then written as it is. */
	return r == ARCHIVE_OK || r == ARCHIVE_WARN ? 0 : failed(t, err, path);
}

/* Directories on the way have gone through here before. */
static int check_name(const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/');

	if (!after_prefix(slash ? slash + 1 : path, ".wh."))
		return 0;
	(void)error_set(err, EBADMSG, "'%.512s': in a layer such a name means that something was removed", path);
	return error_hint(err, "rename or remove it in the machine");
}

static uint64_t data_bytes(const struct fs_segment *s, size_t n)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < n; i++)
		sum += s[i].n;
	return sum;
}

int layer_tar_add(struct layer_tar *t, const struct fs_entry *e, const struct fs_segment *segments, size_t n,
		  struct error *err)
{
	_cleanup_(free_entry) struct archive_entry *a = archive_entry_new();
	int r = check_name(e->path, err);

	if (r < 0)
		return r;
	archive_entry_copy_pathname(a, streq(e->path, ".") ? "./" : e->path);
	archive_entry_set_mode(a, e->mode);
	archive_entry_set_uid(a, e->uid);
	archive_entry_set_gid(a, e->gid);
	archive_entry_set_mtime(a, (time_t)(e->mtime_ns / NS_IN_S), (long)(e->mtime_ns % NS_IN_S));
	for (size_t i = 0; i < e->n_xattrs; i++)
		archive_entry_xattr_add_entry(a, e->xattrs[i].name, e->xattrs[i].value, e->xattrs[i].len);
	if (S_ISLNK(e->mode)) {
		archive_entry_copy_symlink(a, e->link);
	} else if (S_ISCHR(e->mode) || S_ISBLK(e->mode)) {
		archive_entry_set_rdevmajor(a, e->rdev_major);
		archive_entry_set_rdevminor(a, e->rdev_minor);
	}
	archive_entry_set_size(a, S_ISREG(e->mode) ? (int64_t)e->size : 0);
	/* A hole at the end takes one more. */
	if (S_ISREG(e->mode) && n < TAR_PIECES_MAX && e->size - data_bytes(segments, n) >= SPARSE_FROM) {
		for (size_t i = 0; i < n; i++)
			archive_entry_sparse_add_entry(a, (int64_t)segments[i].offset, (int64_t)segments[i].n);
		/* Nothing but a hole: an empty piece at the end says that the file is sparse. */
		if (n == 0)
			archive_entry_sparse_add_entry(a, (int64_t)e->size, 0);
	}
	t->size = S_ISREG(e->mode) ? e->size : 0;
	t->at = 0;
	return header(t, a, e->path, err);
}

static int put(struct layer_tar *t, const void *p, size_t n, struct error *err)
{
	const uint8_t *from = p;

	while (n) {
		la_ssize_t k = archive_write_data(t->archive, from, n);

		if (k <= 0)
			return failed(t, err, "content");
		from += k;
		n -= (size_t)k;
		t->at += (uint64_t)k;
	}
	return 0;
}

/* Zeros up to @offset. In a sparse file they are counted and not written. */
static int pad(struct layer_tar *t, uint64_t offset, struct error *err)
{
	while (t->at < offset) {
		uint64_t left = offset - t->at;
		int r = put(t, t->zeros, left < ZEROS ? (size_t)left : ZEROS, err);

		if (r < 0)
			return r;
	}
	return 0;
}

int layer_tar_write(struct layer_tar *t, uint64_t offset, const void *p, size_t n, struct error *err)
{
	int r;

	if (offset < t->at || offset > t->size || n > t->size - offset)
		return error_set(err, EINVAL, "content of a layer's file is out of order");
	r = pad(t, offset, err);
	return r < 0 ? r : put(t, p, n, err);
}

int layer_tar_end_file(struct layer_tar *t, struct error *err)
{
	return pad(t, t->size, err);
}

int layer_tar_link(struct layer_tar *t, const char *path, const char *target, struct error *err)
{
	_cleanup_(free_entry) struct archive_entry *a = archive_entry_new();
	int r = check_name(path, err);

	if (r < 0)
		return r;
	archive_entry_copy_pathname(a, path);
	archive_entry_set_mode(a, S_IFREG | 0644);
	archive_entry_copy_hardlink(a, target);
	archive_entry_set_size(a, 0);
	archive_entry_set_mtime(a, 0, 0);
	return header(t, a, path, err);
}

static int marker(struct layer_tar *t, const char *path, const char *what, struct error *err)
{
	_cleanup_(free_entry) struct archive_entry *a = archive_entry_new();

	archive_entry_copy_pathname(a, path);
	archive_entry_set_mode(a, S_IFREG | 0644);
	archive_entry_set_size(a, 0);
	archive_entry_set_mtime(a, 0, 0);
	return header(t, a, what, err);
}

int layer_tar_whiteout(struct layer_tar *t, const char *path, struct error *err)
{
	const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
	_cleanup_free_ char *name = xasprintf("%.*s.wh.%s", (int)(last - path), path, last);
	int r = check_name(path, err);

	return r < 0 ? r : marker(t, name, path, err);
}

int layer_tar_opaque(struct layer_tar *t, const char *path, struct error *err)
{
	_cleanup_free_ char *name = streq(path, ".") ? xstrdup(".wh..wh..opq") : xasprintf("%s/.wh..wh..opq", path);

	return marker(t, name, path, err);
}

int layer_tar_finish(struct layer_tar *t, struct error *err)
{
	return archive_write_close(t->archive) == ARCHIVE_OK ? 0 : failed(t, err, "the end");
}
