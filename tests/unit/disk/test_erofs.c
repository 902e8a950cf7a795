#include "disk/erofs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "disk/ext4.h"
#include "test.h"
#include "tree_list.h"

#define TIME UINT64_C(1700000000)
#define MIB  (UINT64_C(1) << 20)
enum { BLOCK = 4096 };

static const uint8_t uuid[16] = { 1, 2, 3, 4 }, seed[16] = { 5, 6, 7, 8 };

static int open_file(const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	return fd;
}

static struct erofs *create(int fd, uint64_t limit_bytes)
{
	_cleanup_error_ struct error e = {};
	struct erofs *x = NULL;

	if (erofs_create(fd, limit_bytes, "test", uuid, TIME, &x, &e) < 0)
		test_fail(__FILE__, __LINE__, "erofs_create: %s", e.msg);
	return x;
}

static void check(const char *name)
{
	const char *argv[] = { "fsck.erofs", name, NULL };
	struct spawn s = SPAWN_INIT;
	_cleanup_buf_ struct buf out = {}, errors = {};
	_cleanup_free_ char *found = program_find(argv[0]);
	int status;

	if (!found)
		test_skip("no %s", argv[0]);
	s.argv = argv;
	s.cwd = test_tmpdir();
	ASSERT_OK(spawn_run(&s, NULL, &out, &errors, 1 << 20, 0, &status, NULL));
	if (status != 0)
		test_fail(__FILE__, __LINE__, "fsck.erofs: %.*s%.*s", (int)out.len, out.p, (int)errors.len, errors.p);
}

static void finish(struct erofs *x)
{
	_cleanup_error_ struct error e = {};

	if (erofs_finish(x, &e) < 0)
		test_fail(__FILE__, __LINE__, "erofs_finish: %s", e.msg);
	erofs_free(x);
}

/* The same is done to an ext4 and to an EROFS, and compared. */
struct both {
	struct ext4 *a;
	struct erofs *b;
	int fd_a, fd_b;
};

static struct both begin(void)
{
	struct both t = { .fd_a = open_file("ext4"), .fd_b = open_file("erofs") };
	_cleanup_error_ struct error e = {};

	if (ext4_create(t.fd_a, 4096 * MIB, "test", uuid, seed, TIME, false, &t.a, &e) < 0)
		test_fail(__FILE__, __LINE__, "ext4_create: %s", e.msg);
	t.b = create(t.fd_b, 1024 * MIB);
	return t;
}

static int add(struct both *t, const struct fs_entry *e)
{
	_cleanup_error_ struct error ea = {}, eb = {};
	int r = ext4_add(t->a, e, &ea);

	ASSERT_EQ(erofs_add(t->b, e, &eb), r);
	return r;
}

static void put(struct both *t, uint64_t offset, const void *p, size_t n)
{
	ASSERT_OK(ext4_write(t->a, offset, p, n, NULL));
	ASSERT_OK(erofs_write(t->b, offset, p, n, NULL));
}

static void end(struct both *t)
{
	ASSERT_OK(ext4_end_file(t->a, NULL));
	ASSERT_OK(erofs_end_file(t->b, NULL));
}

static void file(struct both *t, const char *path, const void *p, size_t n)
{
	struct fs_entry e = { .path = path, .mode = S_IFREG | 0644, .size = n, .mtime_ns = TIME * NS_PER_SEC + 5 };

	ASSERT_OK(add(t, &e));
	put(t, 0, p, n);
	end(t);
}

static void hard_link(struct both *t, const char *path, const char *target)
{
	_cleanup_error_ struct error ea = {}, eb = {};
	int r = ext4_link(t->a, path, target, &ea);

	ASSERT_EQ(erofs_link(t->b, path, target, &eb), r);
	if (r < 0)
		ASSERT_STREQ(eb.msg, ea.msg);
}

