#include "disk/ext4.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "test.h"

#define TIME UINT64_C(1700000000)

static const uint8_t uuid[16] = { 1, 2, 3, 4 }, seed[16] = { 5, 6, 7, 8 };

static struct ext4 *create(const char *name, uint64_t bytes, bool journal, int *ret_fd)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);
	_cleanup_error_ struct error e = {};
	struct ext4 *x = NULL;

	*ret_fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_OK(*ret_fd);
	if (ext4_create(*ret_fd, bytes, "test", uuid, seed, TIME, journal, &x, &e) < 0)
		test_fail(__FILE__, __LINE__, "ext4_create: %s", e.msg);
	return x;
}

static char *tool(int *ret_status, const char *program, const char *a, const char *b, const char *c, const char *d)
{
	const char *argv[] = { program, a, b, c, d, NULL };
	struct spawn s = SPAWN_INIT;
	struct buf out = {};
	_cleanup_free_ char *found = program_find(program);

	if (!found)
		test_skip("no %s", program);
	s.argv = argv;
	s.cwd = test_tmpdir();
	ASSERT_OK(spawn_run(&s, NULL, &out, NULL, 8 << 20, 0, ret_status, NULL));
	return buf_take(&out);
}

static void check(const char *name)
{
	int status;
	_cleanup_free_ char *out = tool(&status, "e2fsck", "-fn", name, NULL, NULL);

	if (status != 0)
		test_fail(__FILE__, __LINE__, "e2fsck: %s", out);
}

static char *debugfs(const char *name, const char *request)
{
	int status;

	return tool(&status, "debugfs", "-R", request, name, NULL);
}

static void add(struct ext4 *x, const char *path, mode_t mode, const char *link)
{
	_cleanup_error_ struct error e = {};

	if (ext4_add(x, &(struct fs_entry){ .path = path, .mode = mode, .link = link, .mtime_ns = TIME * NS_PER_SEC },
		     &e) < 0)
		test_fail(__FILE__, __LINE__, "ext4_add: %s", e.msg);
}

