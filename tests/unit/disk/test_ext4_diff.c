#include "disk/ext4_diff.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "test.h"

#define MIB  (UINT64_C(1) << 20)
#define TIME UINT64_C(1700000000)

static const uint8_t uuid[16] = { 1, 2, 3, 4 }, seed[16] = { 5, 6, 7, 8 };

static int open_file(const char *name, int flags)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);
	int fd = open(path, flags | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	return fd;
}

static void run(const char *const *argv)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *program = program_find(argv[0]);

	if (!program)
		test_skip("no %s", argv[0]);
	s.argv = argv;
	s.cwd = test_tmpdir();
	if (spawn_check(&s, NULL, NULL, 1 << 20, 0, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", argv[0], e.msg);
}

/* A guest's changes, by debugfs. */
static void change(const char *image, const char *first, ...)
{
	_cleanup_buf_ struct buf script = {};
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	va_list ap;

	va_start(ap, first);
	for (const char *c = first; c; c = va_arg(ap, const char *))
		buf_addf(&script, "%s\n", c);
	va_end(ap);
	ASSERT_OK(file_write_at(dir, "script", script.p, script.len, 0600, 0));
	run((const char *const[]){ "debugfs", "-w", "-f", "script", image, NULL });
}

static void add(struct ext4 *x, const char *path, mode_t mode, const char *text)
{
	_cleanup_error_ struct error e = {};
	struct fs_entry entry = { .path = path, .mode = mode, .mtime_ns = TIME * NS_PER_SEC + 123456789 };

	if (S_ISLNK(mode))
		entry.link = text;
	else if (S_ISREG(mode))
		entry.size = strlen(text);
	if (ext4_add(x, &entry, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", path, e.msg);
	if (S_ISREG(mode) && (ext4_write(x, 0, text, strlen(text), &e) < 0 || ext4_end_file(x, &e) < 0))
		test_fail(__FILE__, __LINE__, "%s: %s", path, e.msg);
}

/* etc/{passwd,hosts,hard1,hard2,alone1,alone2}, dir/{a,b,sub/c}, big (5 MiB and a hole), link, dev */
static void make_base(const char *name, bool journal)
{
	_cleanup_close_ int fd = open_file(name, O_RDWR | O_CREAT | O_TRUNC);
	_cleanup_free_ char *big = xcalloc(1, MIB);
	struct ext4 *x = NULL;
	_cleanup_error_ struct error e = {};
	/* An access list as system calls have it (linux/posix_acl_xattr.h): owner rwx, group r-x, others r-x. */
	const struct fs_xattr cap[] = {
		{ "security.capability", "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20 },
		{ "system.posix_acl_access",
		  "\2\0\0\0"
		  "\1\0\7\0\377\377\377\377"
		  "\4\0\5\0\377\377\377\377"
		  "\40\0\5\0\377\377\377\377",
		  28 },
	};
	struct fs_entry entry = { .path = "big", .mode = S_IFREG | 0600, .size = 20 * MIB, .mtime_ns = 1 };

	ASSERT_OK(ext4_create(fd, 64 * MIB, "t", uuid, seed, TIME, journal, &x, &e));
	add(x, "etc", S_IFDIR | 0755, NULL);
	add(x, "etc/passwd", S_IFREG | 0644, "root:x:0:0\n");
	add(x, "etc/hosts", S_IFREG | 0644, "127.0.0.1 localhost\n");
	add(x, "etc/hard1", S_IFREG | 0644, "hard\n");
	ASSERT_OK(ext4_link(x, "etc/hard2", "etc/hard1", &e));
	add(x, "etc/alone1", S_IFREG | 0644, "alone\n");
	ASSERT_OK(ext4_link(x, "etc/alone2", "etc/alone1", &e));
	add(x, "dir", S_IFDIR | 0755, NULL);
	add(x, "dir/a", S_IFREG | 0644, "a");
	add(x, "dir/b", S_IFREG | 0644, "b");
	add(x, "dir/sub", S_IFDIR | 0755, NULL);
	add(x, "dir/sub/c", S_IFREG | 0644, "c");
	add(x, "link", S_IFLNK | 0777, "etc/passwd");
	add(x, "pipe", S_IFIFO | 0600, NULL);
	ASSERT_OK(ext4_add(x, &entry, &e));
	memset(big, 'x', MIB);
	for (uint64_t i = 0; i < 5; i++)
		ASSERT_OK(ext4_write(x, i * MIB, big, MIB, &e));
	ASSERT_OK(ext4_write(x, 15 * MIB, big, MIB, &e));
	ASSERT_OK(ext4_end_file(x, &e));
	entry = (struct fs_entry){ .path = "cap", .mode = S_IFREG | 0755, .xattrs = cap, .n_xattrs = 2 };
	ASSERT_OK(ext4_add(x, &entry, &e));
	ASSERT_OK(ext4_end_file(x, &e));
	ASSERT_OK(ext4_finish(x, &e));
	ext4_free(x);
}

/* A copy of the base with changes, as a delta over the base. */
static void make_delta(void)
{
	run((const char *const[]){ "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "ours.raw", "d.qcow2",
				   NULL });
	run((const char *const[]){ "qemu-img", "rebase", "-f", "qcow2", "-F", "raw", "-b", "base.raw", "d.qcow2",
				   NULL });
}

static void copy_base(void)
{
	run((const char *const[]){ "cp", "--sparse=always", "base.raw", "ours.raw", NULL });
}

struct log {
	struct buf text;
	uint64_t content, next;
	const struct fs_entry *entry;
};

static int on_entry(const struct fs_entry *e, const struct fs_segment *s, size_t n, void *data, struct error *err)
{
	struct log *l = data;

	(void)err;
	buf_addf(&l->text, "+ %s %o", e->path, e->mode);
	if (e->link)
		buf_addf(&l->text, " -> %s", e->link);
	if (S_ISREG(e->mode))
		buf_addf(&l->text, " %llu", (unsigned long long)e->size);
	for (size_t i = 0; i < e->n_xattrs; i++)
		buf_addf(&l->text, " %s:%zu", e->xattrs[i].name, e->xattrs[i].len);
	if (n > 1)
		for (size_t i = 0; i < n; i++)
			buf_addf(&l->text, " [%llu+%llu]", (unsigned long long)s[i].offset, (unsigned long long)s[i].n);
	buf_addc(&l->text, '\n');
	l->next = 0;
	return 0;
}
static int on_content(uint64_t offset, const void *p, size_t n, void *data, struct error *err)
{
	struct log *l = data;

	(void)p, (void)err;
	ASSERT(offset >= l->next);
	l->next = offset + n;
	l->content += n;
	return 0;
}
static int on_end(void *data, struct error *err)
{
	(void)data, (void)err;
	return 0;
}
static int on_link(const char *path, const char *target, void *data, struct error *err)
{
	(void)err;
	buf_addf(&((struct log *)data)->text, "= %s %s\n", path, target);
	return 0;
}
static int on_whiteout(const char *path, void *data, struct error *err)
{
	(void)err;
	buf_addf(&((struct log *)data)->text, "- %s\n", path);
	return 0;
}
static int on_opaque(const char *path, void *data, struct error *err)
{
	(void)err;
	buf_addf(&((struct log *)data)->text, "! %s\n", path);
	return 0;
}
static bool skip(const char *path, void *data)
{
	(void)data;
	return streq(path, "etc/hosts") || streq(path, "lost+found");
}
static const struct ext4_diff_ops ops = { on_entry, on_content, on_end, on_link, on_whiteout, on_opaque, skip };

struct result {
	int r;
	bool clean;
	char *text;
	struct error err;
	uint64_t content;
};

static struct result diff(const char *name, bool qcow2, bool with_base)
{
	_cleanup_close_ int fd = open_file(name, O_RDONLY), base_fd = open_file("base.raw", O_RDONLY);
	_cleanup_(disk_reader_freep) struct disk_reader *base = NULL, *disk = NULL;
	struct ext4_diff_request req = { .what = "test", .ops = &ops };
	struct log log = {};
	struct result res = {};

	ASSERT_OK(disk_reader_raw(base_fd, "base", &base, NULL));
	ASSERT_OK(qcow2 ? disk_reader_qcow2(fd, "disk", base, &disk, NULL) : disk_reader_raw(fd, "disk", &disk, NULL));
	req.disk = disk;
	req.base = with_base ? base : NULL;
	req.data = &log;
	buf_adds(&log.text, "");
	res.r = ext4_diff(&req, &res.clean, &res.err);
	res.text = buf_take(&log.text);
	res.content = log.content;
	return res;
}

static void result_done(struct result *res)
{
	free(res->text);
	error_done(&res->err);
}

static void expect_at(int line, struct result res, const char *text)
{
	if (res.r < 0)
		test_fail(__FILE__, line, "ext4_diff: %s", res.err.msg);
	if (!streq(res.text, text))
		test_fail(__FILE__, line, "got:\n%sexpected:\n%s", res.text, text);
	result_done(&res);
}
#define expect(res, text) expect_at(__LINE__, res, text)

TEST(nothing_changed_is_nothing)
{
	make_base("base.raw", true);
	copy_base();
	make_delta();
	expect(diff("d.qcow2", true, true), "");
	expect(diff("ours.raw", false, true), "");
}

TEST(a_whole_tree_without_base)
{
	make_base("base.raw", true);
	expect(diff("base.raw", false, false), "+ . 40755\n"
					       "+ big 100600 20971520 [0+5242880] [15728640+1048576]\n"
					       "+ cap 100755 0 security.capability:20 system.posix_acl_access:28\n"
					       "+ dir 40755\n"
					       "+ dir/a 100644 1\n"
					       "+ dir/b 100644 1\n"
					       "+ dir/sub 40755\n"
					       "+ dir/sub/c 100644 1\n"
					       "+ etc 40755\n"
					       "+ etc/alone1 100644 6\n"
					       "= etc/alone2 etc/alone1\n"
					       "+ etc/hard1 100644 5\n"
					       "= etc/hard2 etc/hard1\n"
					       "+ etc/passwd 100644 11\n"
					       "+ link 120777 -> etc/passwd\n"
					       "+ pipe 10600\n");
}

/* What a guest's overlay left on its disk, made by @fill below "upper". */
static struct result overlay(void (*fill)(struct ext4 *x))
{
	_cleanup_close_ int fd = open_file("o.raw", O_RDWR | O_CREAT | O_TRUNC);
	_cleanup_(disk_reader_freep) struct disk_reader *disk = NULL;
	struct ext4_diff_request req = { .what = "test", .ops = &ops, .overlay = true };
	struct log log = {};
	struct result res = {};
	struct ext4 *x;

	ASSERT_OK(ext4_create(fd, 64 * MIB, "t", uuid, seed, TIME, true, &x, NULL));
	fill(x);
	ASSERT_OK(ext4_finish(x, NULL));
	ext4_free(x);
	ASSERT_OK(disk_reader_raw(fd, "disk", &disk, NULL));
	req.disk = disk;
	req.data = &log;
	buf_adds(&log.text, "");
	res.r = ext4_diff(&req, &res.clean, &res.err);
	res.text = buf_take(&log.text);
	return res;
}

static void add_with(struct ext4 *x, const char *path, mode_t mode, const char *name, const char *value)
{
	const struct fs_xattr xattrs[] = { { "trusted.overlay.origin", "o", 1 },
					   { "user.own", "1", 1 },
					   { name, value, strlen(value) } };
	struct fs_entry e = { .path = path, .mode = mode, .xattrs = xattrs, .n_xattrs = 3 };

	ASSERT_OK(ext4_add(x, &e, NULL));
	if (S_ISREG(mode))
		ASSERT_OK(ext4_end_file(x, NULL));
}

static void fill_upper(struct ext4 *x)
{
	add(x, "work", S_IFDIR | 0700, NULL);
	add(x, "work/left", S_IFREG | 0600, "x");
	add(x, "upper", S_IFDIR | 0711, NULL);
	add(x, "upper/gone", S_IFCHR, NULL);
	ASSERT_OK(ext4_link(x, "upper/dir/gone too", "upper/gone", NULL));
	add(x, "upper/dir/new", S_IFREG | 0644, "new");
	ASSERT_OK(ext4_link(x, "upper/twin", "upper/dir/new", NULL));
	add_with(x, "upper/opaque", S_IFDIR | 0750, "trusted.overlay.opaque", "y");
	add(x, "upper/opaque/in", S_IFIFO | 0600, NULL);
	add_with(x, "upper/merged", S_IFDIR | 0750, "trusted.overlay.opaque", "x");
	add_with(x, "upper/file", S_IFREG | 0644, "trusted.overlay.opaque", "y");
	add(x, "upper/etc/hosts", S_IFREG | 0644, "skipped");
}

TEST(what_an_overlay_says_is_told)
{
	expect(overlay(fill_upper), "+ . 40711\n"
				    "+ dir 40755\n"
				    "- dir/gone too\n"
				    "+ dir/new 100644 3\n"
				    "+ etc 40755\n"
				    "+ file 100644 0 user.own:1\n"
				    "- gone\n"
				    "+ merged 40750 user.own:1\n"
				    "+ opaque 40750 user.own:1\n"
				    "! opaque\n"
				    "+ opaque/in 10600\n"
				    "= twin dir/new\n");
}

static void fill_nothing(struct ext4 *x)
{
	add(x, "other", S_IFDIR | 0755, NULL);
}

static void fill_redirect(struct ext4 *x)
{
	add_with(x, "upper/moved", S_IFDIR | 0755, "trusted.overlay.redirect", "/etc");
}

static void fill_metacopy(struct ext4 *x)
{
	add_with(x, "upper/f", S_IFREG | 0755, "trusted.overlay.metacopy", "");
}

static void fill_file(struct ext4 *x)
{
	add(x, "upper", S_IFREG | 0755, "x");
}

TEST(an_overlay_that_says_nothing_or_half)
{
	static const struct {
		void (*fill)(struct ext4 *x);
		const char *why;
	} cases[] = {
		{ fill_redirect, "'moved' is not all in the overlay" },
		{ fill_metacopy, "'f' is not all in the overlay" },
		{ fill_file, "'upper' on its disk is no directory" },
	};

	expect(overlay(fill_nothing), "");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct result res = overlay(cases[i].fill);

		ASSERT_EQ(res.r, -EBADMSG);
		ASSERT_EQ(res.err.kind, ERROR_DATA);
		ASSERT_CONTAINS(res.err.msg, cases[i].why);
		result_done(&res);
	}
}

TEST(changes_are_told_with_their_way_and_nothing_else)
{
	_cleanup_close_ int fd = -EBADF;

	make_base("base.raw", true);
	copy_base();
	fd = open_file("new", O_RDWR | O_CREAT);
	ASSERT_OK(write_full(fd, "new\n", 4));
	change("ours.raw", "rm dir/a", "write new dir/n", "sif etc/passwd mode 0100600", "sif etc/hosts mode 0100600",
	       "rm link", "symlink link etc/hosts", "mknod null c 1 3", NULL);
	make_delta();
	expect(diff("d.qcow2", true, true), "+ . 40755\n"
					    "+ dir 40755\n"
					    "- dir/a\n"
					    "+ dir/n 100600 4\n"
					    "+ etc 40755\n"
					    "+ etc/passwd 100600 11\n"
					    "+ link 120777 -> etc/hosts\n"
					    "+ null 20000\n");
}

/* The same size and times: only the bytes tell. The neighbours in the delta's cluster are not told. */
TEST(content_alone)
{
	struct result res;
	_cleanup_close_ int fd = -EBADF;
	char c = 'y';

	make_base("base.raw", true);
	copy_base();
	/* 3 MiB into the content of big: it is one extent, and 1 MiB of x is found nowhere else. */
	fd = open_file("ours.raw", O_RDWR);
	for (off_t at = 0; at < (off_t)(64 * MIB); at += 4096) {
		char page[4096], x[4096];

		memset(x, 'x', sizeof(x));
		ASSERT_OK(pread_full(fd, page, sizeof(page), (uint64_t)at));
		if (memcmp(page, x, sizeof(x)) == 0) {
			ASSERT_OK(pwrite_full(fd, &c, 1, (uint64_t)at + 3 * MIB));
			break;
		}
	}
	make_delta();
	res = diff("d.qcow2", true, true);
	ASSERT_EQ(res.content, 6 * MIB);
	expect(res, "+ . 40755\n+ big 100600 20971520 [0+5242880] [15728640+1048576]\n");
}

TEST(hard_links_are_told_together)
{
	make_base("base.raw", true);
	copy_base();
	change("ours.raw", "ln etc/hard1 dir/hard3", "sif etc/hard1 links_count 3", NULL);
	make_delta();
	expect(diff("d.qcow2", true, true), "+ . 40755\n"
					    "+ dir 40755\n"
					    "+ dir/hard3 100644 5\n"
					    "+ etc 40755\n"
					    "= etc/hard1 dir/hard3\n"
					    "= etc/hard2 dir/hard3\n");
	copy_base();
	change("ours.raw", "unlink etc/hard2", "sif etc/hard1 links_count 1", NULL);
	make_delta();
	expect(diff("d.qcow2", true, true), "+ . 40755\n"
					    "+ etc 40755\n"
					    "- etc/hard2\n"
					    "+ etc/hard1 100644 5\n");
}

/* As in backups that are hard links of each other. */
TEST(a_large_file_may_have_many_names)
{
	enum { NAMES = 150 };
	_cleanup_close_ int fd = open_file("base.raw", O_RDWR | O_CREAT | O_TRUNC);
	_cleanup_free_ char *big = xcalloc(1, MIB);
	struct fs_entry entry = { .path = "name0", .mode = S_IFREG | 0600, .size = 40 * MIB, .mtime_ns = 1 };
	struct ext4 *x = NULL;

	ASSERT_OK(ext4_create(fd, 64 * MIB, "t", uuid, seed, TIME, false, &x, NULL));
	ASSERT_OK(ext4_add(x, &entry, NULL));
	memset(big, 'x', MIB);
	for (uint64_t i = 0; i < 40; i++)
		ASSERT_OK(ext4_write(x, i * MIB, big, MIB, NULL));
	ASSERT_OK(ext4_end_file(x, NULL));
	for (int i = 1; i < NAMES; i++) {
		_cleanup_free_ char *name = xasprintf("name%d", i);

		ASSERT_OK(ext4_link(x, name, "name0", NULL));
	}
	ASSERT_OK(ext4_finish(x, NULL));
	ext4_free(x);
	copy_base();
	change("ours.raw", "sif name0 atime 12345", NULL);
	make_delta();
	expect(diff("d.qcow2", true, true), "");
	/* And where the content itself has to be looked at. */
	change("ours.raw", "sif name0 ctime 12345", NULL);
	expect(diff("ours.raw", false, true), "");
}

TEST(a_directory_that_was_replaced_is_opaque)
{
	make_base("base.raw", true);
	copy_base();
	change("ours.raw", "rm dir/sub/c", "rmdir dir/sub", "rm dir/a", "rm dir/b", "rmdir dir", "mkdir x", "mkdir dir",
	       NULL);
	make_delta();
	expect(diff("d.qcow2", true, true), "+ . 40755\n"
					    "+ dir 40755\n"
					    "! dir\n"
					    "+ x 40755\n");
}

TEST(types_that_change)
{
	make_base("base.raw", true);
	copy_base();
	change("ours.raw", "rm dir/sub/c", "rmdir dir/sub", "symlink dir/sub b", "rm link", "mkdir link", "rm pipe",
	       "mknod pipe b 8 1", "ea_set cap user.a b", NULL);
	make_delta();
	expect(diff("d.qcow2", true, true),
	       "+ . 40755\n"
	       "+ cap 100755 0 security.capability:20 system.posix_acl_access:28 user.a:1\n"
	       "+ dir 40755\n"
	       "+ dir/sub 120777 -> b\n"
	       "+ link 40755\n"
	       "+ pipe 60000\n");
}

TEST(a_dirty_journal_is_refused_with_what_to_do)
{
	struct result res;

	make_base("base.raw", true);
	copy_base();
	change("ours.raw", "feature needs_recovery", NULL);
	make_delta();
	res = diff("d.qcow2", true, true);
	ASSERT_EQ(res.r, -EBUSY);
	ASSERT_CONTAINS(res.err.msg, "not unmounted cleanly");
	ASSERT_CONTAINS(res.err.hint, "start the machine once");
	result_done(&res);
}

TEST(no_file_system_is_said_so)
{
	_cleanup_close_ int fd = -EBADF;
	struct result res;

	make_base("base.raw", true);
	fd = open_file("ours.raw", O_RDWR | O_CREAT);
	ASSERT_OK(ftruncate(fd, 1 << 20));
	res = diff("ours.raw", false, false);
	ASSERT_EQ(res.r, -EBADMSG);
	ASSERT_CONTAINS(res.err.msg, "there is no ext4 file system");
	result_done(&res);
}

/* A directory under itself, by hand: the walk ends. */
TEST(a_cycle_is_refused)
{
	struct result res;

	make_base("base.raw", false);
	copy_base();
	change("ours.raw", "ln dir dir/sub/up", NULL);
	res = diff("ours.raw", false, true);
	ASSERT_EQ(res.r, -EBADMSG);
	ASSERT_CONTAINS(res.err.msg, "met twice");
	result_done(&res);
}

/* Bits of the metadata turned over, one at a time and many at once: an error or another tree, never a crash or an endless walk. */
TEST(damaged_file_systems_end_in_an_error_or_a_tree)
{
	_cleanup_close_ int fd = -EBADF;
	uint32_t random = 12345;
	int errors = 0;

	make_base("base.raw", false);
	copy_base();
	fd = open_file("ours.raw", O_RDWR);
	for (int round = 0; round < 2500; round++) {
		uint64_t at[16];
		uint8_t was[16];
		int n = round % 2 ? 1 : 16;
		struct result res;

		for (int i = 0; i < n; i++) {
			uint8_t is;

			random = random * 1664525 + 1013904223;
			/* Superblock, group descriptors, inode tables and directories are all near the beginning. */
			at[i] = (random >> 4) % (random & 8 ? 16384 : 3 * MIB);
			ASSERT_OK(pread_full(fd, &was[i], 1, at[i]));
			is = (uint8_t)(was[i] ^ (1u << (random >> 29)));
			ASSERT_OK(pwrite_full(fd, &is, 1, at[i]));
		}
		res = diff("ours.raw", false, true);
		errors += res.r < 0;
		result_done(&res);
		for (int i = n; i-- > 0;)
			ASSERT_OK(pwrite_full(fd, &was[i], 1, at[i]));
	}
	ASSERT(errors > 100);
}
