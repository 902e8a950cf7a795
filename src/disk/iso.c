#include "disk/iso.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"

enum { LABEL_MAX = 16, FILES_MAX = 10000, DEPTH_MAX = 16, BLOCK = 1 << 16 };
/* 1980-01-01: a time that every reader of these file systems can show. */
#define FILE_TIME_S 315532800

struct iso {
	struct archive *a; /* owned */
	int fd;            /* borrowed */
	bool open;
	bool checking; /* a first look at a directory: nothing is written */
	unsigned files;
	uint64_t bytes_left;
};

static int failed(struct iso *iso, const char *path, struct error *err)
{
	const char *why = archive_error_string(iso->a);
	int num = archive_errno(iso->a);

	return error_set(err, num > 0 ? num : EIO, "ISO image: %s%s%s", path ? path : "", path ? ": " : "",
			 why ? why : "cannot be written");
}

static bool label_valid(const char *s)
{
	size_t n = strlen(s);

	return n >= 1 && n <= LABEL_MAX && strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == n;
}

int iso_create(int fd, const char *label, struct iso **ret, struct error *err)
{
	_cleanup_iso_ struct iso *iso = xnew(struct iso);

	if (!label_valid(label))
		return error_set_kind(err, ERROR_USAGE, EINVAL, "ISO image: '%s' is no volume name", label);
	iso->fd = fd;
	iso->a = archive_write_new();
	if (!iso->a)
		return error_set(err, ENOMEM, "ISO image: out of memory");
	if (archive_write_set_format_iso9660(iso->a) != ARCHIVE_OK ||
	    archive_write_set_format_option(iso->a, "iso9660", "volume-id", label) != ARCHIVE_OK ||
	    archive_write_set_format_option(iso->a, "iso9660", "joliet", "1") != ARCHIVE_OK ||
	    archive_write_set_format_option(iso->a, "iso9660", "rockridge", "useful") != ARCHIVE_OK ||
	    archive_write_set_format_option(iso->a, "iso9660", "pad", "1") != ARCHIVE_OK)
		return failed(iso, NULL, err);
	*ret = TAKE_PTR(iso);
	return 0;
}

/* Late: a writer that was opened and is given up is not all freed by the library. */
static int open_writer(struct iso *iso, struct error *err)
{
	if (!iso->open && archive_write_open_fd(iso->a, iso->fd) != ARCHIVE_OK)
		return failed(iso, NULL, err);
	iso->open = true;
	return 0;
}

static int add_header(struct iso *iso, const char *path, mode_t type, uint64_t bytes, struct error *err)
{
	struct archive_entry *e = archive_entry_new();
	int r = open_writer(iso, err);

	if (r < 0) {
		archive_entry_free(e);
		return r;
	}
	if (!e)
		return error_set(err, ENOMEM, "ISO image: out of memory");
	archive_entry_set_pathname(e, path);
	archive_entry_set_mode(e, type | (type == S_IFDIR ? 0755 : 0644));
	archive_entry_set_mtime(e, FILE_TIME_S, 0);
	archive_entry_set_atime(e, FILE_TIME_S, 0);
	archive_entry_set_ctime(e, FILE_TIME_S, 0);
	if (type == S_IFREG)
		archive_entry_set_size(e, (int64_t)bytes);
	r = archive_write_header(iso->a, e);
	archive_entry_free(e);
	/* A warning is a name that one of the file systems has to shorten; the others carry it whole. */
	return r == ARCHIVE_OK || r == ARCHIVE_WARN ? 0 : failed(iso, path, err);
}

static int add_data(struct iso *iso, const char *path, const void *p, size_t n, struct error *err)
{
	const char *at = p;

	while (n) {
		la_ssize_t k = archive_write_data(iso->a, at, n);

		if (k <= 0)
			return failed(iso, path, err);
		at += k;
		n -= (size_t)k;
	}
	return 0;
}

int iso_add_file(struct iso *iso, const char *path, const void *p, size_t n, struct error *err)
{
	int r = add_header(iso, path, S_IFREG, n, err);

	return r < 0 ? r : add_data(iso, path, p, n, err);
}

