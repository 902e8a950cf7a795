/* Bringing kernels in. A ".tmp-…" directory below kernels/ gets everything; then it takes the name's place. Readers never see half a
 * kernel; a kernel that is replaced goes away whole. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "image/pack.h"
#include "image/digest.h"
#include "image/kernel.h"
#include "image/kernel_file.h"
#include "image/kernel_modules.h"
#include "image/recipe.h"

enum { KERNEL_LIMIT = 512 << 20, MODULE_LIMIT = 64 << 20, PASSES = 8 };

struct import {
	struct buf kernel;
	struct kernel_modules modules;
	bool modular;
	size_t found; /* modules in this pass */
};

static void import_done(struct import *i)
{
	buf_done(&i->kernel);
	kernel_modules_done(&i->modules);
}

static int visit(const struct archive_item *item, void *data, struct error *err)
{
	struct import *in = data;
	const char *path = item->entry.path;
	const char *modules = after_prefix(path, "usr/lib/modules/");
	struct kernel_module *module;

	if (!S_ISREG(item->entry.mode) || item->hard_link)
		return 0;
	if (after_prefix(path, "boot/vmlinuz-") && !in->kernel.len)
		return archive_item_read(item, KERNEL_LIMIT, &in->kernel, err);
	if (!modules)
		modules = after_prefix(path, "lib/modules/");
	/* A directory of this name keeps what is built in; the others belong to other packages. */
	module = modules && strstr(modules, "/kernel/") ? kernel_modules_match(&in->modules, modules) : NULL;
	if (module) {
		_cleanup_buf_ struct buf content = {};
		int r = archive_item_read(item, MODULE_LIMIT, &content, err);

		if (r < 0)
			return r;
		in->found++;
		in->modular = true;
		return kernel_modules_set(&in->modules, module, path, &content, err);
	}
	return 0;
}

/* Dependencies that the list of wanted modules does not name are found in a further pass. */
static int read_deb(int fd, const char *what, struct import *in, struct error *err)
{
	static const struct archive_limits limits = { .bytes = UINT64_C(4) << 30, .entries = 1000000 };

	for (unsigned pass = 0; pass < PASSES; pass++) {
		int r;

		in->found = 0;
		if (lseek(fd, 0, SEEK_SET) < 0)
			return error_set_errno(err, errno, "%s", what);
		r = archive_walk_deb(fd, what, &limits, visit, in, err);
		if (r < 0)
			return r;
		if (!kernel_modules_missing(&in->modules) || !in->found)
			break;
	}
	if (!in->kernel.len)
		return error_set(err, EBADMSG, "%s: the package holds no kernel", what);
	return 0;
}

/* The kernel as it is stored: vmlinux wherever it can boot without unpacking. */
static int convert(struct import *in, const char *what, const char **ret_file, struct error *err)
{
	_cleanup_buf_ struct buf unpacked = {};
	bool pvh = false;
	int r;

	if (!kernel_is_bzimage(in->kernel.p, in->kernel.len)) {
		r = kernel_check_vmlinux(in->kernel.p, in->kernel.len, what, &pvh, err);
		if (r >= 0 && !pvh)
			return error_set(err, EBADMSG, "%s: this vmlinux has no entry for direct boot (CONFIG_PVH)",
					 what);
		*ret_file = "vmlinux";
		return r;
	}
	r = kernel_unpack_bzimage(in->kernel.p, in->kernel.len, what, &unpacked, err);
	if (r >= 0)
		r = kernel_check_vmlinux(unpacked.p, unpacked.len, what, &pvh, err);
	if (r < 0)
		return r;
	*ret_file = pvh ? "vmlinux" : "bzImage";
	if (pvh) {
		struct buf packed = in->kernel;

		in->kernel = unpacked;
		unpacked = packed;
	}
	return 0;
}

