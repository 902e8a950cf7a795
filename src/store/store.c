#include "store/store.h"

#include <dirent.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"

static const char *absolute_env(const char *variable)
{
	const char *s = getenv(variable);

	/* The XDG rules: what is relative is to be ignored. */
	return s && *s == '/' ? s : NULL;
}

static char *home_directory(void)
{
	const char *home = absolute_env("HOME");
	const struct passwd *pw;

	if (home)
		return xstrdup(home);
	pw = getpwuid(geteuid());
	return pw && pw->pw_dir && *pw->pw_dir == '/' ? xstrdup(pw->pw_dir) : NULL;
}

/* ${VARIABLE}/skerry, else ~/FALLBACK/skerry. */
static char *xdg_path(const char *variable, const char *home, const char *fallback)
{
	const char *base = absolute_env(variable);

	return base ? xasprintf("%s/skerry", base) : xasprintf("%s/%s/skerry", home, fallback);
}

/* A directory of ours alone that holds something. */
static bool in_use(const char *path)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	const struct dirent *de;
	bool used = false;
	struct stat st;
	DIR *d;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != geteuid() || (st.st_mode & 077) != 0)
		return false;
	d = fdopendir(fd);
	if (!d)
		return false;
	fd = -EBADF;
	while (!used && (de = readdir(d)))
		used = !streq(de->d_name, ".") && !streq(de->d_name, "..");
	closedir(d);
	return used;
}

/* su, runuser and `sudo -E` leave it as it was: then it is another user's. It may also be a place that was never made. */
static bool is_ours_to_use(const char *path)
{
	_cleanup_close_ int fd = dir_open_create(path, 0700);
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_uid == geteuid();
}

/* A shell without XDG_RUNTIME_DIR (su, cron, a service) shall find the machines that one with it has started, so the place where login
 * managers put it is looked at before the last resort. What was started before anybody logged in (cron's @reboot, a service with User=) is there, and
 * stays in reach after the login. */
static char *runtime_path(void)
{
	const char *base = absolute_env("XDG_RUNTIME_DIR");
	_cleanup_free_ char *usual = xasprintf("/run/user/%u", (unsigned)geteuid());
	_cleanup_free_ char *last = xasprintf("/tmp/skerry-%u", (unsigned)geteuid());
	_cleanup_free_ char *named = base ? xasprintf("%s/skerry", base) : NULL;
	struct stat st;

	if (in_use(last))
		return TAKE_PTR(last);
	if (named && is_ours_to_use(named))
		return TAKE_PTR(named);
	if (stat(usual, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid())
		return xasprintf("%s/skerry", usual);
	return TAKE_PTR(last);
}

static int instance_paths(struct store *s, const char *instance, struct error *err)
{
	_cleanup_free_ char *cwd = NULL;

	if (*instance == '/') {
		s->home_path = xstrdup(instance);
	} else {
		cwd = getcwd(NULL, 0);
		if (!cwd)
			return error_set_errno(err, errno, "SKERRY_HOME: cannot tell the current directory");
		s->home_path = xasprintf("%s/%s", cwd, instance);
		/* The programs that we start work in other directories. */
		if (setenv("SKERRY_HOME", s->home_path, 1) < 0)
			return error_set_errno(err, errno, "SKERRY_HOME");
	}
	s->config_path = xasprintf("%s/config", s->home_path);
	s->cache_path = xasprintf("%s/cache", s->home_path);
	s->run_path = xasprintf("%s/run", s->home_path);
	return 0;
}

static int user_paths(struct store *s, struct error *err)
{
	_cleanup_free_ char *home = home_directory();

	if (!home) {
		int r = error_set_kind(err, ERROR_CONFIG, ENOENT, "this user has no home directory");

		error_hint(err, "set HOME or SKERRY_HOME");
		return r;
	}
	s->home_path = xdg_path("XDG_DATA_HOME", home, ".local/share");
	s->config_path = xdg_path("XDG_CONFIG_HOME", home, ".config");
	s->cache_path = xdg_path("XDG_CACHE_HOME", home, ".cache");
	s->run_path = runtime_path();
	return 0;
}

static int find_home(struct store *s, struct error *err)
{
	const char *instance = getenv("SKERRY_HOME");

	if (instance && *instance)
		return instance_paths(s, instance, err);
	if (geteuid() != 0)
		return user_paths(s, err);
	s->home_path = xstrdup("/var/lib/skerry");
	s->config_path = xstrdup("/etc/skerry");
	s->cache_path = xstrdup("/var/cache/skerry");
	s->run_path = xstrdup("/run/skerry");
	return 0;
}

static int find_paths(struct store *s, struct error *err)
{
	const char *run = absolute_env("SKERRY_RUN_DIR");
	int r = find_home(s, err);

	/* A home on a volume that outlives this system: what belongs to this boot stays out of it. */
	if (r >= 0 && run) {
		free(s->run_path);
		s->run_path = xstrdup(run);
	}
	return r;
}

static int cannot_create(int r, const char *path, struct error *err)
{
	if (r != -EACCES && r != -EPERM)
		return error_set_kind(err, ERROR_CANTCREATE, r, "cannot open directory '%s': %s", path, strerror(-r));
	error_set_errno(err, r, "cannot open directory '%s'", path);
	error_hint(err, "set SKERRY_HOME to a directory of your own");
	return r;
}

static int open_dir(const char *path, struct error *err)
{
	int fd = dir_open_create(path, 0700);

	return fd < 0 ? cannot_create(fd, path, err) : fd;
}

/* Where there is no place for it there is nothing in it: a reader goes on without (*ret -EBADF). */
static int open_if_possible(const char *path, int *ret, struct error *err)
{
	int fd = dir_open_create(path, 0700);

	if (fd == -EROFS || fd == -EACCES || fd == -EPERM || fd == -ENOENT)
		return 0;
	if (fd < 0)
		return cannot_create(fd, path, err);
	*ret = fd;
	return 0;
}

int store_config(const struct store *s, struct error *err)
{
	_cleanup_close_ int fd = -EBADF;

	if (s->config_fd >= 0)
		return s->config_fd;
	fd = open_dir(s->config_path, err);
	return fd < 0 ? fd
		      : error_set_kind(err, ERROR_UNAVAILABLE, EAGAIN, "%s is there by now: try again", s->config_path);
}

static int open_below(int dirfd, const char *parent, const char *name, int flags, struct error *err)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
	_cleanup_free_ char *path = NULL;

	if (fd < 0 && errno == ENOENT) {
		if (mkdirat(dirfd, name, 0700) < 0 && errno != EEXIST)
			goto fail;
		fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
	}
	if (fd >= 0)
		return fd;
fail:
	fd = -errno;
	path = xasprintf("%s/%s", parent, name);
	return cannot_create(fd, path, err);
}

