#include "image/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

enum { XATTRS_MAX = 64, BLOCK = 1 << 18 };

static int bad(const char *what, struct archive *a, struct error *err)
{
	const char *why = a ? archive_error_string(a) : NULL;

	return error_set(err, EBADMSG, "%s: damaged archive: %s", what, why ? why : "unknown format");
}

static void free_archive(struct archive **a)
{
	if (*a)
		(void)archive_read_free(*a);
}

/* "./usr//lib/" becomes "usr/lib", "./" becomes "."; NULL for a name that leaves the root. */
static char *normalise(const char *name)
{
	_cleanup_buf_ struct buf out = {};

	for (const char *p = name; *p;) {
		size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0)
			return NULL;
		if (n && !(n == 1 && *p == '.')) {
			if (out.len)
				buf_addc(&out, '/');
			buf_add(&out, p, n);
		}
		p += n + (p[n] == '/');
	}
	return out.len ? buf_take(&out) : xstrdup(".");
}

static size_t fill_xattrs(struct archive_entry *e, struct fs_xattr *x)
{
	const char *name;
	const void *value;
	size_t n = 0, len;

	(void)archive_entry_xattr_reset(e);
	while (n < XATTRS_MAX && archive_entry_xattr_next(e, &name, &value, &len) == ARCHIVE_OK)
		if (name)
			x[n++] = (struct fs_xattr){ .name = name, .value = value, .len = len };
	return n;
}

/* The archive library gives no text where the locale cannot express it; UTF-8 then still can. */
static const char *either(const char *text, const char *utf8)
{
	return text ? text : utf8;
}

static int visit(struct archive *a, struct archive_entry *e, const char *what, archive_item_fn fn, void *data,
		 struct error *err)
{
	const char *name = either(archive_entry_pathname(e), archive_entry_pathname_utf8(e));
	const char *hard = either(archive_entry_hardlink(e), archive_entry_hardlink_utf8(e));
	_cleanup_free_ char *path = name ? normalise(name) : NULL;
	_cleanup_free_ char *target = hard ? normalise(hard) : NULL;
	struct fs_xattr xattrs[XATTRS_MAX];
	struct archive_item item = { .archive = a, .what = what, .hard_link = target };
	int64_t seconds = archive_entry_mtime(e);

	if (!path || (hard && !target))
		return error_set(err, EBADMSG, "%s: damaged archive: '%.200s' is no name below its root", what,
				 name ? name : "?");
	item.entry = (struct fs_entry){
		.path = path,
		.mode = archive_entry_mode(e),
		.uid = (uint32_t)archive_entry_uid(e),
		.gid = (uint32_t)archive_entry_gid(e),
		.mtime_ns = (uint64_t)(seconds > 0 ? seconds : 0) * UINT64_C(1000000000) +
			    (uint64_t)archive_entry_mtime_nsec(e) % UINT64_C(1000000000),
		.size = (uint64_t)archive_entry_size(e),
		.link = either(archive_entry_symlink(e), archive_entry_symlink_utf8(e)),
		.rdev_major = (uint32_t)archive_entry_rdevmajor(e),
		.rdev_minor = (uint32_t)archive_entry_rdevminor(e),
		.xattrs = xattrs,
		.n_xattrs = fill_xattrs(e, xattrs),
	};
	return fn(&item, data, err);
}

static int walk(struct archive *a, const char *what, const struct archive_limits *limits, archive_item_fn fn,
		void *data, struct error *err)
{
	uint64_t bytes = 0, entries = 0;

	for (;;) {
		struct archive_entry *e;
		int r = archive_read_next_header(a, &e);
		int64_t size;

		if (r == ARCHIVE_EOF)
			return 0;
		/* A warning is about a name that the locale cannot express; visit() copes. */
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return bad(what, a, err);
		size = archive_entry_size(e);
		if (size < 0 || ++entries > limits->entries || (uint64_t)size > limits->bytes - bytes)
			return error_set_kind(err, ERROR_DATA, EFBIG, "%s: it holds more than is allowed", what);
		bytes += (uint64_t)size;
		r = visit(a, e, what, fn, data, err);
		if (r)
			return r;
	}
}

/* By name: "all" has programs among them that are searched for in PATH and run. */
static void support_filters(struct archive *a)
{
	(void)archive_read_support_filter_gzip(a);
	(void)archive_read_support_filter_bzip2(a);
	(void)archive_read_support_filter_xz(a);
	(void)archive_read_support_filter_lzma(a);
	(void)archive_read_support_filter_lz4(a); /* Debian's cloud kernel is packed by it */
	(void)archive_read_support_filter_zstd(a);
}

static struct archive *open_tar(void)
{
	struct archive *a = archive_read_new();

	if (a) {
		support_filters(a);
		(void)archive_read_support_format_tar(a);
		(void)archive_read_support_format_empty(a);
	}
	return a;
}

int archive_walk(int fd, const char *what, const struct archive_limits *limits, archive_item_fn fn, void *data,
		 struct error *err)
{
	_cleanup_(free_archive) struct archive *a = open_tar();

