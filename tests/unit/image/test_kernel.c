#include "image/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "test.h"

static struct store store;

static void open_store(void)
{
	setenv("SKERRY_HOME", test_tmpdir(), 1);
	ASSERT_OK(store_open(&store, NULL));
}

static void add(const char *name, bool built, uint64_t created_ns, bool modular)
{
	struct kernel_meta m = { .name = xstrdup(name),
				 .file = xstrdup("vmlinux"),
				 .built = built,
				 .modular = modular,
				 .created_ns = created_ns };
	_cleanup_close_ int dir = -EBADF;

	ASSERT_OK(mkdirat(store.kernels_fd, name, 0700));
	dir = kernel_open_dir(&store, name, NULL);
	ASSERT_OK(file_write_at(dir, "vmlinux", "kernel", 6, 0444, 0));
	ASSERT_OK(kernel_meta_write(dir, &m, NULL));
	if (modular) {
		ASSERT_OK(mkdirat(dir, "modules", 0700));
		ASSERT_OK(file_write_at(dir, "modules/load", "a.ko\nb.ko\n", 10, 0600, 0));
		ASSERT_OK(file_write_at(dir, "modules/a.ko", "AAAA", 4, 0600, 0));
		ASSERT_OK(file_write_at(dir, "modules/b.ko", "BBBB", 4, 0600, 0));
	}
	kernel_meta_done(&m);
}

static char *default_name(void)
{
	struct kernel_meta m = {};
	char *name;

	ASSERT_OK(kernel_default(&store, &m, NULL));
	name = xstrdup(m.name);
	kernel_meta_done(&m);
	return name;
}

TEST(the_default_is_the_newest_built_then_debian_then_any)
{
	_cleanup_free_ char *a = NULL, *b = NULL, *c = NULL, *d = NULL;
	_cleanup_error_ struct error e = {};
	struct kernel_meta m = {};

	open_store();
	ASSERT_EQ(kernel_default(&store, &m, &e), -ENOENT);
	ASSERT_CONTAINS(e.hint, "skerry kernel import debian");
	add("other", false, 9, false);
	a = default_name();
	ASSERT_STREQ(a, "other");
	add("debian", false, 1, false);
	b = default_name();
	ASSERT_STREQ(b, "debian");
	add("built", true, 1, false);
	c = default_name();
	ASSERT_STREQ(c, "built");
	add("built2", true, 2, false);
	d = default_name();
	ASSERT_STREQ(d, "built2");
}

TEST(a_damaged_kernel_does_not_hide_the_others)
{
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *name = NULL;
	struct kernel_meta m = {};

	open_store();
	add("bad", true, 5, false);
	ASSERT_OK(file_write_at(store.kernels_fd, "bad/meta.json", "{", 1, 0600, 0));
	ASSERT_EQ(kernel_default(&store, &m, &e), -EBADMSG);
	add("debian", false, 1, false);
	name = default_name();
	ASSERT_STREQ(name, "debian");
	/* A record that names another file than the two is not followed. */
	ASSERT_OK(file_write_at(store.kernels_fd, "debian/meta.json", "{\"name\":\"debian\",\"file\":\"../x\"}", 32,
				0600, 0));
	ASSERT_EQ(kernel_find(&store, "debian", &m, NULL), -EBADMSG);
	ASSERT(kernel_find(&store, "../x", &m, NULL) < 0);
}

TEST(names_are_sorted_and_without_leavings)
{
	_cleanup_strv_ struct strv names = {};

	open_store();
	add("b", false, 1, false);
	add("a", false, 1, false);
	ASSERT_OK(mkdirat(store.kernels_fd, ".tmp-new-c", 0700));
	ASSERT_OK(mkdirat(store.kernels_fd, "half", 0700));
	ASSERT_OK(kernel_names(&store, &names, NULL));
	ASSERT_EQ(names.n, 2);
	ASSERT_STREQ(names.items[0], "a");
	ASSERT_STREQ(names.items[1], "b");
}

/* The initrd's bytes, made with a guest of @text. */
static void initrd(const char *kernel, const char *text, struct buf *out, struct stat *st)
{
	_cleanup_free_ char *guest = xasprintf("%s/guest", test_tmpdir()), *path = NULL;
	struct kernel_meta m = {};

	if (text)
		ASSERT_OK(file_write_at(store.home_fd, "guest", text, strlen(text), 0755, 0));
	ASSERT_OK(kernel_find(&store, kernel, &m, NULL));
	ASSERT_OK(kernel_initrd_path(&store, &m, guest, &path, NULL));
	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, out));
	ASSERT_OK(stat(path, st));
	kernel_meta_done(&m);
}

TEST(the_initrd_is_made_once_and_again_when_the_guest_changes)
{
	_cleanup_buf_ struct buf a = {}, b = {}, c = {};
	struct stat sa, sb, sc;

	open_store();
	add("k", false, 1, true);
	initrd("k", "guest one", &a, &sa);
	initrd("k", NULL, &b, &sb);
	ASSERT_EQ(sa.st_ino, sb.st_ino);
	initrd("k", "guest two!", &c, &sc);
	ASSERT(memmem(a.p, a.len, "guest one", 9) && memmem(c.p, c.len, "guest two!", 10));
	ASSERT(memmem(a.p, a.len, "modules/a.ko", 13) && memmem(a.p, a.len, "BBBB", 4));
	ASSERT(memmem(a.p, a.len, "dev/console", 12));
}

