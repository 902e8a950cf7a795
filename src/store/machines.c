/* The machines' directories and locks. */
#include "store/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/lock.h"

/* A name that no machine can have: those begin with a letter or digit. */
#define NAMES_LOCK ".lock"

static int no_machine(const struct name *name, struct error *err)
{
	int r = error_set(err, ENOENT, "no machine named '%s'", name->s);

	error_hint(err, "see: skerry list");
	return r;
}

static int open_named(int dirfd, const struct name *name)
{
	int fd = openat(dirfd, name->s, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

int store_machine_open(const struct store *s, const struct name *name, struct error *err)
{
	int fd = open_named(s->machines_fd, name);

	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return no_machine(name, err);
	return fd < 0 ? error_set_errno(err, fd, "machine '%s': cannot open its directory", name->s) : fd;
}

int store_machine_create(const struct store *s, const struct name *name, struct error *err)
{
	int r, fd = -EBADF;

	r = fault_point("store.machine");
	if (r == 0 && mkdirat(s->machines_fd, name->s, 0700) < 0)
		r = -errno;
	if (r == -EEXIST)
		return error_set(err, EEXIST, "a machine named '%s' exists", name->s);
	if (r < 0)
		return error_set_errno(err, r, "machine '%s': cannot create its directory", name->s);
	r = fault_point("store.machine-made");
	/* A machine that was reported as created is there after a power cut. */
	if (r == 0)
		r = fsync_dir(s->machines_fd);
	if (r == 0)
		r = fd = open_named(s->machines_fd, name);
	if (r >= 0)
		return fd;
	(void)unlinkat(s->machines_fd, name->s, AT_REMOVEDIR);
	return error_set_errno(err, r, "machine '%s': cannot create its directory", name->s);
}

int store_machine_run_dir(const struct store *s, const struct name *name, struct error *err)
{
	int fd = open_named(s->run_fd, name), r = 0;

	if (fd == -ENOENT) {
		r = fault_point("store.run-dir");
		if (r == 0 && mkdirat(s->run_fd, name->s, 0700) < 0 && errno != EEXIST)
			r = -errno;
		fd = r < 0 ? r : open_named(s->run_fd, name);
	}
	if (fd < 0)
		return error_set_errno(err, fd, "machine '%s': cannot open '%s/%s'", name->s, s->run_path, name->s);
	return fd;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Whether an entry of machines/ is one: locks, temporary names and what is no directory are not. */
static bool is_machine(int dirfd, const struct dirent *e)
{
	struct name name;
	struct stat st;

	if (name_parse(e->d_name, "machine name", &name, NULL) < 0)
		return false;
	if (e->d_type != DT_UNKNOWN)
		return e->d_type == DT_DIR;
	return fstatat(dirfd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

int store_machine_names(const struct store *s, struct strv *ret, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	/* An open file description of its own: reading moves its position. */
	int fd = openat(s->machines_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
	const struct dirent *e;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		r = -errno;
		safe_close(fd);
		return error_set_errno(err, r, "cannot read '%s/machines'", s->home_path);
	}
	while ((errno = 0, e = readdir(d)))
		if (is_machine(fd, e))
			strv_add(&names, e->d_name);
	r = -errno;
	closedir(d);
	if (r < 0)
		return error_set_errno(err, r, "cannot read '%s/machines'", s->home_path);
	if (names.n)
		qsort(names.items, names.n, sizeof(*names.items), by_name);
	strv_copy(ret, &names);
	return 0;
}

int store_machine_lock(const struct store *s, const struct name *name, uint64_t wait_ns, struct error *err)
{
	_cleanup_free_ char *path = xasprintf("%s/lock", name->s), *what = xasprintf("machine '%s'", name->s);
	_cleanup_error_ struct error e = {};
	/* By this path and not by a descriptor of the directory: a machine that was deleted and made anew while we waited is another. */
	int fd = lock_acquire(s->machines_fd, path, what, wait_ns, &e);

	if (fd == -ENOENT || fd == -ENOTDIR)
		return no_machine(name, err);
	return fd < 0 ? error_move(err, &e) : fd;
}

int store_names_lock(const struct store *s, uint64_t wait_ns, struct error *err)
{
	return lock_acquire(s->machines_fd, NAMES_LOCK, "the list of machines", wait_ns, err);
}