static void lower(struct both *t, const char *path, bool below)
{
	int r = ext4_remove_lower(t->a, path, below, NULL);

	ASSERT_EQ(erofs_remove_lower(t->b, path, below, NULL), r);
}

static void next_layer(struct both *t)
{
	ASSERT_OK(ext4_next_layer(t->a, NULL));
	ASSERT_OK(erofs_next_layer(t->b, NULL));
}

static void compare(struct both *t)
{
	struct tree_list a = {}, b = {};

	ASSERT_OK(ext4_finish(t->a, NULL));
	ext4_free(t->a);
	finish(t->b);
	check("erofs");
	tree_list_ext4(t->fd_a, &a);
	tree_list_erofs(t->fd_b, &b);
	tree_list_same(&a, &b);
	tree_list_done(&a);
	tree_list_done(&b);
	close(t->fd_a);
	close(t->fd_b);
}

TEST(an_empty_one_is_sound)
{
	struct both t = begin();
	struct stat st;

	compare(&t);
	_cleanup_free_ char *path = xasprintf("%s/erofs", test_tmpdir());
	ASSERT_EQ(stat(path, &st), 0);
	ASSERT_EQ(st.st_size, 3 * BLOCK);
}

/* An access list as system calls have it: owner rwx, group r-x, others r-x. Their ids mean nothing, and ext4's library gives zeros. */
static const char acl[] = "\2\0\0\0\1\0\7\0\0\0\0\0\4\0\5\0\0\0\0\0\40\0\5\0\0\0\0\0";