static int write_modules(int dir, struct import *in, struct error *err)
{
	_cleanup_buf_ struct buf load = {};
	_cleanup_close_ int fd = -EBADF;
	int r;

	if (!in->modular)
		return 0;
	if (mkdirat(dir, "modules", 0700) < 0)
		return error_set_errno(err, errno, "modules");
	fd = openat(dir, "modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return error_set_errno(err, errno, "modules");
	kernel_modules_order(&in->modules, &load);
	for (size_t i = 0; i < in->modules.n; i++) {
		const struct kernel_module *k = &in->modules.items[i];
		_cleanup_free_ char *name = xasprintf("%s.ko", k->name);

		/* What was met on the way but is needed by nothing that is loaded stays out. */
		if (!k->content.len || !k->done)
			continue;
		r = file_write_at(fd, name, k->content.p, k->content.len, 0600, FILE_DURABLE);
		if (r < 0)
			return error_set_errno(err, -r, "modules/%s", name);
	}
	r = file_write_at(fd, "load", load.p, load.len, 0600, FILE_DURABLE);
	return r < 0 ? error_set_errno(err, -r, "modules/load") : 0;
}

/* The finished directory takes its place. */
static int place(const struct store *s, const char *tmp, const char *name, bool replace, struct error *err)
{
	int r;

	r = fault_point("kernel-place");
	if (r < 0)
		return error_set_errno(err, -r, "kernel '%s'", name);
	if (renameat2(s->kernels_fd, tmp, s->kernels_fd, name, RENAME_NOREPLACE) == 0)
		return fsync_dir(s->kernels_fd);
	if (errno != EEXIST)
		return error_set_errno(err, errno, "kernel '%s'", name);
	if (!replace) {
		r = error_set(err, EEXIST, "there is a kernel named '%s' already", name);
		(void)error_hint(err, "--replace, or another --name");
		return r;
	}
	if (renameat2(s->kernels_fd, tmp, s->kernels_fd, name, RENAME_EXCHANGE) < 0)
		return error_set_errno(err, errno, "kernel '%s'", name);
	r = fsync_dir(s->kernels_fd);
	(void)remove_tree_at(s->kernels_fd, tmp);
	return r;
}

static int store_kernel(const struct store *s, const char *name, struct import *in, struct kernel_meta *m, bool replace,
			struct error *err)
{
	_cleanup_free_ char *tmp = xasprintf(".tmp-new-%s", name);
	_cleanup_close_ int lock = -EBADF, dir = -EBADF;
	int r;

	lock = kernels_lock(s, err);
	if (lock < 0)
		return lock;
	if (!replace && faccessat(s->kernels_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		r = error_set(err, EEXIST, "there is a kernel named '%s' already", name);
		(void)error_hint(err, "--replace, or another --name");
		return r;
	}
	/* Under the lock nobody else has one of this name: it is a crash's. */
	r = remove_tree_at(s->kernels_fd, tmp);
	if (r < 0)
		return error_set_errno(err, -r, "cannot remove 'kernels/%s'", tmp);
	if (mkdirat(s->kernels_fd, tmp, 0700) < 0)
		return error_set_errno(err, errno, "cannot create 'kernels/%s'", tmp);
	dir = kernel_open_dir(s, tmp, err);
	r = dir;
	if (r >= 0) {
		r = file_write_at(dir, m->file, in->kernel.p, in->kernel.len, 0444, FILE_DURABLE);
		if (r < 0)
			(void)error_set_errno(err, -r, "kernel '%s'", name);
	}
	if (r >= 0)
		r = write_modules(dir, in, err);
	if (r >= 0)
		r = kernel_meta_write(dir, m, err);
	if (r >= 0)
		r = place(s, tmp, name, replace, err);
	if (r < 0)
		(void)remove_tree_at(s->kernels_fd, tmp);
	return r;
}

static int read_source(const char *path, struct import *in, struct error *err)
{
	_cleanup_free_ char *what = xasprintf("'%s'", path);
	_cleanup_close_ int fd = -EBADF;
	char magic[8] = {};
	struct stat st;
	ssize_t n;
	int r;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return error_set_errno(err, errno, "cannot open '%s'", path);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return error_set_kind(err, ERROR_DATA, EINVAL, "'%s' is not a file", path);
	n = pread(fd, magic, sizeof(magic), 0);
	if (n == sizeof(magic) && memcmp(magic, "!<arch>\n", 8) == 0)
		return read_deb(fd, what, in, err);
	r = file_read_fd(fd, KERNEL_LIMIT, &in->kernel);
	if (r == -EFBIG)
		return error_set_kind(err, ERROR_DATA, EFBIG, "'%s' is too large for a kernel", path);
	return r < 0 ? error_set_errno(err, -r, "cannot read '%s'", path) : 0;
}

int kernel_import_as(const struct store *s, const char *path, const char *name, const char *source, bool replace,
		     bool built, struct error *err)
{
	_cleanup_(kernel_meta_done) struct kernel_meta m = {};
	_cleanup_(import_done) struct import in = {};
	_cleanup_free_ char *what = xasprintf("'%s'", path);
	const char *file = NULL;
	struct name n;
	int r;

	r = name_parse(name, "kernel name", &n, err);
	if (r < 0)
		return r;
	kernel_modules_init(&in.modules);
	r = read_source(path, &in, err);
	if (r < 0)
		return r;
	m.release = kernel_release(in.kernel.p, in.kernel.len);
	r = convert(&in, what, &file, err);
	if (r < 0)
		return r;
	if (!m.release)
		m.release = kernel_release(in.kernel.p, in.kernel.len);
	if (!m.release)
		m.release = xstrdup("unknown");
	m.name = xstrdup(n.s);
	m.file = xstrdup(file);
	m.source = source ? xstrdup(source) : xasprintf("import %s", path);
	m.digest = digest_bytes(in.kernel.p, in.kernel.len);
	m.modular = in.modular;
	m.built = built;
	m.bytes = in.kernel.len;
	m.created_ns = clock_realtime_ns();
	return store_kernel(s, n.s, &in, &m, replace, err);
}

int kernel_import(const struct store *s, const char *path, const char *name, const char *source, bool replace,
		  struct error *err)
{
	return kernel_import_as(s, path, name, source, replace, false, err);
}

/* "linux-image-6.1.0-40-cloud-amd64": what the meta package depends on. */
static int find_cloud_package(char **ret, struct error *err)
{
	const char *argv[] = { "apt-cache", "depends", "linux-image-cloud-amd64", NULL };
	struct spawn s = SPAWN_INIT;
	_cleanup_buf_ struct buf out = {};
	const char *at;
	int r;

	s.argv = argv;
	r = spawn_check(&s, NULL, &out, 64 << 10, 60 * NS_PER_SEC, err);
	if (r >= 0) {
		at = out.p ? strstr(out.p, "Depends: linux-image-") : NULL;
		if (at) {
			at += strlen("Depends: ");
			*ret = xstrndup(at, strcspn(at, " \t\n"));
			return 0;
		}
		r = error_set(err, ENOENT, "package 'linux-image-cloud-amd64' is not known to apt");
	}
	if (err && err->num)
		err->kind = ERROR_UNAVAILABLE;
	(void)error_hint(err, "apt-get update");
	return r;
}

int kernel_import_debian(const struct store *s, const char *name, bool replace, struct error *err)
{
	_cleanup_free_ char *package = NULL, *path = NULL, *source = NULL;
	int r;

	r = find_cloud_package(&package, err);
	if (r < 0)
		return r;
	r = package_fetch(s, package, &path, err);
	if (r < 0)
		return r;
	source = xasprintf("package %s", package);
	return kernel_import(s, path, name, source, replace, err);
}
