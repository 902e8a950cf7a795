/* Kernels as machines see them: what is there, and the initrd that goes with it. Bringing kernels in is kernel_import.c's. */
#include "image/kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/memory.h"
#include "image/cpio.h"
#include "image/elf_needed.h"

enum {
	GUEST_LIMIT = 64 << 20,  /* skerry-init */
	MODULE_LIMIT = 64 << 20, /* one module */
	LOAD_LIMIT = 64 << 10,   /* the list of modules */
	INITRD_LIMIT = 256 << 20,
	INITRDS_SEEN = 64,
	INITRDS_KEPT = 4,
	INITRD_YOUNG_S = 3600,
};
#define INITRD_PREFIX "initrd-"
#define PROGRAM_LIMIT (64u << 20)

static const struct json_field kernel_fields[] = {
	{ "name", JSON_STRING, offsetof(struct kernel_meta, name), JSON_REQUIRED },
	{ "release", JSON_STRING, offsetof(struct kernel_meta, release), 0 },
	{ "file", JSON_STRING, offsetof(struct kernel_meta, file), JSON_REQUIRED },
	{ "source", JSON_STRING, offsetof(struct kernel_meta, source), 0 },
	{ "digest", JSON_STRING, offsetof(struct kernel_meta, digest), 0 },
	{ "modular", JSON_BOOL, offsetof(struct kernel_meta, modular), 0 },
	{ "built", JSON_BOOL, offsetof(struct kernel_meta, built), 0 },
	{ "bytes", JSON_U64, offsetof(struct kernel_meta, bytes), 0 },
	{ "created_ns", JSON_U64, offsetof(struct kernel_meta, created_ns), 0 },
	{},
};

void kernel_meta_done(struct kernel_meta *m)
{
	json_fields_done(kernel_fields, m);
	*m = (struct kernel_meta){};
}

int kernel_meta_write(int kernel_fd, const struct kernel_meta *m, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_free_ char *what = xasprintf("kernels/%s/meta.json", m->name);

	return record_write(kernel_fd, "meta.json", what, kernel_fields, m, &tree, RECORD_DURABLE, err);
}