TEST(every_kind_of_entry_is_what_ext4_makes_of_it)
{
	const struct fs_xattr xattrs[] = {
		{ "user.note", "hello", 5 },
		{ "user.empty", "", 0 },
		{ "security.capability", "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20 },
		{ "security.selinux", "system_u:object_r:bin_t:s0", 27 },
		{ "trusted.overlay.opaque", "y", 1 },
		{ "system.posix_acl_access", acl, sizeof(acl) - 1 },
		{ "system.nothing_that_is_kept", "x", 1 },
		{ "user.note", "again", 5 },
	};
	static const struct fs_entry entries[] = {
		{ .path = ".", .mode = S_IFDIR | 0711, .uid = 1, .gid = 2, .mtime_ns = 7 },
		{ .path = "dir", .mode = S_IFDIR | 01777, .mtime_ns = 1 },
		{ .path = "dir/deep/er", .mode = S_IFDIR | 02755, .uid = 70000, .gid = 4000000000 },
		{ .path = "char", .mode = S_IFCHR | 0666, .rdev_major = 1, .rdev_minor = 3 },
		{ .path = "block", .mode = S_IFBLK | 0660, .rdev_major = 4095, .rdev_minor = 1048575 },
		{ .path = "pipe", .mode = S_IFIFO | 0600, .mtime_ns = UINT64_C(4000000000) * 1000000000 + 999999999 },
		{ .path = "link", .mode = S_IFLNK | 0777, .link = "dir/deep" },
		{ .path = "!before the dots", .mode = S_IFIFO | 0600 },
		{ .path = "\303\266\377 name", .mode = S_IFIFO | 0600 },
		{ .path = "setuid", .mode = S_IFIFO | 06755 },
	};
	struct both t = begin();
	char target[BLOCK], *value = xcalloc(1, 1000);

	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		ASSERT_OK(add(&t, &entries[i]));
	memset(target, 't', sizeof(target));
	for (size_t len = 4095; len >= 50; len = len > 3000 ? len - 31 : len - 977) {
		_cleanup_free_ char *path = xasprintf("dir/link%zu", len), *to = xstrndup(target, len);

		ASSERT_OK(add(&t, &(struct fs_entry){ .path = path, .mode = S_IFLNK | 0777, .link = to }));
	}
	ASSERT_OK(
		add(&t, &(struct fs_entry){ .path = "x/d", .mode = S_IFDIR | 0755, .xattrs = xattrs, .n_xattrs = 8 }));
	ASSERT_OK(add(&t, &(struct fs_entry){ .path = ".", .mode = S_IFDIR | 0755, .xattrs = xattrs, .n_xattrs = 6 }));
	ASSERT_OK(add(
		&t, &(struct fs_entry){
			    .path = "x/l", .mode = S_IFLNK | 0777, .link = "y", .xattrs = xattrs + 3, .n_xattrs = 1 }));
	memset(value, 'v', 1000);
	for (size_t n = 0; n < 1000; n += 333) {
		const struct fs_xattr x[] = { { "user.v", value, n }, { "trusted.w", value, n } };
		_cleanup_free_ char *path = xasprintf("x/f%zu", n);
		struct fs_entry e = { .path = path, .mode = S_IFREG | 0755, .xattrs = x, .n_xattrs = 2, .size = 3500 };

		ASSERT_OK(add(&t, &e));
		put(&t, 0, target, 3500);
		end(&t);
	}
	compare(&t);
	free(value);
}

TEST(files_of_every_length_around_a_block)
{
	struct both t = begin();
	char *data = xcalloc(1, 3 * MIB), *zeros = xcalloc(1, 2 * MIB);

	for (size_t i = 0; i < 3 * MIB; i++)
		data[i] = (char)(i * 31 + i / 251);
	for (size_t n = 0; n<3 * BLOCK; n += n % BLOCK> 3900 || n % BLOCK < 100 ? 7 : 397) {
		_cleanup_free_ char *path = xasprintf("f%zu", n);

		file(&t, path, data + n, n);
	}
	file(&t, "mib", data, MIB);
	file(&t, "more", data, MIB + 1);
	file(&t, "most", data, 3 * MIB - 1);
	file(&t, "zeros", zeros, 2 * MIB);
	compare(&t);
	free(zeros);
	free(data);
}

TEST(directories_of_every_size)
{
	struct both t = begin();

	for (unsigned d = 0; d < 60; d++)
		for (unsigned i = 0; i < d * d; i++) {
			_cleanup_free_ char *path = xasprintf("%03u/%0*u", d, (int)(1 + (i * 7 + d) % 250), i);

			ASSERT_OK(add(&t, &(struct fs_entry){ .path = path, .mode = S_IFDIR | 0755 }));
		}
	for (unsigned i = 0; i < 20000; i++) {
		_cleanup_free_ char *path = xasprintf("many/%u", i);

		ASSERT_OK(add(&t, &(struct fs_entry){ .path = path, .mode = S_IFIFO | 0600 }));
	}
	compare(&t);
}

TEST(holes_are_kept)
{
	static const struct {
		uint64_t size, pieces[8][2];
	} files[] = {
		{ 10 * MIB, { { 0, 1 } } },
		{ 10 * MIB, { { 5 * MIB, 1 } } },
		{ 10 * MIB, { { 10 * MIB - 1, 1 } } },
		{ 10 * MIB, { { 0, 0 } } },
		{ 100, { { 0, 0 } } },
		{ 100, { { 99, 1 } } },
		{ 2 * BLOCK, { { BLOCK, BLOCK } } },
		{ 3 * BLOCK + 5, { { 2 * BLOCK + 1, 7 } } },
		{ 3 * BLOCK + 5, { { BLOCK - 1, 2 }, { 3 * BLOCK, 5 } } },
		{ 20 * MIB + 3, { { 1, BLOCK }, { 3 * BLOCK, 3 * MIB - 7 }, { 9 * MIB + 11, 1 }, { 20 * MIB, 3 } } },
		{ 20 * MIB, { { 100, 2 * MIB }, { 2 * MIB + 101, 5 }, { 7 * MIB, MIB }, { 8 * MIB, MIB } } },
	};
	struct both t = begin();
	char *data = xcalloc(1, 3 * MIB);

	for (size_t i = 0; i < 3 * MIB; i++)
		data[i] = (char)(1 + i % 255);
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *path = xasprintf("f%zu", i);
		struct fs_entry e = { .path = path, .mode = S_IFREG | 0644, .size = files[i].size };

		ASSERT_OK(add(&t, &e));
		for (size_t k = 0; k < 8 && files[i].pieces[k][1]; k++)
			put(&t, files[i].pieces[k][0], data, files[i].pieces[k][1]);
		end(&t);
	}
	compare(&t);
	free(data);
}

