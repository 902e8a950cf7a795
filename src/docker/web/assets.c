#include "docker/web/assets.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/memory.h"

enum { FILE_MAX = 1 << 20, FILES_MAX = 256, DEPTH_MAX = 8 };

static const char *type_of(const char *name)
{
	static const struct {
		const char *end, *type;
	} types[] = {
		{ ".html", "text/html; charset=utf-8" },
		{ ".js", "text/javascript; charset=utf-8" },
		{ ".css", "text/css; charset=utf-8" },
		{ ".svg", "image/svg+xml" },
	};
	const char *dot = strrchr(name, '.');

	for (size_t i = 0; dot && i < ARRAY_SIZE(types); i++)
		if (streq(dot, types[i].end))
			return types[i].type;
	return NULL;
}

static int load_file(int dir, const char *name, const char *path, struct assets *a, struct error *err)
{
	_cleanup_close_ int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	_cleanup_buf_ struct buf b = {};
	int r = fd < 0 ? -errno : file_read_fd(fd, FILE_MAX, &b);

	if (r < 0)
		return error_set_errno(err, r, "cannot read %s of the page", path);
	if (a->n >= FILES_MAX)
		return error_set(err, E2BIG, "the page has more than %d files", FILES_MAX);
	a->items = xrealloc_array(a->items, a->n + 1, sizeof(*a->items));
	a->items[a->n] = (struct asset){ .path = xstrdup(path), .type = type_of(name), .n = b.len };
	a->items[a->n++].p = buf_take(&b);
	return 0;
}

static int load_directory(int dir, const char *prefix, unsigned depth, struct assets *a, struct error *err)
{
	DIR *d = fdopendir(dir);
	int r = 0;

	if (!d) {
		r = error_set_errno(err, errno, "cannot read the page's directory");
		safe_close(dir);
		return r;
	}
	for (struct dirent *e; r >= 0 && (e = readdir(d));) {
		_cleanup_free_ char *path = xasprintf("%s/%s", prefix, e->d_name);
		struct stat st;

		if (e->d_name[0] == '.' || fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISREG(st.st_mode) && type_of(e->d_name)) {
			r = load_file(dirfd(d), e->d_name, path, a, err);
		} else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX) {
			int below = openat(dirfd(d), e->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

			r = below < 0 ? error_set_errno(err, errno, "cannot read %s of the page", path)
				      : load_directory(below, path, depth + 1, a, err);
		}
	}
	(void)closedir(d);
	return r;
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct asset *)a)->path, ((const struct asset *)b)->path);
}

int assets_load(const char *path, struct assets *ret, struct error *err)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;

	*ret = (struct assets){};
	if (dir < 0)
		return error_set_errno(err, errno, "cannot read the page's directory '%s'", path);
	r = load_directory(dir, "", 0, ret, err);
	if (ret->n)
		qsort(ret->items, ret->n, sizeof(*ret->items), by_path);
	return r;
}

const struct asset *assets_find(const struct assets *a, const char *path)
{
	struct asset key = { .path = (char *)(uintptr_t)path };

	return a->n ? bsearch(&key, a->items, a->n, sizeof(*a->items), by_path) : NULL;
}

void assets_done(struct assets *a)
{
	for (size_t i = 0; i < a->n; i++) {
		free(a->items[i].path);
		free(a->items[i].p);
	}
	free(a->items);
	*a = (struct assets){};
}