/* Whoever else may write here could put sockets of their own in the place of ours: what lies in /tmp must be ours alone. */
static int check_private(int fd, const char *path, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return cannot_create(-errno, path, err);
	if (st.st_uid == geteuid() && (st.st_mode & 077) == 0)
		return 0;
	error_set_kind(err, ERROR_DENIED, EPERM, "directory '%s' must belong to you alone (mode 0700)", path);
	error_hint(err, "set XDG_RUNTIME_DIR or SKERRY_HOME, or remove it");
	return -EPERM;
}

static int open_run(struct store *s, struct error *err)
{
	if (strncmp(s->run_path, "/tmp/", 5) != 0 || strchr(s->run_path + 5, '/')) {
		s->run_fd = open_dir(s->run_path, err);
		return s->run_fd < 0 ? s->run_fd : 0;
	}
	s->run_fd = open_below(AT_FDCWD, "", s->run_path, O_NOFOLLOW, err);
	return s->run_fd < 0 ? s->run_fd : check_private(s->run_fd, s->run_path, err);
}

static int open_all(struct store *s, struct error *err)
{
	static const char *const below[] = { "machines", "images", "kernels" };
	int *const fds[] = { &s->machines_fd, &s->images_fd, &s->kernels_fd };
	int r;

	r = find_paths(s, err);
	if (r < 0)
		return r;
	s->home_fd = open_dir(s->home_path, err);
	if (s->home_fd < 0)
		return s->home_fd;
	r = open_if_possible(s->config_path, &s->config_fd, err);
	if (r >= 0)
		r = open_if_possible(s->cache_path, &s->cache_fd, err);
	if (r >= 0)
		r = open_run(s, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(below); i++) {
		/* A link is fine here: images may live on a bigger disk. */
		*fds[i] = open_below(s->home_fd, s->home_path, below[i], 0, err);
		if (*fds[i] < 0)
			return *fds[i];
	}
	return 0;
}

int store_open(struct store *ret, struct error *err)
{
	_cleanup_store_ struct store s = {
		.home_fd = -EBADF,
		.config_fd = -EBADF,
		.cache_fd = -EBADF,
		.run_fd = -EBADF,
		.machines_fd = -EBADF,
		.images_fd = -EBADF,
		.kernels_fd = -EBADF,
	};
	int r = open_all(&s, err);

	if (r < 0)
		return r;
	*ret = s;
	s = (struct store){ .home_fd = -EBADF, -EBADF, -EBADF, -EBADF, -EBADF, -EBADF, -EBADF };
	return 0;
}

void store_done(struct store *s)
{
	int *const fds[] = { &s->home_fd,     &s->config_fd, &s->cache_fd,  &s->run_fd,
			     &s->machines_fd, &s->images_fd, &s->kernels_fd };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++)
		*fds[i] = safe_close(*fds[i]);
	free(s->home_path);
	free(s->config_path);
	free(s->cache_path);
	free(s->run_path);
	s->home_path = s->config_path = s->cache_path = s->run_path = NULL;
}