/* As lastlog is of a user with a large number. */
TEST(the_largest_files_take_no_room_for_holes)
{
	_cleanup_close_ int fd = open_file("large");
	struct erofs *x = create(fd, UINT64_C(16) << 40);
	struct fs_entry e = { .path = "large", .mode = S_IFREG | 0600, .size = UINT64_C(1) << 43 };
	struct stat st;

	ASSERT_OK(erofs_add(x, &e, NULL));
	ASSERT_OK(erofs_write(x, 5, "first", 5, NULL));
	ASSERT_OK(erofs_write(x, UINT64_C(7) << 40, "middle", 6, NULL));
	ASSERT_OK(erofs_write(x, (UINT64_C(1) << 43) - 1, "l", 1, NULL));
	ASSERT_OK(erofs_end_file(x, NULL));
	e = (struct fs_entry){ .path = "larger", .mode = S_IFREG, .size = (UINT64_C(1) << 43) + 1 };
	ASSERT_EQ(erofs_add(x, &e, NULL), -EFBIG);
	finish(x);
	ASSERT_EQ(fstat(fd, &st), 0);
	ASSERT(st.st_blocks * 512 < 4 << 20);
	/* Three chunks of 32 MiB, a map. */
	ASSERT(st.st_size < 100 << 20);
}

TEST(what_is_replaced_or_removed_is_gone)
{
	struct both t = begin();
	char *data = xcalloc(1, 8 * MIB);
	_cleanup_buf_ struct buf all = {};
	struct stat st;

	for (size_t i = 0; i < 8 * MIB; i++)
		data[i] = "secret"[i % 6];
	file(&t, "replaced", data, 8 * MIB);
	file(&t, "dir/gone", data, 8 * MIB - 100);
	file(&t, "dir/small", data, 300);
	file(&t, "dir/linked", data, MIB);
	hard_link(&t, "kept", "dir/linked");
	hard_link(&t, "kept", "kept");
	hard_link(&t, "again", "dir/linked");
	hard_link(&t, "nothing", "never");
	hard_link(&t, "nothing", "dir");
	hard_link(&t, ".", "kept");
	ASSERT_OK(add(&t, &(struct fs_entry){ .path = "sparse", .mode = S_IFREG, .size = 9 * MIB }));
	put(&t, 8 * MIB, data, MIB);
	end(&t);
	next_layer(&t);
	file(&t, "replaced", "x", 1);
	lower(&t, "sparse", false);
	file(&t, "dir/new", "new", 3);
	lower(&t, "dir", true);
	lower(&t, "again", false);
	ASSERT_OK(add(&t, &(struct fs_entry){ .path = "kept", .mode = S_IFDIR | 0755 }));
	file(&t, "kept/below", "a file becomes a directory", 26);
	lower(&t, "never/was", false);
	next_layer(&t);
	lower(&t, ".", true);
	file(&t, "only", "1", 1);
	ASSERT_EQ(fstat(t.fd_b, &st), 0);
	compare(&t);
	ASSERT(st.st_blocks * 512 < (int64_t)MIB);
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(file_read_at(dir, "erofs", 64 * MIB, &all));
	ASSERT(!memmem(all.p, all.len, "secret", 6));
	free(data);
}

static unsigned long pick(unsigned long n)
{
	return (unsigned long)random() % n;
}

