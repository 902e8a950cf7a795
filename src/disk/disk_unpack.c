#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "disk/disk_file.h"

enum { BLOCK = 1 << 16, PIECE = 4096 };

static void free_archive(struct archive **a)
{
	if (*a)
		(void)archive_read_free(*a);
}

static bool all_zero(const char *p, size_t n)
{
	return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static int write_sparse(int to, const char *p, size_t n, uint64_t at)
{
	while (n) {
		size_t k = n < PIECE ? n : PIECE;
		int r = all_zero(p, k) ? 0 : pwrite_full(to, p, k, at);

		if (r < 0)
			return r;
		p += k;
		at += k;
		n -= k;
	}
	return 0;
}

/* By name: "all" has programs among them that are searched for in PATH and run. */
static void support_filters(struct archive *a)
{
	(void)archive_read_support_filter_gzip(a);
	(void)archive_read_support_filter_bzip2(a);
	(void)archive_read_support_filter_xz(a);
	(void)archive_read_support_filter_lzma(a);
	(void)archive_read_support_filter_lz4(a);
	(void)archive_read_support_filter_zstd(a);
}

static int bad(struct archive *a, const char *what, struct error *err)
{
	const char *why = archive_error_string(a);

	return error_set(err, EBADMSG, "%s: damaged: %s", what, why ? why : "it cannot be decompressed");
}

static struct archive *open_packed(int fd)
{
	_cleanup_(free_archive) struct archive *a = archive_read_new();
	struct archive_entry *e;

	if (!a)
		return NULL;
	support_filters(a);
	(void)archive_read_support_format_raw(a);
	if (archive_read_open_fd(a, fd, BLOCK) != ARCHIVE_OK || archive_read_next_header(a, &e) != ARCHIVE_OK)
		return NULL;
	return TAKE_PTR(a);
}

enum disk_file_kind disk_file_recognise_packed(int fd)
{
	_cleanup_close_ int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	off_t at = lseek(fd, 0, SEEK_CUR);
	_cleanup_(free_archive) struct archive *a = own < 0 ? NULL : open_packed(own);
	_cleanup_free_ char *head = xcalloc(1, DISK_FILE_HEAD);
	enum disk_file_kind kind = DISK_FILE_NONE;
	size_t n = 0;

	while (a && n < DISK_FILE_HEAD) {
		la_ssize_t k = archive_read_data(a, head + n, DISK_FILE_HEAD - n);

		if (k <= 0)
			break;
		n += (size_t)k;
	}
	(void)lseek(fd, at, SEEK_SET);
	/* A tar's mark; a member's content might look like anything. */
	if (!(n > 263 && memcmp(head + 257, "ustar", 5) == 0))
		kind = disk_file_recognise(head, n);
	return kind == DISK_FILE_PACKED ? DISK_FILE_NONE : kind;
}

int disk_file_unpack(int fd, const char *what, int to, uint64_t max_bytes, struct error *err)
{
	_cleanup_(free_archive) struct archive *a = archive_read_new();
	_cleanup_free_ char *block = xcalloc(1, BLOCK);
	struct archive_entry *e;
	uint64_t at = 0;

	if (!a)
		return error_set(err, ENOMEM, "%s: out of memory", what);
	support_filters(a);
	(void)archive_read_support_format_raw(a);
	if (archive_read_open_fd(a, fd, BLOCK) != ARCHIVE_OK || archive_read_next_header(a, &e) != ARCHIVE_OK)
		return bad(a, what, err);
	for (;;) {
		la_ssize_t n = archive_read_data(a, block, BLOCK);
		int r;

		if (n < 0)
			return bad(a, what, err);
		if (n == 0)
			break;
		if ((uint64_t)n > max_bytes - at)
			return error_set_kind(err, ERROR_DATA, EFBIG, "%s: more comes out of it than is allowed", what);
		r = write_sparse(to, block, (size_t)n, at);
		if (r < 0)
			return error_set_errno(err, r, "%s: cannot decompress it", what);
		at += (uint64_t)n;
	}
	return ftruncate(to, (off_t)at) < 0 ? error_set_errno(err, errno, "%s: cannot decompress it", what) : 0;
}