int kernel_find(const struct store *s, const char *name, struct kernel_meta *ret, struct error *err)
{
	_cleanup_(kernel_meta_done) struct kernel_meta m = {};
	_cleanup_free_ char *path = NULL, *what = NULL;
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_error_ struct error e = {};
	struct name n;
	int r;

	r = name_parse(name, "kernel name", &n, err);
	if (r < 0)
		return r;
	path = xasprintf("%s/meta.json", n.s);
	what = xasprintf("kernels/%s", path);
	r = record_read(s->kernels_fd, path, what, kernel_fields, &m, &tree, &e);
	if (r == -ENOENT) {
		r = error_set(err, ENOENT, "no kernel named '%s'", n.s);
		(void)error_hint(err, streq(n.s, "debian") ? "skerry kernel import debian" : "skerry kernel list");
		return r;
	}
	if (r < 0)
		return error_move(err, &e);
	if (!streq(m.name, n.s) || (!streq(m.file, "vmlinux") && !streq(m.file, "bzImage")))
		return error_set(err, EBADMSG, "%s: the name or the file is not this kernel's", what);
	*ret = m;
	m = (struct kernel_meta){};
	return 0;
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

int kernel_names(const struct store *s, struct strv *ret, struct error *err)
{
	int fd = openat(s->kernels_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	size_t first = ret->n;
	const struct dirent *e;
	struct name n;
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		(void)safe_close(fd);
		return error_set_errno(err, errno, "cannot list '%s/kernels'", s->home_path);
	}
	while ((e = readdir(d))) {
		_cleanup_free_ char *meta = xasprintf("%s/meta.json", e->d_name);

		if (e->d_name[0] != '.' && name_parse(e->d_name, "kernel name", &n, NULL) >= 0 &&
		    faccessat(s->kernels_fd, meta, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			strv_add(ret, e->d_name);
	}
	(void)closedir(d);
	if (ret->n > first)
		qsort(ret->items + first, ret->n - first, sizeof(*ret->items), compare);
	return 0;
}

/* The newest built kernel, else "debian", else any; a damaged record does not hide the others. */
static bool better(const struct kernel_meta *a, const struct kernel_meta *b)
{
	if (!b->name)
		return true;
	if (a->built != b->built)
		return a->built;
	if (!a->built && streq(a->name, "debian") != streq(b->name, "debian"))
		return streq(a->name, "debian");
	return a->created_ns > b->created_ns;
}

int kernel_default(const struct store *s, struct kernel_meta *ret, struct error *err)
{
	_cleanup_(kernel_meta_done) struct kernel_meta best = {};
	_cleanup_strv_ struct strv names = {};
	_cleanup_error_ struct error first = {};
	int r;

	r = kernel_names(s, &names, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < names.n; i++) {
		_cleanup_(kernel_meta_done) struct kernel_meta m = {};

		r = kernel_find(s, names.items[i], &m, first.num ? NULL : &first);
		if (r >= 0 && better(&m, &best)) {
			struct kernel_meta old = best;

			best = m;
			m = old;
		}
	}
	if (!best.name && first.num)
		return error_move(err, &first);
	if (!best.name) {
		r = error_set(err, ENOENT, "there is no kernel yet");
		(void)error_hint(err, "skerry kernel import debian");
		return r;
	}
	*ret = best;
	best = (struct kernel_meta){};
	return 0;
}

char *kernel_file_path(const struct store *s, const struct kernel_meta *m)
{
	return xasprintf("%s/kernels/%s/%s", s->home_path, m->name, m->file);
}

int kernel_open_dir(const struct store *s, const char *name, struct error *err)
{
	int fd = openat(s->kernels_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? error_set_errno(err, errno, "kernel '%s'", name) : fd;
}

int kernels_lock(const struct store *s, struct error *err)
{
	return lock_acquire(s->kernels_fd, "lock", "kernels", 30 * NS_PER_SEC, err);
}

static int add_directories(struct cpio *c, const char *path, struct strv *made)
{
	for (const char *p = strchr(path, '/'); p; p = strchr(p + 1, '/')) {
		_cleanup_free_ char *dir = xstrndup(path, (size_t)(p - path));
		int r = strv_has(made, dir) ? 0 : cpio_add(c, dir, S_IFDIR | 0755, NULL, 0);

		if (r < 0)
			return r;
		if (!strv_has(made, dir))
			strv_add(made, dir);
	}
	return 0;
}

/* /modules/load and every module that it names, at the place where it names it. The list was written by the import; it is checked again,
 * as it decides which files are read. */
static int add_modules(struct cpio *c, int kernel_fd, struct strv *made, struct error *err)
{
	_cleanup_buf_ struct buf load = {};
	_cleanup_close_ int dir = -EBADF;
	int r;

	dir = openat(kernel_fd, "modules", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return error_set_errno(err, errno, "modules");
	r = file_read_at(dir, "load", LOAD_LIMIT, &load);
	if (r < 0)
		return error_set_errno(err, -r, "modules/load");
	r = add_directories(c, "modules/load", made);
	if (r >= 0)
		r = cpio_add(c, "modules/load", S_IFREG | 0644, load.p, load.len);
	for (char *line = load.p, *end; r >= 0 && line && *line; line = end) {
		_cleanup_buf_ struct buf module = {};
		_cleanup_free_ char *path = NULL;
		_cleanup_close_ int fd = -EBADF;

		end = strchr(line, '\n');
		if (!end)
			end = line + strlen(line);
		else
			*end++ = 0;
		if (!*line)
			continue;
		fd = open_beneath(dir, line, O_RDONLY | O_CLOEXEC, 0);
		if (fd < 0)
			return error_set_errno(err, -fd, "modules/%s", line);
		r = file_read_fd(fd, MODULE_LIMIT, &module);
		if (r < 0)
			return error_set_errno(err, -r, "modules/%s", line);
		path = xasprintf("modules/%s", line);
		r = add_directories(c, path, made);
		if (r >= 0)
			r = cpio_add(c, path, S_IFREG | 0644, module.p, module.len);
		if (c->out->len > INITRD_LIMIT)
			r = -EFBIG;
	}
	return r < 0 ? error_set_errno(err, -r, "modules") : 0;
}

/* Files of the host, at the same places. */
static int add_host_files(struct cpio *c, const struct strv *files, struct strv *made, struct error *err)
{
	for (size_t i = 0; i < files->n; i++) {
		_cleanup_buf_ struct buf content = {};
		int r = file_read_at(AT_FDCWD, files->items[i], PROGRAM_LIMIT, &content);

		if (r >= 0)
			r = add_directories(c, files->items[i] + 1, made);
		if (r >= 0)
			r = cpio_add(c, files->items[i] + 1, S_IFREG | 0755, content.p, content.len);
		if (r >= 0 && c->out->len > INITRD_LIMIT)
			r = -EFBIG;
		if (r < 0)
			return error_set_errno(err, -r, "initrd: %s", files->items[i]);
	}
	return 0;
}

/* What containers need beside the agent: the runtime, at the place where the agent looks for it, and its libraries. */
static int add_runtime(struct cpio *c, const char *runtime, struct strv *made, struct error *err)
{
	_cleanup_strv_ struct strv files = {};
	_cleanup_buf_ struct buf program = {};
	int r = elf_needed(runtime, &files, err);

	if (r >= 0)
		r = add_host_files(c, &files, made, err);
	if (r < 0)
		return r;
	r = file_read_at(AT_FDCWD, runtime, PROGRAM_LIMIT, &program);
	if (r >= 0)
		r = add_directories(c, KERNEL_RUNTIME, made);
	if (r >= 0)
		r = cpio_add(c, KERNEL_RUNTIME, S_IFREG | 0755, program.p, program.len);
	return r < 0 ? error_set_errno(err, -r, "initrd: %s", runtime) : 0;
}

int kernel_initrd_render(int kernel_fd, bool modular, int guest_fd, const char *runtime, struct buf *out,
			 struct error *err)
{
	_cleanup_buf_ struct buf guest = {};
	_cleanup_strv_ struct strv made = {};
	struct cpio c;
	int r;

	r = file_read_fd(guest_fd, GUEST_LIMIT, &guest);
	if (r < 0)
		return error_set_errno(err, -r, "skerry-init");
	cpio_begin(&c, out);
	r = add_directories(&c, "dev/console", &made);
	/* The kernel opens it for the first process before that could have made it. */
	if (r >= 0)
		r = cpio_add_device(&c, "dev/console", S_IFCHR | 0600, 5, 1);
	if (r >= 0)
		r = cpio_add(&c, "init", S_IFREG | 0755, guest.p, guest.len);
	if (r < 0)
		return error_set_errno(err, -r, "initrd");
	if (modular) {
		r = add_modules(&c, kernel_fd, &made, err);
		if (r < 0)
			return r;
	}
	if (runtime) {
		r = add_runtime(&c, runtime, &made, err);
		if (r < 0)
			return r;
	}
	cpio_end(&c);
	return 0;
}

/* The initrd's file name says what it is made from, so that programs of two versions that share a kernel do not rewrite each other's. The
 * modules are the kernel's own: an import begins with an empty directory. */
static uint64_t hash_file(uint64_t hash, const struct stat *st)
{
	const uint64_t parts[] = { st->st_dev, st->st_ino, (uint64_t)st->st_size, (uint64_t)st->st_mtim.tv_sec,
				   (uint64_t)st->st_mtim.tv_nsec };

	for (size_t i = 0; i < sizeof(parts); i++)
		hash = (hash ^ ((const uint8_t *)parts)[i]) * UINT64_C(1099511628211);
	return hash;
}

static int initrd_name(int guest_fd, const char *runtime, char **ret, struct error *err)
{
	uint64_t hash = UINT64_C(14695981039346656037); /* FNV-1a */
	_cleanup_strv_ struct strv files = {};
	struct stat st;
	int r;

	if (fstat(guest_fd, &st) < 0 || !S_ISREG(st.st_mode))
		return error_set_errno(err, EINVAL, "skerry-init");
	hash = hash_file(hash, &st);
	if (runtime) {
		strv_add(&files, runtime);
		r = elf_needed(runtime, &files, err);
		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < files.n; i++) {
		if (stat(files.items[i], &st) < 0)
			return error_set_errno(err, errno, "%s", files.items[i]);
		hash = hash_file(hash, &st);
	}
	*ret = xasprintf(INITRD_PREFIX "%016" PRIx64, hash);
	return 0;
}

static bool is_there(int kernel_fd, const char *name)
{
	return faccessat(kernel_fd, name, R_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

struct old_initrd {
	char *name; /* owned */
	int64_t mtime_s;
};

static int newest_first(const void *a, const void *b)
{
	const struct old_initrd *x = a, *y = b;

	return x->mtime_s < y->mtime_s ? 1 : x->mtime_s > y->mtime_s ? -1 : 0;
}

/* Few stay. A young one may be what a machine that starts at this moment is about to open. */
static void remove_old_initrds(int kernel_fd)
{
	struct old_initrd found[INITRDS_SEEN];
	int fd = openat(kernel_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);
	int64_t now = (int64_t)(clock_realtime_ns() / NS_PER_SEC);
	const struct dirent *e;
	size_t n = 0;

	if (!d) {
		(void)safe_close(fd);
		return;
	}
	while (n < ARRAY_SIZE(found) && (e = readdir(d))) {
		struct stat st;

		if (after_prefix(e->d_name, INITRD_PREFIX) &&
		    fstatat(kernel_fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			found[n++] = (struct old_initrd){ xstrdup(e->d_name), st.st_mtim.tv_sec };
	}
	(void)closedir(d);
	qsort(found, n, sizeof(*found), newest_first);
	for (size_t i = 0; i < n; i++) {
		if (i >= INITRDS_KEPT && now - found[i].mtime_s > INITRD_YOUNG_S)
			(void)unlinkat(kernel_fd, found[i].name, 0);
		free(found[i].name);
	}
}

/* Under the kernels' lock: two machines that start at once make it once. */
static int make_initrd(const struct store *s, const char *kernel, int guest_fd, const char *runtime, const char *name,
		       struct error *err)
{
	_cleanup_(kernel_meta_done) struct kernel_meta m = {};
	_cleanup_close_ int lock = -EBADF, dir = -EBADF;
	_cleanup_buf_ struct buf initrd = {};
	int r;

	lock = kernels_lock(s, err);
	if (lock < 0)
		return lock;
	r = kernel_find(s, kernel, &m, err);
	if (r < 0)
		return r;
	dir = kernel_open_dir(s, kernel, err);
	if (dir < 0)
		return dir;
	if (is_there(dir, name))
		return 0;
	r = kernel_initrd_render(dir, m.modular, guest_fd, runtime, &initrd, err);
	if (r < 0)
		return error_prefix(err, "initrd of kernel '%s'", kernel);
	(void)file_remove_temporaries(dir);
	r = fault_point("kernel-initrd");
	if (r >= 0)
		r = file_write_at(dir, name, initrd.p, initrd.len, 0644, FILE_DURABLE);
	if (r < 0)
		return error_set_errno(err, -r, "kernel '%s': cannot write its initrd", kernel);
	remove_old_initrds(dir);
	return 0;
}

static int find_initrd(const struct store *s, const struct kernel_meta *m, const char *guest_path, const char *runtime,
		       char **ret, struct error *err)
{
	_cleanup_close_ int guest = -EBADF, dir = -EBADF;
	_cleanup_free_ char *name = NULL;
	int r;

	guest = open(guest_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (guest < 0)
		return error_set_kind(err, ERROR_UNAVAILABLE, errno, "skerry-init: cannot open '%s': %s", guest_path,
				      strerror(errno));
	r = initrd_name(guest, runtime, &name, err);
	if (r < 0)
		return r;
	dir = kernel_open_dir(s, m->name, err);
	if (dir < 0)
		return dir;
	if (!is_there(dir, name)) {
		r = make_initrd(s, m->name, guest, runtime, name, err);
		if (r < 0)
			return r;
	}
	*ret = xasprintf("%s/kernels/%s/%s", s->home_path, m->name, name);
	return 0;
}

int kernel_initrd_path(const struct store *s, const struct kernel_meta *m, const char *guest_path, char **ret,
		       struct error *err)
{
	return find_initrd(s, m, guest_path, NULL, ret, err);
}

int kernel_container_initrd_path(const struct store *s, const struct kernel_meta *m, const char *guest_path,
				 const char *runtime, char **ret, struct error *err)
{
	return find_initrd(s, m, guest_path, runtime, ret, err);
}

int kernel_delete(const struct store *s, const char *name, int (*in_use)(const char *kernel, char **ret_by, void *data),
		  void *data, struct error *err)
{
	_cleanup_free_ char *by = NULL, *gone = NULL;
	_cleanup_close_ int lock = -EBADF;
	struct name n;
	int r;

	r = name_parse(name, "kernel name", &n, err);
	if (r < 0)
		return r;
	lock = kernels_lock(s, err);
	if (lock < 0)
		return lock;
	if (faccessat(s->kernels_fd, n.s, F_OK, AT_SYMLINK_NOFOLLOW) < 0)
		return error_set(err, ENOENT, "no kernel named '%s'", n.s);
	r = in_use ? in_use(n.s, &by, data) : 0;
	if (r < 0)
		return error_set_errno(err, -r, "kernel '%s': cannot tell whether it is in use", n.s);
	if (r > 0)
		return error_set(err, EBUSY, "kernel '%s' is in use by %s", n.s, by ? by : "a machine");
	/* Out of its name first, so that half a kernel is never found. */
	gone = xasprintf(".tmp-gone-%s", n.s);
	r = remove_tree_at(s->kernels_fd, gone);
	if (r >= 0)
		r = fault_point("kernel-remove");
	if (r >= 0 && renameat(s->kernels_fd, n.s, s->kernels_fd, gone) < 0)
		r = -errno;
	if (r >= 0)
		r = remove_tree_at(s->kernels_fd, gone);
	return r < 0 ? error_set_errno(err, -r, "cannot remove kernel '%s'", n.s) : 0;
}
