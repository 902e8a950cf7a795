#include "guest/root.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/file.h"
#include "base/memory.h"

int root_open(int root, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};

	for (int tries = 0; tries < 16; tries++) {
		long fd = syscall(SYS_openat2, root, path, &how, sizeof(how));

		if (fd >= 0)
			return (int)fd;
		if (errno != EAGAIN)
			break;
	}
	return -errno;
}

int root_read(int root, const char *path, size_t limit, struct buf *out)
{
	_cleanup_close_ int fd = root_open(root, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	return file_read_fd(fd, limit, out);
}

/* The directory of @path (descriptor) and the name in it. */
static int open_parent(int root, const char *path, const char **ret_name)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *parent = slash ? xstrndup(path, (size_t)(slash - path)) : NULL;

	*ret_name = slash ? slash + 1 : path;
	return root_open(root, parent && parent[0] ? parent : "/", O_PATH | O_DIRECTORY, 0);
}

static bool has_content(int dir, const char *name, const void *p, size_t n, mode_t mode)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	_cleanup_buf_ struct buf b = { 0 };
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (st.st_mode & 07777) == mode &&
	       (size_t)st.st_size == n && file_read_fd(fd, n, &b) == 0 && b.len == n &&
	       (n == 0 || memcmp(b.p, p, n) == 0);
}

int root_write_at(int dir, const char *name, const void *p, size_t n, mode_t mode, uid_t uid, gid_t gid)
{
	_cleanup_close_ int fd = -EBADF;
	_cleanup_free_ char *temporary = NULL;
	int r = 0;

	if (has_content(dir, name, p, n, mode))
		return 0;
	temporary = xasprintf(".%s.skerry", name);
	(void)unlinkat(dir, temporary, 0);
	fd = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (n > 0)
		r = write_full(fd, p, n);
	if (r == 0 && geteuid() == 0 && fchown(fd, uid, gid) < 0)
		r = -errno;
	if (r == 0 && fchmod(fd, mode) < 0)
		r = -errno;
	if (r == 0 && renameat(dir, temporary, dir, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir, temporary, 0);
	return r;
}

int root_write(int root, const char *path, const void *p, size_t n, mode_t mode, uid_t uid, gid_t gid)
{
	const char *name;
	_cleanup_close_ int parent = open_parent(root, path, &name);

	if (parent < 0)
		return parent;
	return root_write_at(parent, name, p, n, mode, uid, gid);
}

int root_mkdir(int root, const char *path, mode_t mode, uid_t uid, gid_t gid)
{
	const char *name;
	_cleanup_close_ int dir = open_parent(root, path, &name);

	if (dir < 0)
		return dir;
	if (mkdirat(dir, name, mode) == 0) {
		if (geteuid() == 0 && fchownat(dir, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
			return -errno;
	} else if (errno != EEXIST) {
		return -errno;
	}
	return root_open(root, path, O_PATH | O_DIRECTORY, 0);
}

int root_mkdir_parents(int root, const char *path)
{
	for (size_t n = strspn(path, "/"); path[n];) {
		_cleanup_free_ char *part = NULL;
		_cleanup_close_ int fd = -EBADF;

		n += strcspn(path + n, "/");
		part = xstrndup(path, n);
		fd = root_mkdir(root, part, 0755, 0, 0);
		if (fd < 0)
			return fd;
		n += strspn(path + n, "/");
	}
	return 0;
}
