#include "image/data.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"

/* The directory of the running program, or NULL. */
static char *program_dir(void)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	char *slash;

	if (n <= 0)
		return NULL;
	path[n] = 0;
	slash = strrchr(path, '/');
	return slash ? xstrndup(path, (size_t)(slash - path)) : NULL;
}

static char *try_below(const char *dir, const char *name)
{
	_cleanup_free_ char *path = dir && dir[0] == '/' ? xasprintf("%s/%s", dir, name) : NULL;

	return path && access(path, R_OK) == 0 ? TAKE_PTR(path) : NULL;
}

int data_path(const char *name, char **ret, struct error *err)
{
	_cleanup_free_ char *beside = program_dir();
	char *path;

	path = try_below(getenv("SKERRY_DATA_DIR"), name);
	if (!path)
		path = try_below(beside, name);
	if (!path)
		path = try_below(SKERRY_SOURCE_DIR, name);
	if (!path)
		return error_set_kind(err, ERROR_UNAVAILABLE, ENOENT, "'%s', which belongs to this program, is missing",
				      name);
	*ret = path;
	return 0;
}
