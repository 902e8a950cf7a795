/* Building a kernel from Debian's linux-source package. The result is kept in cache/kernel-builds/KEY, where KEY is the digest of the source
 * package's name, of the configuration and of the script with its patches: the same question is answered without compiling. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/memory.h"
#include "base/process.h"
#include "base/spawn.h"
#include "image/pack.h"
#include "image/digest.h"
#include "image/kernel.h"
#include "image/recipe.h"

#define SOURCE_PACKAGE "linux-source-6.1"

enum { INPUT_LIMIT = 16 << 20, SOURCE_LIMIT = 512 << 20 };

static int add_file(struct buf *all, const char *path, struct error *err)
{
	int r = file_read_at(AT_FDCWD, path, INPUT_LIMIT, all);

	if (r < 0)
		return error_set_errno(err, -r, "cannot read '%s'", path);
	buf_addc(all, 0);
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The patches beside the script are as much a part of it as its text. */
static int add_patches(struct buf *all, const char *script_path, struct error *err)
{
	const char *slash = strrchr(script_path, '/');
	_cleanup_free_ char *dir_path =
		xasprintf("%.*s/patches", slash ? (int)(slash - script_path) : 1, slash ? script_path : ".");
	_cleanup_strv_ struct strv names = {};
	const struct dirent *e;
	DIR *d = opendir(dir_path);
	int r = 0;

	if (!d)
		return errno == ENOENT ? 0 : error_set_errno(err, errno, "'%s'", dir_path);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			strv_addf(&names, "%s/%s", dir_path, e->d_name);
	(void)closedir(d);
	if (names.n)
		qsort(names.items, names.n, sizeof(*names.items), compare);
	for (size_t i = 0; r >= 0 && i < names.n; i++)
		r = add_file(all, names.items[i], err);
	return r;
}

static int build_key(const char *package_path, const char *config_path, const char *script_path, char **ret,
		     struct error *err)
{
	const char *base = strrchr(package_path, '/');
	_cleanup_buf_ struct buf all = {};
	_cleanup_free_ char *digest = NULL;
	int r;

	buf_adds(&all, base ? base + 1 : package_path);
	buf_addc(&all, 0);
	r = add_file(&all, config_path, err);
	if (r >= 0)
		r = add_file(&all, script_path, err);
	if (r >= 0)
		r = add_patches(&all, script_path, err);
	if (r < 0)
		return r;
	digest = digest_bytes(all.p, all.len);
	*ret = xstrndup(digest + strlen("sha256:"), 32);
	return 0;
}

static int pick_source(const struct archive_item *item, void *data, struct error *err)
{
	const char *name = after_prefix(item->entry.path, "usr/src/" SOURCE_PACKAGE ".tar.");
	int r;

	if (!name || !S_ISREG(item->entry.mode) || item->hard_link)
		return 0;
	r = archive_item_read(item, SOURCE_LIMIT, data, err);
	return r < 0 ? r : 1;
}

/* The source's archive, out of the package, into a file that the build script unpacks. */
static int extract_source(const char *package_path, int dir, const char *name, struct error *err)
{
	static const struct archive_limits limits = { .bytes = UINT64_C(4) << 30, .entries = 100000 };
	_cleanup_free_ char *what = xasprintf("'%s'", package_path);
	_cleanup_close_ int fd = open(package_path, O_RDONLY | O_CLOEXEC);
	_cleanup_buf_ struct buf source = {};
	int r;

	if (fd < 0)
		return error_set_errno(err, errno, "cannot open '%s'", package_path);
	r = archive_walk_deb(fd, what, &limits, pick_source, &source, err);
	if (r < 0)
		return r;
	if (r == 0)
		return error_set(err, EBADMSG, "%s: the package holds no kernel source", what);
	r = file_write_at(dir, name, source.p, source.len, 0600, 0);
	return r < 0 ? error_set_errno(err, -r, "cannot write the kernel's source") : 0;
}

