#include "store/paths.h"

#include "base/memory.h"

/* Directory of the running program, without the final slash. */
static char *exe_dir(void)
{
	char p[4096];
	ssize_t n = readlink("/proc/self/exe", p, sizeof(p) - 1);
	char *slash;

	if (n <= 0)
		return NULL;
	p[n] = '\0';
	slash = strrchr(p, '/');
	return slash ? xstrndup(p, (size_t)(slash - p)) : NULL;
}

/* @path when it can be used in @mode, else NULL. Consumes @path. */
static char *if_accessible(char *path, int mode)
{
	if (access(path, mode) == 0)
		return path;
	free(path);
	return NULL;
}

char *libexec_path(const char *program)
{
	/* From bin/, from libexec/skerry/ itself, from the build tree. */
	static const char *const places[] = { "../libexec/skerry", ".", "../cli", "../machine", "../guest", "../shim" };
	const char *env = getenv("SKERRY_LIBEXEC_DIR");
	_cleanup_free_ char *dir = exe_dir();
	char *path;

	if (env && *env)
		return if_accessible(xasprintf("%s/%s", env, program), X_OK);
	for (size_t i = 0; dir && i < ARRAY_SIZE(places); i++) {
		path = if_accessible(xasprintf("%s/%s/%s", dir, places[i], program), X_OK);
		if (path)
			return path;
	}
	return NULL;
}

char *data_path(const char *relative)
{
	static const char *const places[] = { "../share/skerry", "../../share/skerry" };
	const char *env = getenv("SKERRY_DATA_DIR");
	_cleanup_free_ char *dir = exe_dir();
	char *path;

	if (env && *env)
		return if_accessible(xasprintf("%s/%s", env, relative), R_OK);
	for (size_t i = 0; dir && i < ARRAY_SIZE(places); i++) {
		path = if_accessible(xasprintf("%s/%s/%s", dir, places[i], relative), R_OK);
		if (path)
			return path;
	}
#ifdef SKERRY_SOURCE_DIR
	return if_accessible(xasprintf("%s/%s", SKERRY_SOURCE_DIR, relative), R_OK);
#else
	return NULL;
#endif
}
