#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "image/recipe.h"

enum { OUTPUT_LIMIT = 64 << 10 };
#define TIMEOUT_NS (UINT64_C(15) * 60 * NS_PER_SEC)

/* A finished "NAME_VERSION_ARCH.deb" in the directory, or NULL. Of several versions the last by name; a cached one is good enough, as the
 * caller that wants a certain version names it. */
static char *find_package(int dir_fd, const char *name)
{
	_cleanup_free_ char *found = NULL, *prefix = xasprintf("%s_", name);
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const struct dirent *e;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		(void)safe_close(fd);
		return NULL;
	}
	while ((e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (!after_prefix(e->d_name, prefix) || n < 4 || !streq(e->d_name + n - 4, ".deb"))
			continue;
		if (!found || strcmp(e->d_name, found) > 0) {
			free(found);
			found = xstrdup(e->d_name);
		}
	}
	(void)closedir(d);
	return TAKE_PTR(found);
}

static int download(int dir_fd, const char *dir_path, const char *name, char **ret_file, struct error *err)
{
	const char *argv[] = { "apt-get", "-q", "download", name, NULL };
	struct spawn s = SPAWN_INIT;
	_cleanup_buf_ struct buf out = {};
	int r;

	s.argv = argv;
	s.cwd = dir_path;
	s.death_signal = 15;
	r = spawn_check(&s, NULL, &out, OUTPUT_LIMIT, TIMEOUT_NS, err);
	if (r >= 0) {
		*ret_file = find_package(dir_fd, name);
		if (*ret_file)
			return 0;
		r = error_set(err, ENOENT, "apt-get made no file");
	}
	if (err && err->num)
		err->kind = ERROR_UNAVAILABLE;
	(void)error_prefix(err, "package '%s'", name);
	(void)error_hint(err, "apt-get update");
	return r;
}

int package_fetch(const struct store *s, const char *name, char **ret_path, struct error *err)
{
	_cleanup_free_ char *dir_path = xasprintf("%s/packages", s->cache_path), *tmp_path = NULL, *file = NULL;
	_cleanup_close_ int dir = -EBADF, tmp = -EBADF;
	char tmp_name[64];
	int r;

	dir = dir_open_create(dir_path, 0700);
	if (dir < 0)
		return error_set_errno(err, -dir, "cannot create '%s'", dir_path);
	file = find_package(dir, name);
	if (!file) {
		(void)snprintf(tmp_name, sizeof(tmp_name), ".tmp-%d-%016llx", (int)getpid(),
			       (unsigned long long)clock_monotonic_ns());
		tmp_path = xasprintf("%s/%s", dir_path, tmp_name);
		if (mkdirat(dir, tmp_name, 0755) < 0)
			return error_set_errno(err, errno, "cannot create '%s'", tmp_path);
		tmp = openat(dir, tmp_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = tmp < 0 ? error_set_errno(err, errno, "'%s'", tmp_path) : download(tmp, tmp_path, name, &file, err);
		if (r >= 0 && renameat(tmp, file, dir, file) < 0)
			r = error_set_errno(err, errno, "'%s'", file);
		(void)remove_tree_at(dir, tmp_name);
		if (r < 0)
			return r;
	}
	*ret_path = xasprintf("%s/%s", dir_path, file);
	return 0;
}
