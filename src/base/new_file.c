#include "base/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/memory.h"

static char *beside(const char *path)
{
	return xasprintf("%s.tmp-%d", path, (int)getpid());
}

/* A device would not be written to but lose its name to a file. */
static int check_place(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0 || S_ISREG(st.st_mode))
		return 0;
	return S_ISDIR(st.st_mode) ? -EISDIR : -ENOTSUP;
}

int new_file_open(struct new_file *f, const char *path, mode_t mode)
{
	const char *slash = strrchr(path, '/');
	_cleanup_free_ char *dir = slash ? xstrndup(path, (size_t)(slash - path) + 1) : xstrdup(".");
	int r = fault_point("new-file-open");

	*f = NEW_FILE_INIT;
	if (r >= 0)
		r = check_place(path);
	if (r < 0)
		return r;
	f->path = xstrdup(path);
	f->fd = open(dir, O_RDWR | O_TMPFILE | O_CLOEXEC, mode);
	if (f->fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
		return f->fd < 0 ? -errno : 0;
	f->tmp = beside(path);
	f->fd = open(f->tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (f->fd >= 0)
		return 0;
	r = -errno;
	/* It is somebody else's. */
	free(f->tmp);
	f->tmp = NULL;
	return r;
}

/* open(2) shows how a file without a name gets one. */
static int give_name(const struct new_file *f, const char *name)
{
	_cleanup_free_ char *link = xasprintf("/proc/self/fd/%d", f->fd);

	return linkat(AT_FDCWD, link, AT_FDCWD, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

static int place(struct new_file *f, bool replace)
{
	_cleanup_free_ char *tmp = NULL;
	int r;

	if (!replace && f->tmp)
		return link(f->tmp, f->path) < 0 ? -errno : 0;
	if (!f->tmp) {
		r = give_name(f, f->path);
		if (r != -EEXIST || !replace)
			return r;
		/* Nothing replaces a name but another name, which stays behind when we are killed just then. */
		tmp = beside(f->path);
		r = give_name(f, tmp);
		if (r < 0)
			return r;
		f->tmp = TAKE_PTR(tmp);
	}
	if (rename(f->tmp, f->path) < 0)
		return -errno;
	free(f->tmp);
	f->tmp = NULL;
	return 0;
}

int new_file_finish(struct new_file *f, bool replace)
{
	int r = fault_point("new-file-finish");

	if (r >= 0 && fsync(f->fd) < 0)
		r = -errno;
	return r < 0 ? r : place(f, replace);
}

void new_file_done(struct new_file *f)
{
	if (f->tmp)
		(void)unlink(f->tmp);
	f->fd = safe_close(f->fd);
	free(f->tmp);
	free(f->path);
	f->tmp = f->path = NULL;
}
