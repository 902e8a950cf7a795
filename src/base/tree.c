/* Removing directory trees that somebody else may have filled: no symbolic link is followed, no mount entered, and the depth of the
 * tree costs a bounded number of descriptors: what lies deeper than DEPTH_MAX is moved up to the top first. */
#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "base/memory.h"

#ifndef RENAME_NOREPLACE
#define RENAME_NOREPLACE 1
#endif

enum { DEPTH_MAX = 32 };

struct removal {
	int top_fd;
	uint64_t done; /* names removed or moved: a round without any is the last one */
	unsigned moved;
};

/* A directory that its owner may not write or search is made so; the way through /proc never follows a link. */
static int grant_access(int dirfd, const char *name)
{
	_cleanup_close_ int fd = openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	char path[32];

	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return chmod(path, 0700) < 0 ? -errno : 0;
}

static int open_child(int dirfd, const char *name)
{
	struct open_how how = {
		.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
	};
	int fd = -1;

	for (int i = 0; i < 32 && fd < 0; i++) {
		fd = (int)syscall(SYS_openat2, dirfd, name, &how, sizeof(how));
		if (fd < 0 && errno == EACCES && i == 0 && grant_access(dirfd, name) == 0)
			continue;
		if (fd < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return fd < 0 ? -EAGAIN : fd;
}

static int unlink_one(int dirfd, const char *name, int flags)
{
	if (unlinkat(dirfd, name, flags) == 0 || errno == ENOENT)
		return 0;
	if (errno == EACCES && fchmod(dirfd, 0700) == 0 && unlinkat(dirfd, name, flags) == 0)
		return 0;
	return -errno;
}

/* musl has no wrapper. */
static int rename_exclusive(int from_fd, const char *from, int to_fd, const char *to)
{
	return (int)syscall(SYS_renameat2, from_fd, from, to_fd, to, RENAME_NOREPLACE);
}

/* Whatever needs no descent. Some file systems say EPERM for a directory, which is also what an immutable file gives. */
static int remove_shallow(int dirfd, const char *name)
{
	int r = unlink_one(dirfd, name, 0), d;

	if (r != -EISDIR && r != -EPERM)
		return r;
	d = unlink_one(dirfd, name, AT_REMOVEDIR);
	return d == -ENOTDIR ? r : d;
}

static int move_to_top(struct removal *rm, int dirfd, const char *name)
{
	char to[32];

	for (;;) {
		snprintf(to, sizeof(to), ".tmp-deep-%u", rm->moved++);
		if (rename_exclusive(dirfd, name, rm->top_fd, to) == 0)
			return 0;
		/* A directory's ".." changes with the move, so it must be writable itself. */
		if (errno == EACCES && fchmod(dirfd, 0700) == 0 && grant_access(dirfd, name) == 0 &&
		    rename_exclusive(dirfd, name, rm->top_fd, to) == 0)
			return 0;
		if (errno != EEXIST || rm->moved == 0)
			return -errno;
	}
}

static int remove_entry(struct removal *rm, int dirfd, const char *name, unsigned depth);

/* Removes what @fd (consumed) holds, until a round finds nothing more to do. */
static int empty_dir(struct removal *rm, int fd, unsigned depth)
{
	DIR *d = fdopendir(fd);
	uint64_t before;
	int r = 0;

	if (!d) {
		r = -errno;
		safe_close(fd);
		return r;
	}
	do {
		const struct dirent *e;

		before = rm->done;
		rewinddir(d);
		while (r == 0 && (errno = 0, e = readdir(d)))
			if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
				r = remove_entry(rm, dirfd(d), e->d_name, depth);
		if (r == 0 && errno)
			r = -errno;
	} while (r == 0 && rm->done != before);
	closedir(d);
	return r;
}

static int remove_entry(struct removal *rm, int dirfd, const char *name, unsigned depth)
{
	int fd, r = remove_shallow(dirfd, name);

	if (r == -ENOTEMPTY || r == -EEXIST) {
		if (depth >= DEPTH_MAX) {
			r = move_to_top(rm, dirfd, name);
		} else {
			fd = open_child(dirfd, name);
			if (fd < 0)
				return fd;
			r = empty_dir(rm, fd, depth + 1);
			if (r == 0)
				r = unlink_one(dirfd, name, AT_REMOVEDIR);
		}
	}
	if (r == 0)
		rm->done++;
	return r;
}

int remove_tree_at(int dirfd, const char *name)
{
	struct removal rm = {};
	_cleanup_close_ int top = -EBADF;
	int r, fd;

	/* Everything but a directory with something in it goes at once. */
	r = remove_shallow(dirfd, name);
	if (r != -ENOTEMPTY && r != -EEXIST)
		return r;
	top = open_child(dirfd, name);
	if (top < 0)
		return top;
	rm.top_fd = top;
	fd = fcntl(top, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return -errno;
	r = empty_dir(&rm, fd, 0);
	return r < 0 ? r : unlink_one(dirfd, name, AT_REMOVEDIR);
}

int file_remove_temporaries(int parent_fd)
{
	/* A description of its own: the caller's keeps its position. */
	int fd = openat(parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	const struct dirent *e;
	DIR *d;

	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		r = -errno;
		safe_close(fd);
		return r;
	}
	while (r == 0 && (errno = 0, e = readdir(d)))
		if (after_prefix(e->d_name, ".tmp-"))
			r = remove_tree_at(fd, e->d_name);
	if (r == 0 && errno)
		r = -errno;
	closedir(d);
	return r;
}

int dir_list_at(int dirfd, const char *path, struct strv *ret)
{
	int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW), r = 0;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *e;

	if (!d) {
		r = -errno;
		(void)safe_close(fd);
		return r;
	}
	while ((errno = 0, e = readdir(d)))
		if (!streq(e->d_name, ".") && !streq(e->d_name, ".."))
			strv_add(ret, e->d_name);
	r = -errno;
	(void)closedir(d);
	return r;
}