static void file(struct ext4 *x, const char *path, const char *text)
{
	_cleanup_error_ struct error e = {};
	struct fs_entry entry = { .path = path, .mode = S_IFREG | 0644, .size = strlen(text) };

	if (ext4_add(x, &entry, &e) < 0 || ext4_write(x, 0, text, strlen(text), &e) < 0 || ext4_end_file(x, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", path, e.msg);
}

static void finish(struct ext4 *x, int fd)
{
	_cleanup_error_ struct error e = {};

	if (ext4_finish(x, &e) < 0)
		test_fail(__FILE__, __LINE__, "ext4_finish: %s", e.msg);
	ext4_free(x);
	close(fd);
}

TEST(an_empty_one_is_sound_at_any_size)
{
	static const uint64_t sizes[] = { UINT64_C(8) << 20, (UINT64_C(100) << 20) + 4096, UINT64_C(1) << 30,
					  UINT64_C(16) << 30 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++)
		for (int journal = 0; journal < 2; journal++) {
			_cleanup_free_ char *name = xasprintf("%zu-%d", i, journal);
			struct ext4 *x;
			int fd;

			/* An 8 MiB file system has no room for both a journal and the table to grow into. */
			if (i == 0 && journal)
				continue;
			x = create(name, sizes[i], journal, &fd);
			finish(x, fd);
			check(name);
		}
}

TEST(a_large_one_is_mostly_holes_and_can_grow_to_a_tebibyte)
{
	_cleanup_free_ char *out = NULL, *path = xasprintf("%s/big", test_tmpdir());
	struct stat st;
	struct ext4 *x;
	int fd, status;

	x = create("big", UINT64_C(16) << 30, true, &fd);
	finish(x, fd);
	ASSERT_OK(stat(path, &st));
	ASSERT_EQ(st.st_size, INT64_C(16) << 30);
	ASSERT(st.st_blocks * 512 < 8 << 20);
	out = tool(&status, "dumpe2fs", "-h", "big", NULL, NULL);
	ASSERT_CONTAINS(out, "has_journal");
	ASSERT_CONTAINS(out, "metadata_csum");
	ASSERT_CONTAINS(out, "64bit");
	ASSERT_CONTAINS(out, "resize_inode");
	ASSERT_CONTAINS(out, "Reserved GDT blocks:      1024");
}

TEST(resize2fs_grows_a_small_one)
{
	_cleanup_free_ char *out = NULL;
	struct ext4 *x;
	int fd, status;

	x = create("s", UINT64_C(64) << 20, false, &fd);
	file(x, "f", "content");
	finish(x, fd);
	free(tool(&status, "truncate", "-s", "4G", "s", NULL));
	free(tool(&status, "resize2fs", "s", NULL, NULL, NULL));
	ASSERT_EQ(status, 0);
	check("s");
	out = debugfs("s", "cat f");
	ASSERT_STREQ(out, "content");
}

TEST(every_type_of_entry_is_written)
{
	_cleanup_free_ char *long_target = xcalloc(1, 201), *out = NULL, *link = NULL;
	struct fs_entry device = { .path = "dev/big", .mode = S_IFBLK | 0600, .rdev_major = 259, .rdev_minor = 70000 };
	struct ext4 *x;
	mode_t mode;
	int fd;

	memset(long_target, 't', 200);
	x = create("t", UINT64_C(64) << 20, true, &fd);
	add(x, "dev/null", S_IFCHR | 0666, NULL);
	ASSERT_OK(ext4_add(x, &device, NULL));
	add(x, "fifo", S_IFIFO | 0600, NULL);
	add(x, "sock", S_IFSOCK | 0600, NULL);
	add(x, "short", S_IFLNK | 0777, "dev/null");
	add(x, "long", S_IFLNK | 0777, long_target);
	add(x, "sticky", S_IFDIR | 01777, NULL);
	file(x, "a/b/c/file", "hello");
	file(x, "empty", "");
	ASSERT_OK(ext4_stat(x, "sticky", &mode));
	ASSERT_EQ(mode, S_IFDIR | 01777);
	ASSERT_EQ(ext4_stat(x, "none", &mode), -ENOENT);
	finish(x, fd);
	check("t");
	out = debugfs("t", "cat a/b/c/file");
	ASSERT_STREQ(out, "hello");
	free(out);
	out = debugfs("t", "stat long");
	ASSERT_CONTAINS(out, "Type: symlink");
	ASSERT_CONTAINS(out, "Size: 200");
	free(out);
	out = debugfs("t", "stat dev/big");
	ASSERT_CONTAINS(out, "Device major/minor number: 259:70000");
	link = debugfs("t", "stat short");
	ASSERT_CONTAINS(link, "Fast link dest: \"dev/null\"");
}

TEST(hard_links_share_an_inode_and_count)
{
	_cleanup_free_ char *out = NULL;
	struct ext4 *x;
	int fd;

	x = create("h", UINT64_C(64) << 20, false, &fd);
	file(x, "one", "text");
	ASSERT_OK(ext4_link(x, "two", "one", NULL));
	ASSERT_OK(ext4_link(x, "d/three", "two", NULL));
	ASSERT_OK(ext4_link(x, "one", "one", NULL));
	ASSERT_EQ(ext4_link(x, "x", "none", NULL), -ENOENT);
	ASSERT_EQ(ext4_link(x, "x", "d", NULL), -EINVAL);
	ASSERT_OK(ext4_remove(x, "one", NULL));
	finish(x, fd);
	check("h");
	out = debugfs("h", "stat two");
	ASSERT_CONTAINS(out, "Links: 2");
	free(out);
	out = debugfs("h", "cat d/three");
	ASSERT_STREQ(out, "text");
}

TEST(entries_replace_each_other_and_trees_go)
{
	_cleanup_free_ char *out = NULL;
	struct ext4 *x;
	mode_t mode;
	int fd;

	x = create("r", UINT64_C(64) << 20, true, &fd);
	file(x, "thing", "a file first");
	add(x, "thing", S_IFDIR | 0755, NULL);
	file(x, "thing/deep/er/file", "x");
	add(x, "thing", S_IFDIR | 0700, NULL);
	ASSERT_OK(ext4_stat(x, "thing/deep/er/file", &mode));
	add(x, "thing", S_IFLNK | 0777, "elsewhere");
	ASSERT_EQ(ext4_stat(x, "thing/deep", &mode), -ENOENT);
	file(x, "thing", "a file again");
	file(x, "gone/a/b/c", "x");
	ASSERT_OK(ext4_remove(x, "gone", NULL));
	ASSERT_OK(ext4_remove(x, "gone", NULL));
	ASSERT_EQ(ext4_stat(x, "gone", &mode), -ENOENT);
	/* The old directory holds the link's target. */
	file(x, "self/inner", "kept");
	ASSERT_OK(ext4_link(x, "self", "self/inner", NULL));
	finish(x, fd);
	check("r");
	out = debugfs("r", "cat thing");
	ASSERT_STREQ(out, "a file again");
	free(out);
	out = debugfs("r", "cat self");
	ASSERT_STREQ(out, "kept");
}

TEST(hostile_names_do_not_leave_the_root)
{
	static const char *const bad[] = { "", "/etc/x", "../x", "a/../../x", "a//x", "a/" };
	struct fs_entry e = { .mode = S_IFDIR | 0755 };
	struct ext4 *x;
	mode_t mode;
	int fd;

	x = create("p", UINT64_C(64) << 20, false, &fd);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		e.path = bad[i];
		ASSERT_EQ(ext4_add(x, &e, NULL), -EINVAL);
		ASSERT_EQ(ext4_remove(x, bad[i], NULL), -EINVAL);
	}
	add(x, "usr/lib", S_IFDIR | 0755, NULL);
	add(x, "lib", S_IFLNK | 0777, "usr/lib");
	add(x, "escape", S_IFLNK | 0777, "../../..");
	add(x, "loop", S_IFLNK | 0777, "loop");
	file(x, "lib/a.so", "x");
	ASSERT_OK(ext4_stat(x, "usr/lib/a.so", &mode));
	file(x, "escape/etc/inside", "x");
	ASSERT_OK(ext4_stat(x, "etc/inside", &mode));
	e.path = "loop/x";
	ASSERT_EQ(ext4_add(x, &e, NULL), -ELOOP);
	e.path = "usr/lib/a.so/x";
	ASSERT_EQ(ext4_add(x, &e, NULL), -ENOTDIR);
	ASSERT_EQ(ext4_remove(x, ".", NULL), -EINVAL);
	finish(x, fd);
	check("p");
}

TEST(content_keeps_its_holes_and_its_place)
{
	static const size_t offsets[] = { 0, 3, 4096, 100000, 5000000, 5004097 };
	_cleanup_free_ char *out = NULL, *path = xasprintf("%s/dump", test_tmpdir());
	_cleanup_close_ int dump = -EBADF;
	struct fs_entry e = { .path = "sparse", .mode = S_IFREG | 0644, .size = UINT64_C(1) << 30 };
	struct ext4 *x;
	struct stat st;
	char c;
	int fd;

	x = create("c", UINT64_C(64) << 20, false, &fd);
	ASSERT_OK(ext4_add(x, &e, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++)
		ASSERT_OK(ext4_write(x, offsets[i], "x", 1, NULL));
	ASSERT_EQ(ext4_write(x, 5, "x", 1, NULL), -EINVAL);
	ASSERT_EQ(ext4_write(x, e.size, "x", 1, NULL), -EINVAL);
	ASSERT_EQ(ext4_write(x, UINT64_MAX, "x", 1, NULL), -EINVAL);
	ASSERT_EQ(ext4_add(x, &e, NULL), -EBUSY);
	ASSERT_OK(ext4_end_file(x, NULL));
	ASSERT_EQ(ext4_end_file(x, NULL), -EINVAL);
	finish(x, fd);
	check("c");
	out = debugfs("c", "dump -p sparse dump");
	dump = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_OK(dump);
	ASSERT_OK(fstat(dump, &st));
	ASSERT_EQ(st.st_size, INT64_C(1) << 30);
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		ASSERT_OK(pread_full(dump, &c, 1, offsets[i]));
		ASSERT_EQ(c, 'x');
		ASSERT_OK(pread_full(dump, &c, 1, offsets[i] + 1));
		ASSERT_EQ(c, 0);
	}
}

TEST(a_file_in_many_pieces_gets_a_tree_of_extents)
{
	struct fs_entry e = { .path = "pieces", .mode = S_IFREG | 0644, .size = UINT64_C(2000) * 8192 };
	_cleanup_free_ char *out = NULL;
	struct ext4 *x;
	int fd;

	x = create("e", UINT64_C(64) << 20, false, &fd);
	ASSERT_OK(ext4_add(x, &e, NULL));
	for (uint64_t i = 0; i < 2000; i++)
		ASSERT_OK(ext4_write(x, i * 8192, &i, sizeof(i), NULL));
	ASSERT_OK(ext4_end_file(x, NULL));
	file(x, "after", "y");
	/* Removal frees the tree's own blocks too. */
	ASSERT_OK(ext4_add(x, &(struct fs_entry){ .path = "again", .mode = S_IFREG | 0644, .size = e.size }, NULL));
	for (uint64_t i = 0; i < 2000; i++)
		ASSERT_OK(ext4_write(x, i * 8192, &i, sizeof(i), NULL));
	ASSERT_OK(ext4_end_file(x, NULL));
	ASSERT_OK(ext4_remove(x, "again", NULL));
	finish(x, fd);
	check("e");
	out = debugfs("e", "stat pieces");
	ASSERT_CONTAINS(out, "ETB");
}

TEST(big_directories_are_indexed_and_found_in)
{
	_cleanup_free_ char *out = NULL, *flags = NULL;
	struct ext4 *x;
	int fd;

	x = create("i", UINT64_C(1) << 30, false, &fd);
	for (unsigned i = 0; i < 60000; i++) {
		_cleanup_free_ char *path = xasprintf("dir/an-entry-with-quite-a-long-name-%u", i);

		add(x, path, S_IFIFO | 0600, NULL);
	}
	finish(x, fd);
	check("i");
	flags = debugfs("i", "htree_dump dir");
	/* Not ASSERT_CONTAINS: the dump has megabytes. */
	ASSERT(strstr(flags, "Hash Version: 1"));
	ASSERT(strstr(flags, "Indirect levels: 1"));
	out = debugfs("i", "stat dir/an-entry-with-quite-a-long-name-31415");
	ASSERT_CONTAINS(out, "Type: FIFO");
}

TEST(many_subdirectories_pass_the_count_of_links)
{
	struct ext4 *x;
	int fd;

	x = create("l", UINT64_C(2) << 30, false, &fd);
	for (unsigned i = 0; i < 66000; i++) {
		_cleanup_free_ char *path = xasprintf("many/%u", i);

		add(x, path, S_IFDIR | 0755, NULL);
	}
	finish(x, fd);
	check("l");
}

TEST(attributes_and_access_lists_are_kept)
{
	/* The kernel's form: version 2; user::rw-, user:1000:rwx, group::r--, mask::rwx, other::r-- */
	static const uint8_t acl[] = { 2, 0,    0,   0,   1,   0,   6,  0, 255, 255, 255, 255, 2,   0,  7,
				       0, 0xe8, 3,   0,   0,   4,   0,  4, 0,   255, 255, 255, 255, 16, 0,
				       7, 0,    255, 255, 255, 255, 32, 0, 4,   0,   255, 255, 255, 255 };
	char large[3000];
	const struct fs_xattr xattrs[] = {
		{ "user.small", "value", 5 },
		{ "user.large", large, sizeof(large) },
		{ "security.capability", "\1\0\0\2\0\40\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20 },
		{ "system.posix_acl_access", acl, sizeof(acl) },
		{ "com.example.unknown", "x", 1 },
	};
	struct fs_entry e = { .path = "f", .mode = S_IFREG | 0674, .size = 1, .xattrs = xattrs, .n_xattrs = 5 };
	_cleanup_free_ char *out = NULL, *value = NULL;
	struct ext4 *x;
	int fd;

	memset(large, 'L', sizeof(large));
	x = create("x", UINT64_C(64) << 20, true, &fd);
	ASSERT_OK(ext4_add(x, &e, NULL));
	ASSERT_OK(ext4_write(x, 0, "1", 1, NULL));
	ASSERT_OK(ext4_end_file(x, NULL));
	e.path = "d";
	e.mode = S_IFDIR | 0755;
	e.size = 0;
	ASSERT_OK(ext4_add(x, &e, NULL));
	/* Merged into a directory that has attributes, and removed with them. */
	ASSERT_OK(ext4_add(x, &e, NULL));
	e.path = "gone";
	ASSERT_OK(ext4_add(x, &e, NULL));
	ASSERT_OK(ext4_remove(x, "gone", NULL));
	finish(x, fd);
	check("x");
	out = debugfs("x", "ea_list f");
	ASSERT_CONTAINS(out, "user.small");
	ASSERT_CONTAINS(out, "user.large (3000)");
	ASSERT_CONTAINS(out, "security.capability (20)");
	ASSERT_CONTAINS(out, "system.posix_acl_access");
	ASSERT(!strstr(out, "com.example"));
	value = debugfs("x", "ea_get -f /dev/stdout d user.small");
	ASSERT_CONTAINS(value, "value");
}

static void fill_some(const char *name)
{
	struct ext4 *x;
	int fd;

	x = create(name, UINT64_C(256) << 20, true, &fd);
	for (unsigned i = 0; i < 3000; i++) {
		_cleanup_free_ char *path = xasprintf("d%u/f%u", i % 7, i);

		file(x, path, path);
	}
	add(x, "s", S_IFLNK | 0777, "d1");
	ASSERT_OK(ext4_link(x, "l", "d0/f0", NULL));
	finish(x, fd);
}

TEST(equal_input_gives_equal_bytes)
{
	int status;

	fill_some("one");
	fill_some("two");
	free(tool(&status, "cmp", "one", "two", NULL, NULL));
	ASSERT_EQ(status, 0);
	check("one");
}

static uint64_t cpu_ns(void)
{
	struct timespec t;

	ASSERT_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t), 0);
	return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

TEST(thirty_thousand_files_are_quick)
{
	uint64_t begin = cpu_ns();
	char data[8192];
	struct ext4 *x;
	int fd;

	memset(data, 'd', sizeof(data));
	x = create("q", UINT64_C(2) << 30, true, &fd);
	for (unsigned i = 0; i < 30000; i++) {
		_cleanup_free_ char *path = xasprintf("usr/share/%u/%u", i % 300, i);
		struct fs_entry e = { .path = path, .mode = S_IFREG | 0644, .size = sizeof(data) };

		ASSERT_OK(ext4_add(x, &e, NULL));
		ASSERT_OK(ext4_write(x, 0, data, sizeof(data), NULL));
		ASSERT_OK(ext4_end_file(x, NULL));
	}
	finish(x, fd);
	/* Not how long it takes where others work too, and generous: what grows with the square takes many minutes. */
	ASSERT(cpu_ns() - begin < 60 * NS_PER_SEC);
	check("q");
}

TEST(a_full_disk_and_a_bad_size_say_so)
{
	struct fs_entry e = { .path = "big", .mode = S_IFREG | 0644, .size = UINT64_C(64) << 20 };
	_cleanup_free_ char *block = xcalloc(1, 1 << 20);
	_cleanup_error_ struct error err = {};
	struct ext4 *x;
	int fd, r = 0;

	x = create("f", UINT64_C(16) << 20, false, &fd);
	ASSERT_OK(ext4_add(x, &e, NULL));
	for (uint64_t i = 0; r >= 0 && i < 64; i++)
		r = ext4_write(x, i << 20, block, 1 << 20, &err);
	ASSERT_EQ(r, -EXFULL);
	ASSERT_CONTAINS(err.msg, "full");
	ext4_free(x);
	ASSERT_EQ(ftruncate(fd, 0), 0);
	ASSERT_EQ(ext4_create(fd, 4096, "t", uuid, seed, TIME, false, &x, NULL), -EINVAL);
	ASSERT_EQ(ext4_create(fd, UINT64_MAX, "t", uuid, seed, TIME, false, &x, NULL), -EINVAL);
	ASSERT_EQ(ftruncate(fd, 10), 0);
	ASSERT_EQ(ext4_create(fd, 64 << 20, "t", uuid, seed, TIME, false, &x, NULL), -EINVAL);
}

static void lower(struct ext4 *x, const char *path, bool below)
{
	_cleanup_error_ struct error e = {};

	if (ext4_remove_lower(x, path, below, &e) < 0)
		test_fail(__FILE__, __LINE__, "ext4_remove_lower: %s", e.msg);
}

TEST(a_whiteout_takes_lower_layers_away_only)
{
	struct ext4 *x;
	mode_t mode;
	int fd;

	x = create("w", UINT64_C(64) << 20, true, &fd);
	file(x, "gone", "1");
	file(x, "again", "1");
	file(x, "d/old", "1");
	file(x, "d/deep/er/old", "1");
	file(x, "d/deep/er/kept", "1");
	file(x, "opaque/old", "1");
	file(x, "opaque/sub/old", "1");
	ASSERT_OK(ext4_next_layer(x, NULL));
	lower(x, "gone", false);
	lower(x, "never/was", false);
	lower(x, "gone/below", false);
	/* Added before and after the whiteout, in the same layer. */
	file(x, "again", "2");
	lower(x, "again", false);
	file(x, "d/deep/er/kept", "2");
	file(x, "d/new", "2");
	lower(x, "d", false);
	file(x, "opaque/before", "2");
	lower(x, "opaque", true);
	file(x, "opaque/after", "2");
	lower(x, ".", true);
	ASSERT_EQ(ext4_stat(x, "gone", &mode), -ENOENT);
	ASSERT_OK(ext4_stat(x, "again", &mode));
	ASSERT_EQ(ext4_stat(x, "d/old", &mode), -ENOENT);
	ASSERT_EQ(ext4_stat(x, "d/deep/er/old", &mode), -ENOENT);
	ASSERT_OK(ext4_stat(x, "d/deep/er/kept", &mode));
	ASSERT_OK(ext4_stat(x, "d/new", &mode));
	ASSERT_EQ(ext4_stat(x, "opaque/sub", &mode), -ENOENT);
	ASSERT_OK(ext4_stat(x, "opaque/before", &mode));
	ASSERT_OK(ext4_stat(x, "opaque/after", &mode));
	ASSERT_OK(ext4_stat(x, "lost+found", &mode));
	/* The next layer finds an opaque directory without anything of its own. */
	ASSERT_OK(ext4_next_layer(x, NULL));
	lower(x, "opaque", true);
	ASSERT_OK(ext4_stat(x, "opaque", &mode));
	ASSERT_EQ(ext4_stat(x, "opaque/after", &mode), -ENOENT);
	ASSERT_EQ(ext4_remove_lower(x, ".", false, NULL), -EINVAL);
	finish(x, fd);
	check("w");
}

/* Blocks in use, as the superblock tells. */
static uint64_t used_blocks(const char *name)
{
	_cleanup_free_ char *out = debugfs(name, "stats -h");
	const char *all = strstr(out, "Block count:"), *free_ones = strstr(out, "Free blocks:");

	ASSERT(all && free_ones);
	return strtoull(strpbrk(all, "0123456789"), NULL, 10) -      /* lint: a number in a program's output */
	       strtoull(strpbrk(free_ones, "0123456789"), NULL, 10); /* lint: likewise */
}

static void big_file(struct ext4 *x, const char *path)
{
	static const char block[1 << 16] = { 1 };
	struct fs_entry e = { .path = path, .mode = S_IFREG | 0644, .size = 100 * sizeof(block) };

	ASSERT_OK(ext4_add(x, &e, NULL));
	/* Every second block is a hole: the extent tree needs blocks of its own. */
	for (unsigned i = 0; i < 100; i++)
		for (unsigned k = 0; k < 16; k += 2)
			ASSERT_OK(ext4_write(x, i * sizeof(block) + k * 4096, block, 4096, NULL));
	ASSERT_OK(ext4_end_file(x, NULL));
}

TEST(what_is_taken_away_gives_its_blocks_back)
{
	char value[3000];
	struct fs_xattr xattr = { "user.large", value, sizeof(value) };
	struct fs_entry with_xattr = { .path = "x", .mode = S_IFIFO | 0644, .xattrs = &xattr, .n_xattrs = 1 };
	char target[1000];
	struct ext4 *x;
	int fd;

	memset(value, 'v', sizeof(value));
	memset(target, 't', sizeof(target));
	target[999] = 0;
	x = create("none", UINT64_C(64) << 20, true, &fd);
	add(x, "d", S_IFDIR | 0755, NULL);
	finish(x, fd);
	x = create("removed", UINT64_C(64) << 20, true, &fd);
	add(x, "d", S_IFDIR | 0755, NULL);
	big_file(x, "d/big");
	big_file(x, "d/linked");
	ASSERT_OK(ext4_link(x, "d/other", "d/linked", NULL));
	ASSERT_OK(ext4_link(x, "outside", "d/linked", NULL));
	add(x, "d/sub", S_IFDIR | 0755, NULL);
	add(x, "d/sub/long", S_IFLNK | 0777, target);
	ASSERT_OK(ext4_add(x, &with_xattr, NULL));
	big_file(x, "replaced");
	ASSERT_OK(ext4_next_layer(x, NULL));
	lower(x, "d", true);
	lower(x, "outside", false);
	lower(x, "x", false);
	add(x, "replaced", S_IFIFO | 0600, NULL);
	ASSERT_OK(ext4_next_layer(x, NULL));
	lower(x, "replaced", false);
	finish(x, fd);
	check("none");
	check("removed");
	ASSERT_EQ(used_blocks("removed"), used_blocks("none"));
}

TEST(links_are_counted_across_layers)
{
	_cleanup_free_ char *a = NULL, *b = NULL, *c = NULL, *list = NULL;
	struct ext4 *x;
	int fd;

	x = create("l", UINT64_C(64) << 20, true, &fd);
	file(x, "a", "1");
	ASSERT_OK(ext4_link(x, "b", "a", NULL));
	ASSERT_OK(ext4_next_layer(x, NULL));
	ASSERT_OK(ext4_link(x, "c", "b", NULL));
	/* One name gets another content; the others keep theirs. */
	file(x, "a", "2");
	ASSERT_OK(ext4_next_layer(x, NULL));
	lower(x, "b", false);
	/* A name that is linked to itself, and to what it is already, is as it was. */
	ASSERT_OK(ext4_link(x, "c", "c", NULL));
	ASSERT_OK(ext4_link(x, "d", "c", NULL));
	ASSERT_OK(ext4_link(x, "d", "c", NULL));
	finish(x, fd);
	check("l");
	a = debugfs("l", "stat a");
	b = debugfs("l", "stat b");
	c = debugfs("l", "stat c");
	list = debugfs("l", "ls -p /");
	ASSERT_CONTAINS(a, "Links: 1 ");
	ASSERT_CONTAINS(c, "Links: 2 ");
	ASSERT(!strstr(list, "/b/"));
	ASSERT_CONTAINS(list, "/d/");
}

TEST(a_lower_layers_links_are_followed_as_in_a_chroot)
{
	_cleanup_free_ char *path = NULL, *other = NULL, *root = NULL;
	struct ext4 *x;
	mode_t mode;
	int fd;

	x = create("s", UINT64_C(64) << 20, true, &fd);
	add(x, "lib", S_IFLNK | 0777, "usr/lib");
	add(x, "usr/lib", S_IFDIR | 0755, NULL);
	add(x, "etc/alternatives", S_IFDIR | 0755, NULL);
	add(x, "abs", S_IFLNK | 0777, "/etc/../../../usr");
	add(x, "dangling", S_IFLNK | 0777, "var/new");
	ASSERT_OK(ext4_next_layer(x, NULL));
	file(x, "lib/libc.so", "1");
	file(x, "abs/lib/ld.so", "1");
	file(x, "dangling/f", "1");
	add(x, "init", S_IFLNK | 0777, "lib/../lib/libc.so");
	ASSERT_OK(ext4_stat(x, "usr/lib/libc.so", &mode));
	ASSERT_OK(ext4_stat(x, "usr/lib/ld.so", &mode));
	ASSERT_OK(ext4_stat(x, "var/new/f", &mode));
	ASSERT_OK(ext4_stat(x, "lib", &mode));
	ASSERT(S_ISLNK(mode));
	ASSERT_OK(ext4_resolve(x, "init", &path, &mode));
	ASSERT_STREQ(path, "usr/lib/libc.so");
	ASSERT(S_ISREG(mode));
	ASSERT_OK(ext4_resolve(x, "abs/lib", &other, &mode));
	ASSERT_STREQ(other, "usr/lib");
	ASSERT_OK(ext4_resolve(x, ".", &root, &mode));
	ASSERT_STREQ(root, ".");
	ASSERT_EQ(ext4_resolve(x, "nowhere", &path, &mode), -ENOENT);
	ASSERT_EQ(ext4_resolve(x, "lib/libc.so/x", &path, &mode), -ENOTDIR);
	finish(x, fd);
	check("s");
}