static char *random_path(void)
{
	struct buf b = {};

	for (unsigned long depth = 1 + pick(4); depth; depth--)
		buf_addf(&b, "%c%s", "abcdefgh"[pick(8)], depth > 1 ? "/" : "");
	return buf_take(&b);
}

static void random_file(struct both *t, struct fs_entry *e, const char *data)
{
	uint64_t at = 0;

	e->size = pick(4) ? pick(9000) : pick(200000);
	if (add(t, e) < 0)
		return;
	while (at < e->size) {
		uint64_t n = 1 + pick(e->size - at);

		if (pick(3))
			put(t, at, data + pick(1000), n);
		at += n;
	}
	end(t);
}

static void random_step(struct both *t, const char *data)
{
	static const mode_t types[] = { S_IFREG, S_IFREG, S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFIFO };
	_cleanup_free_ char *path = random_path(), *other = random_path();
	const struct fs_xattr x[] = { { "user.a", data, pick(300) }, { "security.b", data, pick(300) } };
	struct fs_entry e = { .path = path,
			      .mode = types[pick(7)] | (mode_t)pick(010000),
			      .uid = (uint32_t)random(),
			      .gid = (uint32_t)pick(10),
			      .mtime_ns = (uint64_t)random(),
			      .link = other,
			      .rdev_minor = (uint32_t)pick(1000),
			      .xattrs = x,
			      .n_xattrs = pick(3) };

	switch (pick(12)) {
	case 0:
	case 1: hard_link(t, path, other); break;
	case 2: lower(t, path, pick(2)); break;
	case 3:
		if (pick(20) == 0)
			next_layer(t);
		break;
	default:
		if (S_ISREG(e.mode))
			random_file(t, &e, data);
		else
			(void)add(t, &e);
	}
}

TEST(whatever_is_done_gives_the_same_tree)
{
	char *data = xcalloc(1, 300000);

	for (size_t i = 0; i < 300000; i++)
		data[i] = (char)(i * 7 + i / 100);
	for (unsigned round = 0; round < 8; round++) {
		struct both t = begin();

		srandom(round);
		for (unsigned i = 0; i < 1500; i++)
			random_step(&t, data);
		compare(&t);
	}
	free(data);
}

static void make_one(const char *name, const uint8_t *with_uuid, struct buf *ret)
{
	_cleanup_close_ int fd = open_file(name), dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct erofs *x;

	ASSERT_OK(erofs_create(fd, 64 * MIB, "label", with_uuid, TIME, &x, NULL));
	for (unsigned i = 0; i < 500; i++) {
		_cleanup_free_ char *path = xasprintf("%u/%u", i % 7, i);
		struct fs_entry e = { .path = path, .mode = S_IFREG | 0644, .size = i };

		ASSERT_OK(erofs_add(x, &e, NULL));
		ASSERT_OK(erofs_write(x, 0, uuid, i < 16 ? i : 16, NULL));
		ASSERT_OK(erofs_end_file(x, NULL));
	}
	finish(x);
	ASSERT_OK(file_read_at(dir, name, 64 * MIB, ret));
}

TEST(equal_input_gives_equal_bytes)
{
	_cleanup_buf_ struct buf a = {}, b = {}, c = {};

	make_one("a", uuid, &a);
	make_one("b", uuid, &b);
	make_one("c", seed, &c);
	ASSERT_EQ(a.len, b.len);
	ASSERT(memcmp(a.p, b.p, a.len) == 0);
	ASSERT_EQ(a.len, c.len);
	ASSERT(memcmp(a.p, c.p, a.len) != 0);
}