	if (!a)
		return error_set(err, ENOMEM, "%s: out of memory", what);
	if (archive_read_open_fd(a, fd, BLOCK) != ARCHIVE_OK)
		return bad(what, a, err);
	return walk(a, what, limits, fn, data, err);
}

static la_ssize_t read_member(struct archive *inner, void *data, const void **ret)
{
	struct archive *outer = data;
	la_int64_t offset;
	size_t n;
	int r = archive_read_data_block(outer, ret, &n, &offset);

	(void)inner;
	if (r == ARCHIVE_EOF)
		return 0;
	return r == ARCHIVE_OK ? (la_ssize_t)n : -1;
}

int archive_walk_deb(int fd, const char *what, const struct archive_limits *limits, archive_item_fn fn, void *data,
		     struct error *err)
{
	_cleanup_(free_archive) struct archive *outer = archive_read_new();
	_cleanup_(free_archive) struct archive *inner = open_tar();
	struct archive_entry *e;

	if (!outer || !inner)
		return error_set(err, ENOMEM, "%s: out of memory", what);
	(void)archive_read_support_format_ar(outer);
	if (archive_read_open_fd(outer, fd, BLOCK) != ARCHIVE_OK)
		return bad(what, outer, err);
	for (;;) {
		const char *name;
		int r = archive_read_next_header(outer, &e);

		if (r == ARCHIVE_EOF)
			return error_set(err, EBADMSG, "%s: not a Debian package: it has no data part", what);
		if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
			return bad(what, outer, err);
		name = archive_entry_pathname(e);
		if (name && after_prefix(name, "data.tar"))
			break;
	}
	if (archive_read_open(inner, outer, NULL, read_member, NULL) != ARCHIVE_OK)
		return bad(what, inner, err);
	return walk(inner, what, limits, fn, data, err);
}

typedef int (*piece_fn)(void *data, uint64_t offset, const void *p, size_t n, struct error *err);

static int read_pieces(const struct archive_item *item, piece_fn fn, void *data, struct error *err)
{
	for (;;) {
		const void *p;
		size_t n;
		la_int64_t offset;
		int r = archive_read_data_block(item->archive, &p, &n, &offset);

		if (r == ARCHIVE_EOF)
			return 0;
		if (r != ARCHIVE_OK || offset < 0)
			return bad(item->what, item->archive, err);
		/* Padding after a sparse file's last piece may come as an empty block. */
		r = n ? fn(data, (uint64_t)offset, p, n, err) : 0;
		if (r < 0)
			return r;
	}
}

static int to_tree(void *data, uint64_t offset, const void *p, size_t n, struct error *err)
{
	struct tree *t = data;

	return t->ops->write(t, offset, p, n, err);
}

int archive_item_copy(const struct archive_item *item, struct tree *t, struct error *err)
{
	int r;

	if (item->hard_link)
		return t->ops->link(t, item->entry.path, item->hard_link, err);
	r = t->ops->add(t, &item->entry, err);
	if (r < 0 || !S_ISREG(item->entry.mode))
		return r;
	r = read_pieces(item, to_tree, t, err);
	return r < 0 ? r : t->ops->end_file(t, err);
}

struct to_buf {
	struct buf *out;
	size_t limit;
	const char *what;
};

static int to_buf(void *data, uint64_t offset, const void *p, size_t n, struct error *err)
{
	struct to_buf *b = data;

	/* A hole would be filled with zeros; nothing that is read this way has one. */
	if (offset != b->out->len || n > b->limit - b->out->len)
		return error_set_kind(err, ERROR_DATA, EFBIG, "%s: an entry is larger than is allowed", b->what);
	buf_add(b->out, p, n);
	return 0;
}

int archive_item_read(const struct archive_item *item, size_t limit, struct buf *out, struct error *err)
{
	struct to_buf b = { .out = out, .limit = limit, .what = item->what };

	buf_truncate(out, 0);
	return read_pieces(item, to_buf, &b, err);
}

int archive_unpack(const void *p, size_t n, const char *what, size_t limit, struct buf *out, struct error *err)
{
	_cleanup_(free_archive) struct archive *a = archive_read_new();
	struct archive_entry *e;

	if (!a)
		return error_set(err, ENOMEM, "%s: out of memory", what);
	support_filters(a);
	(void)archive_read_support_format_raw(a);
	if (archive_read_open_memory(a, p, n) != ARCHIVE_OK || archive_read_next_header(a, &e) != ARCHIVE_OK)
		return bad(what, a, err);
	for (;;) {
		size_t size = 1 << 20;
		la_ssize_t k = archive_read_data(a, buf_reserve(out, size), size);

		if (k < 0)
			return bad(what, a, err);
		if (k == 0)
			return 0;
		if ((size_t)k > limit - out->len)
			return error_set_kind(err, ERROR_DATA, EFBIG, "%s: it unpacks to more than is allowed", what);
		buf_commit(out, (size_t)k);
	}
}