static int copy_file(struct iso *iso, int fd, const char *path, uint64_t bytes, struct error *err)
{
	_cleanup_free_ char *block = xcalloc(1, BLOCK);
	int r = add_header(iso, path, S_IFREG, bytes, err);

	while (r >= 0 && bytes) {
		ssize_t n = read(fd, block, bytes < BLOCK ? (size_t)bytes : BLOCK);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? error_set_errno(err, errno, "cannot read '%s'", path)
				     : error_set(err, ENODATA, "'%s' changed while it was read", path);
		r = add_data(iso, path, block, (size_t)n, err);
		bytes -= (uint64_t)n;
	}
	return r;
}

static int add_below(struct iso *iso, int dirfd, const char *prefix, const char *what, unsigned depth,
		     struct error *err);

static int add_entry(struct iso *iso, int dirfd, const char *name, const char *path, const char *what, unsigned depth,
		     struct error *err)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	struct stat st;

	if (fd < 0 && errno != ELOOP)
		return error_set_errno(err, errno, "%s: cannot read '%s'", what, path);
	if (fd < 0 || fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: '%s' is neither a file nor a directory", what,
				      path);
	if (++iso->files > FILES_MAX)
		return error_set_kind(err, ERROR_DATA, E2BIG, "%s: more than %d files", what, FILES_MAX);
	if (S_ISDIR(st.st_mode)) {
		int r = iso->checking ? 0 : add_header(iso, path, S_IFDIR, 0, err);

		return r < 0 ? r : add_below(iso, fd, path, what, depth + 1, err);
	}
	if (st.st_size < 0 || (uint64_t)st.st_size > iso->bytes_left)
		return error_set_kind(err, ERROR_DATA, EFBIG, "%s: its files are larger than is allowed", what);
	iso->bytes_left -= (uint64_t)st.st_size;
	return iso->checking ? 0 : copy_file(iso, fd, path, (uint64_t)st.st_size, err);
}

static int add_below(struct iso *iso, int dirfd, const char *prefix, const char *what, unsigned depth,
		     struct error *err)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;
	int r = 0;

	if (!d) {
		r = error_set_errno(err, errno, "%s: cannot read it", what);
		(void)safe_close(fd);
		return r;
	}
	if (depth > DEPTH_MAX)
		r = error_set_kind(err, ERROR_DATA, E2BIG, "%s: deeper than %d directories", what, DEPTH_MAX);
	while (r >= 0 && (e = readdir(d))) {
		_cleanup_free_ char *path = NULL;

		if (streq(e->d_name, ".") || streq(e->d_name, ".."))
			continue;
		path = *prefix ? xasprintf("%s/%s", prefix, e->d_name) : xstrdup(e->d_name);
		r = add_entry(iso, dirfd, e->d_name, path, what, depth, err);
	}
	(void)closedir(d);
	return r;
}

int iso_add_tree(struct iso *iso, int dirfd, const char *what, uint64_t max_bytes, struct error *err)
{
	unsigned before = iso->files;
	int r;

	/* What is wrong with it is told before anything is written. */
	iso->bytes_left = max_bytes;
	iso->checking = true;
	r = add_below(iso, dirfd, "", what, 0, err);
	iso->checking = false;
	iso->files = before;
	iso->bytes_left = max_bytes;
	return r < 0 ? r : add_below(iso, dirfd, "", what, 0, err);
}

int iso_finish(struct iso *iso, struct error *err)
{
	int r = open_writer(iso, err);

	if (r < 0)
		return r;
	return archive_write_close(iso->a) == ARCHIVE_OK ? 0 : failed(iso, NULL, err);
}

struct iso *iso_free(struct iso *iso)
{
	if (!iso)
		return NULL;
	/* Freeing would finish the image: what was given up is not written. */
	if (iso->a) {
		(void)archive_write_fail(iso->a);
		(void)archive_write_free(iso->a);
	}
	free(iso);
	return NULL;
}
