#include "cli/image_disk_import.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/image_seal.h"
#include "disk/disk_file.h"
#include "image/blob.h"

static int recognise(int fd, const char *what, enum disk_file_kind *ret, struct error *err)
{
	_cleanup_free_ char *head = xcalloc(1, DISK_FILE_HEAD);
	size_t n = 0;

	while (n < DISK_FILE_HEAD) {
		ssize_t k = pread(fd, head + n, DISK_FILE_HEAD - n, (off_t)n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return error_set_errno(err, errno, "%s: cannot read it", what);
		if (k == 0)
			break;
		n += (size_t)k;
	}
	*ret = disk_file_recognise(head, n);
	return 0;
}

static int open_file(const char *path, const char *what, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s: cannot open it", what);
	if (!S_ISREG(st.st_mode))
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: it is no regular file", what);
	return TAKE_FD(fd);
}

/* Where the whole file is compressed: its content, in the workshop. *@fd is replaced. */
static int unpack(struct workshop *w, int *fd, const char *what, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("%s/unpacked", w->scratch_path);
	_cleanup_close_ int to = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	int r = to < 0 ? -errno : fault_point("import-unpack");

	(void)unlink(path);
	if (r < 0)
		return error_set_errno(err, r, "%s: cannot unpack it", what);
	r = disk_file_unpack(*fd, what, to, DISK_FILE_BYTES_MAX, err);
	if (r < 0)
		return r;
	(void)safe_close(*fd);
	*fd = TAKE_FD(to);
	return 0;
}

/* What goes with the system's disk: the second one, and the firmware's variables. */
static int add_home(struct workshop *w, const char *path, struct error *err)
{
	_cleanup_free_ char *what = xasprintf("'%s'", path);
	_cleanup_close_ int fd = open_file(path, what, err);
	enum disk_file_kind kind;
	uint64_t bytes;
	int r;

	if (fd < 0)
		return fd;
	r = recognise(fd, what, &kind, err);
	if (r >= 0)
		r = disk_file_convert(fd, kind, what, w->dir_fd, IMAGE_HOME, w->scratch_path, &bytes, err);
	if (r >= 0 && fchmodat(w->dir_fd, IMAGE_HOME, 0444, 0) < 0)
		r = error_set_errno(err, errno, "%s", what);
	return r;
}

static int add_nvram(struct workshop *w, const char *path, struct error *err)
{
	_cleanup_close_ int from = open_file(path, path, err), to = -EBADF;
	int r;

	if (from < 0)
		return from;
	to = openat(w->dir_fd, IMAGE_NVRAM, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0444);
	r = to < 0 ? -errno : file_copy_fd(from, to);
	if (r >= 0 && fsync(to) < 0)
		r = -errno;
	return r < 0 ? error_set_errno(err, r, "'%s': cannot copy it", path) : 0;
}

bool disk_import_recognise(const char *given, const char **ret_path)
{
	_cleanup_close_ int fd = -EBADF;
	enum disk_file_kind kind;

	*ret_path = after_prefix(given, "disk:");
	if (*ret_path)
		return true;
	*ret_path = given;
	fd = open_file(given, given, NULL);
	if (fd < 0 || recognise(fd, given, &kind, NULL) < 0)
		return false;
	/* Archives are packed too, and have a source of their own: what is inside decides. */
	if (kind == DISK_FILE_PACKED)
		kind = disk_file_recognise_packed(fd);
	return kind != DISK_FILE_NONE;
}

int disk_import(const struct store *s, const struct disk_import *d, char **ret_digest, struct error *err)
{
	_cleanup_workshop_ struct workshop w = WORKSHOP_INIT;
	_cleanup_free_ char *what = xasprintf("'%s'", d->path), *source = NULL;
	const char *slash = strrchr(d->path, '/');
	_cleanup_close_ int fd = -EBADF, lock = -EBADF;
	enum disk_file_kind kind;
	uint64_t bytes = 0;
	int r;

	fd = open_file(d->path, what, err);
	if (fd < 0)
		return fd;
	r = recognise(fd, what, &kind, err);
	if (r >= 0 && kind != DISK_FILE_PACKED)
		r = disk_file_check(fd, kind, what, err);
	if (r < 0)
		return r;
	lock = blob_lock(s, false, err);
	r = lock < 0 ? lock : workshop_open(s, &w, err);
	if (r >= 0 && kind == DISK_FILE_PACKED) {
		r = unpack(&w, &fd, what, err);
		if (r >= 0)
			r = recognise(fd, what, &kind, err);
	}
	if (r >= 0)
		r = disk_file_convert(fd, kind, what, w.dir_fd, "disk.qcow2", w.scratch_path, &bytes, err);
	if (r >= 0 && d->home)
		r = add_home(&w, d->home, err);
	if (r >= 0 && d->nvram)
		r = add_nvram(&w, d->nvram, err);
	if (r < 0)
		return r;
	source = d->source ? xstrdup(d->source) : xasprintf("disk %s", slash ? slash + 1 : d->path);
	return image_seal_disk(&w, d->name, &(struct sealed_disk){ .bytes = bytes, .source = source, .user = d->user },
			       ret_digest, err);
}