TEST(programs_of_two_versions_keep_an_initrd_each)
{
	_cleanup_free_ char *one = xasprintf("%s/one", test_tmpdir()), *two = xasprintf("%s/two", test_tmpdir());
	_cleanup_free_ char *a = NULL, *b = NULL, *again = NULL;
	_cleanup_(kernel_meta_done) struct kernel_meta m = {};
	struct stat first, second;

	open_store();
	add("k", false, 1, true);
	ASSERT_OK(kernel_find(&store, "k", &m, NULL));
	ASSERT_OK(file_write_at(store.home_fd, "one", "1", 1, 0755, 0));
	ASSERT_OK(file_write_at(store.home_fd, "two", "2", 1, 0755, 0));
	ASSERT_OK(kernel_initrd_path(&store, &m, one, &a, NULL));
	ASSERT_OK(stat(a, &first));
	ASSERT_OK(kernel_initrd_path(&store, &m, two, &b, NULL));
	ASSERT(!streq(a, b));
	ASSERT_OK(kernel_initrd_path(&store, &m, one, &again, NULL));
	ASSERT_STREQ(again, a);
	ASSERT_OK(stat(a, &second));
	ASSERT_EQ(first.st_ino, second.st_ino);
}

TEST(old_initrds_go_and_young_ones_stay)
{
	static const struct timespec old[2] = { { .tv_sec = 1000 }, { .tv_sec = 1000 } };
	_cleanup_close_ int dir = -EBADF;
	int there = 0;

	open_store();
	add("k", false, 1, true);
	dir = openat(store.kernels_fd, "k", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < 8; i++) {
		_cleanup_free_ char *name = xasprintf("initrd-%d", i);

		ASSERT_OK(file_write_at(dir, name, "x", 1, 0644, 0));
		if (i < 6)
			ASSERT_OK(utimensat(dir, name, old, 0));
	}
	{
		_cleanup_buf_ struct buf b = {};
		struct stat st;

		initrd("k", "guest", &b, &st);
	}
	for (int i = 0; i < 8; i++) {
		_cleanup_free_ char *name = xasprintf("initrd-%d", i);

		there += faccessat(dir, name, F_OK, 0) == 0;
	}
	/* The new one, the two young ones, and one of the old. */
	ASSERT_EQ(there, 3);
	ASSERT_OK(faccessat(dir, "initrd-6", F_OK, 0));
	ASSERT_OK(faccessat(dir, "initrd-7", F_OK, 0));
}

TEST(equal_parts_give_an_equal_initrd)
{
	_cleanup_buf_ struct buf a = {}, b = {};
	struct stat st;

	open_store();
	add("one", false, 1, true);
	add("two", false, 2, true);
	initrd("one", "guest", &a, &st);
	initrd("two", "guest", &b, &st);
	ASSERT_EQ(a.len, b.len);
	ASSERT_MEMEQ(a.p, b.p, a.len);
}

TEST(a_list_of_modules_that_leaves_its_directory_is_refused)
{
	_cleanup_free_ char *guest = xasprintf("%s/guest", test_tmpdir()), *path = NULL;
	_cleanup_error_ struct error e = {}, e2 = {};
	struct kernel_meta m = {};

	open_store();
	add("k", false, 1, true);
	ASSERT_OK(file_write_at(store.home_fd, "guest", "g", 1, 0755, 0));
	ASSERT_OK(file_write_at(store.kernels_fd, "k/modules/load", "../vmlinux\n", 11, 0600, 0));
	ASSERT_OK(kernel_find(&store, "k", &m, NULL));
	ASSERT(kernel_initrd_path(&store, &m, guest, &path, &e) < 0);
	ASSERT(kernel_initrd_path(&store, &m, "/nonexistent", &path, &e2) < 0);
	ASSERT_EQ(e2.kind, ERROR_UNAVAILABLE);
	kernel_meta_done(&m);
}

static int used(const char *kernel, char **ret_by, void *data)
{
	(void)data;
	*ret_by = xstrdup("machine 'web'");
	return streq(kernel, "k");
}

TEST(a_kernel_in_use_is_not_deleted)
{
	_cleanup_error_ struct error e = {};
	struct kernel_meta m = {};

	open_store();
	add("k", false, 1, true);
	ASSERT_EQ(kernel_delete(&store, "k", used, NULL, &e), -EBUSY);
	ASSERT_CONTAINS(e.msg, "machine 'web'");
	ASSERT_OK(kernel_delete(&store, "k", NULL, NULL, NULL));
	ASSERT_EQ(kernel_find(&store, "k", &m, NULL), -ENOENT);
	ASSERT_EQ(kernel_delete(&store, "k", NULL, NULL, NULL), -ENOENT);
	ASSERT(kernel_delete(&store, "..", NULL, NULL, NULL) < 0);
}
