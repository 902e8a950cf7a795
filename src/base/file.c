#include "base/file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/fault.h"
#include "base/memory.h"

#ifndef FICLONE
#define FICLONE _IOW(0x94, 9, int)
#endif
#ifndef GRND_INSECURE
#define GRND_INSECURE 4
#endif

#define TEMPORARY_PREFIX ".tmp-"
enum { TEMPORARY_LEN = sizeof(TEMPORARY_PREFIX) + 8 };

int file_read_fd(int fd, size_t limit, struct buf *out)
{
	size_t start = out->len, chunk = 4096;

	for (;;) {
		size_t have = out->len - start, want = chunk;
		ssize_t n;

		/* One byte above the limit is asked for, to tell "as long as allowed" from "longer". */
		if (want > limit - have)
			want = limit - have + 1;
		n = read(fd, buf_reserve(out, want), want);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			int r = -errno;

			buf_truncate(out, start);
			return r;
		}
		if (n == 0)
			return 0;
		if ((size_t)n > limit - have) {
			buf_truncate(out, start);
			return -EFBIG;
		}
		buf_commit(out, (size_t)n);
		if ((size_t)n == want && chunk < 1024 * 1024)
			chunk *= 2;
	}
}

int file_read_at(int dirfd, const char *name, size_t limit, struct buf *out)
{
	/* O_NONBLOCK: a FIFO in the file's place must not hang us. */
	_cleanup_close_ int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

	if (fd < 0)
		return -errno;
	return file_read_fd(fd, limit, out);
}

int write_full(int fd, const void *p, size_t n)
{
	const char *from = p;

	while (n) {
		ssize_t k = write(fd, from, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		from += k;
		n -= (size_t)k;
	}
	return 0;
}

int read_full(int fd, void *p, size_t n)
{
	char *to = p;

	while (n) {
		ssize_t k = read(fd, to, n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			return -ENODATA;
		to += k;
		n -= (size_t)k;
	}
	return 0;
}

int pwrite_full(int fd, const void *p, size_t n, uint64_t offset)
{
	const char *from = p;

	while (n) {
		ssize_t k = pwrite(fd, from, n, (off_t)offset);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		from += k;
		n -= (size_t)k;
		offset += (uint64_t)k;
	}
	return 0;
}

int pread_full(int fd, void *p, size_t n, uint64_t offset)
{
	char *to = p;

	while (n) {
		ssize_t k = pread(fd, to, n, (off_t)offset);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -errno;
		if (k == 0)
			return -ENODATA;
		to += k;
		n -= (size_t)k;
		offset += (uint64_t)k;
	}
	return 0;
}

static int temporary_name(char *out, unsigned n)
{
	unsigned char r[4];

	/* GRND_INSECURE never blocks, also not in a guest that has just booted; O_EXCL is what guarantees uniqueness. */
	if (getrandom(r, sizeof(r), GRND_INSECURE) != (ssize_t)sizeof(r))
		return -EIO;
	if (n < TEMPORARY_LEN)
		return -EINVAL;
	snprintf(out, n, TEMPORARY_PREFIX "%02x%02x%02x%02x", r[0], r[1], r[2], r[3]);
	return 0;
}

static int create_temporary(int dirfd, mode_t mode, char name[TEMPORARY_LEN])
{
	for (int i = 0; i < 100; i++) {
		int fd, r = temporary_name(name, TEMPORARY_LEN);

		if (r < 0)
			return r;
		fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
		if (fd >= 0)
			return fd;
		if (errno != EEXIST)
			return -errno;
	}
	return -EEXIST;
}

/* Gives the finished file its name. */
static int publish(int dirfd, const char *temporary, const char *name, unsigned flags)
{
	int r = fault_point("file.rename");

	if (r < 0)
		return r;
	if (flags & FILE_EXCLUSIVE) {
		if (linkat(dirfd, temporary, dirfd, name, 0) < 0)
			return -errno;
		(void)unlinkat(dirfd, temporary, 0);
	} else if (renameat(dirfd, temporary, dirfd, name) < 0) {
		return -errno;
	}
	r = fault_point("file.renamed");
	if (r < 0)
		return r;
	return flags & FILE_DURABLE ? fsync_dir(dirfd) : 0;
}

int file_write_at(int dirfd, const char *name, const void *p, size_t n, mode_t mode, unsigned flags)
{
	char temporary[TEMPORARY_LEN];
	_cleanup_close_ int fd = -EBADF;
	int r = fault_point("file.create");

	if (r < 0)
		return r;
	fd = create_temporary(dirfd, mode, temporary);
	if (fd < 0)
		return fd;
	r = fault_point("file.write");
	/* As asked for: an engine that runs as another user must be able to read a kernel whatever the umask is. */
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0)
		r = write_full(fd, p, n);
	if (r == 0 && (flags & FILE_DURABLE) && fsync(fd) < 0)
		r = -errno;
	if (r == 0)
		r = publish(dirfd, temporary, name, flags);
	if (r < 0)
		(void)unlinkat(dirfd, temporary, 0);
	return r;
}

int mkdir_parents_at(int dirfd, const char *path, mode_t mode)
{
	_cleanup_free_ char *copy = xstrdup(path);

	if (!*path)
		return -ENOENT;
	/* Most often only the last part is missing, or nothing. */
	if (mkdirat(dirfd, path, mode) == 0)
		return 0;
	if (errno == ENOENT) {
		for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
			*slash = '\0';
			if (mkdirat(dirfd, copy, mode) < 0 && errno != EEXIST)
				return -errno;
			*slash = '/';
		}
		if (mkdirat(dirfd, path, mode) == 0)
			return 0;
	}
	if (errno == EEXIST) {
		struct stat st;

		if (fstatat(dirfd, path, &st, 0) < 0)
			return -errno;
		return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
	}
	return -errno;
}