TEST(a_full_disk_says_so)
{
	_cleanup_free_ char *block = xcalloc(1, MIB);
	_cleanup_close_ int fd = open_file("full");
	_cleanup_(erofs_freep) struct erofs *x = create(fd, 16 * MIB);
	struct fs_entry e = { .path = "big", .mode = S_IFREG | 0644, .size = 64 * MIB };
	_cleanup_error_ struct error err = {};
	int r;

	memset(block, 1, MIB);
	r = erofs_add(x, &e, NULL);
	for (uint64_t i = 0; r >= 0 && i < 64; i++)
		r = erofs_write(x, i * MIB, block, MIB, &err);
	ASSERT_EQ(r, -EXFULL);
	ASSERT_EQ(err.kind, ERROR_CANTCREATE);
	ASSERT_CONTAINS(err.msg, "full");
	ASSERT_CONTAINS(err.hint, "--disk");
}

TEST(what_cannot_be_is_refused)
{
	_cleanup_close_ int fd = open_file("bad");
	_cleanup_(erofs_freep) struct erofs *x = create(fd, 64 * MIB);
	_cleanup_free_ char *value = xcalloc(1, 65536);
	const struct fs_xattr large = { "user.x", value, 65536 }, bad_acl = { "system.posix_acl_access", value, 12 };
	struct fs_xattr many[300];
	const struct fs_entry entries[] = {
		{ .path = "", .mode = S_IFREG },
		{ .path = "/a", .mode = S_IFREG },
		{ .path = "../a", .mode = S_IFREG },
		{ .path = "a//b", .mode = S_IFREG },
		{ .path = ".", .mode = S_IFREG },
		{ .path = "l", .mode = S_IFLNK, .link = "" },
		{ .path = "l", .mode = S_IFLNK },
		{ .path = "d", .mode = S_IFCHR, .rdev_major = 4096 },
		{ .path = "d", .mode = S_IFBLK, .rdev_minor = 1 << 20 },
		{ .path = "t", .mode = 0644 },
		{ .path = "x", .mode = S_IFREG, .xattrs = &large, .n_xattrs = 1 },
		{ .path = "x", .mode = S_IFREG, .xattrs = &bad_acl, .n_xattrs = 1 },
		{ .path = "x", .mode = S_IFREG, .xattrs = many, .n_xattrs = 300 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(many); i++)
		many[i] = (struct fs_xattr){ "user.same", "x", 1 };
	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		if (erofs_add(x, &entries[i], NULL) >= 0)
			test_fail(__FILE__, __LINE__, "entry %zu '%s' was taken", i, entries[i].path);
	ASSERT_EQ(erofs_write(x, 0, "x", 1, NULL), -EINVAL);
	ASSERT_EQ(erofs_end_file(x, NULL), -EINVAL);
	ASSERT_OK(erofs_add(x, &(struct fs_entry){ .path = "f", .mode = S_IFREG, .size = 10 }, NULL));
	ASSERT_OK(erofs_write(x, 4, "x", 1, NULL));
	ASSERT_EQ(erofs_write(x, 4, "x", 1, NULL), -EINVAL);
	ASSERT_EQ(erofs_write(x, 10, "x", 1, NULL), -EINVAL);
	ASSERT_EQ(erofs_write(x, UINT64_MAX, "xx", 2, NULL), -EINVAL);
	ASSERT_EQ(erofs_add(x, &(struct fs_entry){ .path = "g", .mode = S_IFIFO }, NULL), -EBUSY);
	ASSERT_EQ(erofs_link(x, "g", "f", NULL), -EBUSY);
	ASSERT_EQ(erofs_remove_lower(x, "f", false, NULL), -EBUSY);
	ASSERT_EQ(erofs_finish(x, NULL), -EBUSY);
	ASSERT_OK(erofs_end_file(x, NULL));
	ASSERT_EQ(erofs_remove_lower(x, ".", false, NULL), -EINVAL);
	ASSERT_OK(erofs_finish(x, NULL));
	ASSERT_EQ(erofs_finish(x, NULL), -EBUSY);
}

/* More than ext4 has room for. */
TEST(attributes_larger_than_a_block)
{
	_cleanup_close_ int fd = open_file("x");
	struct erofs *x = create(fd, 64 * MIB);
	_cleanup_free_ char *value = xcalloc(1, 65535);
	const struct fs_xattr xattrs[] = {
		{ "user.1", value, 65535 }, { "user.2", value, 65535 }, { "user.3", value, 65535 },
		{ "user.4", value, 60000 }, { "user.5", value, 65535 },
	};
	struct fs_entry e = { .path = "file", .mode = S_IFREG | 0644, .size = 5, .xattrs = xattrs, .n_xattrs = 4 };
	struct tree_list l = {};

	memset(value, 'v', 65535);
	ASSERT_OK(erofs_add(x, &e, NULL));
	ASSERT_OK(erofs_write(x, 0, "12345", 5, NULL));
	ASSERT_OK(erofs_end_file(x, NULL));
	e = (struct fs_entry){ .path = "d", .mode = S_IFDIR | 0755, .xattrs = xattrs, .n_xattrs = 4 };
	ASSERT_OK(erofs_add(x, &e, NULL));
	e.path = "d/below";
	e.n_xattrs = 1;
	ASSERT_OK(erofs_add(x, &e, NULL));
	e.path = "too-many";
	e.n_xattrs = 5;
	ASSERT_EQ(erofs_add(x, &e, NULL), -E2BIG);
	/* The root's have their place at the beginning. */
	e.path = ".";
	e.n_xattrs = 1;
	ASSERT_EQ(erofs_add(x, &e, NULL), -E2BIG);
	/* Directories' are kept in memory until the end. */
	e.n_xattrs = 4;
	for (unsigned i = 0;; i++) {
		_cleanup_free_ char *path = xasprintf("many/%u", i);

		e.path = path;
		if (erofs_add(x, &e, NULL) < 0)
			break;
		ASSERT(i < 64);
	}
	erofs_free(x);
	ASSERT_EQ(ftruncate(fd, 0), 0);
	x = create(fd, 64 * MIB);
	e = (struct fs_entry){ .path = "d", .mode = S_IFDIR | 0755, .xattrs = xattrs, .n_xattrs = 4 };
	ASSERT_OK(erofs_add(x, &e, NULL));
	e.path = "d/f";
	e.mode = S_IFREG | 0600;
	e.size = 5;
	ASSERT_OK(erofs_add(x, &e, NULL));
	ASSERT_OK(erofs_write(x, 0, "12345", 5, NULL));
	ASSERT_OK(erofs_end_file(x, NULL));
	finish(x);
	check("x");
	tree_list_erofs(fd, &l);
	ASSERT_EQ(l.lines.n, 3);
	ASSERT_CONTAINS(l.lines.items[2], "user.4=60000:");
	tree_list_done(&l);
}

TEST(symbolic_links_are_resolved_inside)
{
	_cleanup_close_ int fd = open_file("r");
	_cleanup_(erofs_freep) struct erofs *x = create(fd, 64 * MIB);
	_cleanup_free_ char *path = NULL;
	mode_t mode;

	ASSERT_OK(erofs_add(x, &(struct fs_entry){ .path = "a/b", .mode = S_IFIFO | 0600 }, NULL));
	ASSERT_OK(erofs_add(x, &(struct fs_entry){ .path = "l", .mode = S_IFLNK, .link = "/../../a" }, NULL));
	ASSERT_OK(erofs_add(x, &(struct fs_entry){ .path = "m", .mode = S_IFLNK, .link = "m" }, NULL));
	ASSERT_OK(erofs_resolve(x, "l/b", &path, &mode));
	ASSERT_STREQ(path, "a/b");
	ASSERT_EQ(mode, S_IFIFO | 0600);
	ASSERT_EQ(erofs_resolve(x, "m", &path, &mode), -ELOOP);
	ASSERT_EQ(erofs_resolve(x, "none", &path, &mode), -ENOENT);
}