/* Runs the script; the last line of its error output becomes the error. */
static int run_script(const char *script_path, const char *source, const char *config_path, const char *out_path,
		      const char *dir_path, struct error *err)
{
	_cleanup_free_ char *tmp = xasprintf("TMPDIR=%s", dir_path);
	const char *argv[] = { "env", tmp, script_path, source, config_path, out_path, NULL };
	struct spawn s = SPAWN_INIT;
	_cleanup_buf_ struct buf out = {};
	int r;

	s.argv = argv;
	s.death_signal = 15;
	r = spawn_check(&s, NULL, &out, 64 << 10, UINT64_C(3600) * NS_PER_SEC, err);
	if (r < 0 && err && err->msg && strstr(err->msg, "needed but not found")) {
		err->kind = ERROR_UNAVAILABLE;
		(void)error_hint(err, "apt-get install " KERNEL_BUILD_PACKAGES);
	}
	return r;
}

static int build_into(int builds, const char *builds_path, const char *key, const char *package_path,
		      const char *config_path, const char *script_path, struct error *err)
{
	_cleanup_free_ char *tmp = xasprintf(".tmp-%s", key), *tmp_path = xasprintf("%s/%s", builds_path, tmp);
	_cleanup_free_ char *source = xasprintf("%s/source.tar", tmp_path), *out = xasprintf("%s/out", tmp_path);
	_cleanup_close_ int dir = -EBADF;
	int r;

	r = remove_tree_at(builds, tmp);
	if (r >= 0 && mkdirat(builds, tmp, 0700) < 0)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, -r, "cannot create '%s'", tmp_path);
	dir = openat(builds, tmp, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	r = dir < 0 ? error_set_errno(err, errno, "'%s'", tmp_path)
		    : extract_source(package_path, dir, "source.tar", err);
	if (r >= 0)
		r = run_script(script_path, source, config_path, out, tmp_path, err);
	if (r >= 0 && renameat(dir, "out", builds, key) < 0)
		r = error_set_errno(err, errno, "cannot keep the build");
	(void)remove_tree_at(builds, tmp);
	return r;
}

int kernel_build(const struct store *s, const char *name, const char *config_path, const char *script_path,
		 bool replace, struct error *err)
{
	_cleanup_free_ char *package = NULL, *key = NULL, *path = NULL, *source = NULL, *builds_path = NULL;
	_cleanup_close_ int builds = -EBADF, lock = -EBADF;
	const char *base;
	struct name n;
	int r;

	r = name_parse(name, "kernel name", &n, err);
	if (r < 0)
		return r;
	if (!replace && faccessat(s->kernels_fd, n.s, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		r = error_set(err, EEXIST, "there is a kernel named '%s' already", n.s);
		(void)error_hint(err, "--replace, or another --name");
		return r;
	}
	r = package_fetch(s, SOURCE_PACKAGE, &package, err);
	if (r >= 0)
		r = build_key(package, config_path, script_path, &key, err);
	if (r < 0)
		return r;
	builds_path = xasprintf("%s/kernel-builds", s->cache_path);
	builds = dir_open_create(builds_path, 0700);
	if (builds < 0)
		return error_set_errno(err, -builds, "cannot create '%s'", builds_path);
	path = xasprintf("%s/%s/vmlinux", builds_path, key);
	/* One build at a time: a second one of the same key waits, and finds it done. */
	lock = lock_acquire(builds, "lock", "kernel builds", UINT64_C(3600) * NS_PER_SEC, err);
	if (lock < 0)
		return lock;
	if (faccessat(AT_FDCWD, path, R_OK, 0) < 0) {
		(void)remove_tree_at(builds, key);
		r = build_into(builds, builds_path, key, package, config_path, script_path, err);
		if (r < 0)
			return r;
	}
	base = strrchr(package, '/');
	source = xasprintf("build %s", base ? base + 1 : package);
	return kernel_import_as(s, path, n.s, source, replace, true, err);
}