int dir_open_create(const char *path, mode_t mode)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	if (fd >= 0)
		return fd;
	if (errno != ENOENT)
		return -errno;
	r = mkdir_parents_at(AT_FDCWD, path, mode);
	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int fsync_dir(int dirfd)
{
	return fsync(dirfd) < 0 ? -errno : 0;
}

int file_copy_range(int from, int to, uint64_t offset, uint64_t n_bytes)
{
	_cleanup_free_ char *bounce = NULL;
	const size_t bounce_size = 256 * 1024;
	uint64_t end;

	if (__builtin_add_overflow(offset, n_bytes, &end))
		return -EINVAL;
	while (offset < end) {
		off_t in = (off_t)offset, out = (off_t)offset;
		ssize_t n = -1;

		if (!bounce) {
			n = copy_file_range(from, &in, to, &out, (size_t)(end - offset), 0);
			/* Another file system, or none that can do it. 0 is also what some give instead of saying so. */
			if (n <= 0)
				bounce = xcalloc(bounce_size, 1);
		}
		if (n <= 0) {
			size_t want = end - offset < bounce_size ? (size_t)(end - offset) : bounce_size;
			int r = pread_full(from, bounce, want, offset);

			if (r == 0)
				r = pwrite_full(to, bounce, want, offset);
			if (r < 0)
				return r;
			n = (ssize_t)want;
		}
		offset += (uint64_t)n;
	}
	return 0;
}

int file_copy_fd(int from, int to)
{
	struct stat st;
	off_t data = 0, hole;
	int r;

	if (ioctl(to, FICLONE, from) == 0)
		return 0;
	if (fstat(from, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	/* Emptied first, so that holes are holes whatever was there. */
	if (ftruncate(to, 0) < 0 || ftruncate(to, st.st_size) < 0)
		return -errno;
	while (data < st.st_size) {
		data = lseek(from, data, SEEK_DATA);
		if (data < 0 && errno == ENXIO)
			return 0;
		if (data < 0)
			return -errno;
		hole = lseek(from, data, SEEK_HOLE);
		if (hole < 0)
			return -errno;
		if (hole > st.st_size)
			hole = st.st_size;
		r = file_copy_range(from, to, (uint64_t)data, (uint64_t)(hole - data));
		if (r < 0)
			return r;
		data = hole;
	}
	return 0;
}

int file_allocated_fd(int fd, uint64_t *ret_bytes)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*ret_bytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

static int open_resolved(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
	struct open_how how = {
		.flags = (uint64_t)(flags | O_CLOEXEC),
		.mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? mode : 0,
		.resolve = resolve,
	};

	/* EAGAIN: a rename somewhere raced with the walk. */
	for (int i = 0; i < 32; i++) {
		int fd = (int)syscall(SYS_openat2, dirfd, path, &how, sizeof(how));

		if (fd >= 0)
			return fd;
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return -EAGAIN;
}

int open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	return open_resolved(dirfd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
}

int open_in_root(int dirfd, const char *path, int flags)
{
	return open_resolved(dirfd, path, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int open_no_symlinks(int dirfd, const char *path, int flags)
{
	return open_resolved(dirfd, path, flags, 0, RESOLVE_NO_SYMLINKS);
}

static int unix_address(int dirfd, const char *name, struct sockaddr_un *ret)
{
	int n;

	if (strchr(name, '/'))
		return -EINVAL;
	*ret = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(ret->sun_path, sizeof(ret->sun_path), "/proc/self/fd/%d/%s", dirfd, name);
	return n < 0 || (size_t)n >= sizeof(ret->sun_path) ? -ENAMETOOLONG : 0;
}

int unix_listen_at(int dirfd, const char *name, int backlog)
{
	_cleanup_close_ int fd = -EBADF;
	struct sockaddr_un sa;
	struct stat st;
	int r = unix_address(dirfd, name, &sa);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* The socket's own mode is what bind(2) creates the name with: there is no moment in which others could connect. */
	if (fchmod(fd, 0600) < 0)
		return -errno;
	if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
		(void)unlinkat(dirfd, name, 0);
	if (bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, backlog) < 0)
		return -errno;
	return TAKE_FD(fd);
}

static int unix_connect(int dirfd, const char *name, int flags)
{
	_cleanup_close_ int fd = -EBADF;
	struct sockaddr_un sa;
	int r = unix_address(dirfd, name, &sa);

	if (r < 0)
		return r;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0)
		return -errno;
	while (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0)
		if (errno != EINTR)
			return -errno;
	return TAKE_FD(fd);
}

int unix_connect_at(int dirfd, const char *name)
{
	return unix_connect(dirfd, name, 0);
}

int unix_connect_now_at(int dirfd, const char *name)
{
	return unix_connect(dirfd, name, SOCK_NONBLOCK);
}
