#include "image/layer_tar.h"

#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "image/blob.h"
#include "image/layer_store.h"
#include "image/tar.h"
#include "test.h"

#define MIB (UINT64_C(1) << 20)

static int open_file(const char *name, int flags)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), name);
	int fd = open(path, flags | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	return fd;
}

static struct layer_tar *begin(int fd)
{
	struct layer_tar *t = NULL;

	/* As skerry-image does. */
	(void)setlocale(LC_CTYPE, "C.UTF-8");
	ASSERT_OK(layer_tar_new(fd, &t, NULL));
	return t;
}

static void add(struct layer_tar *t, const char *path, mode_t mode, const char *text)
{
	struct fs_entry e = { .path = path, .mode = mode, .uid = 7, .gid = 70000, .mtime_ns = 1600000000000000123 };
	struct fs_segment s = { 0, text ? strlen(text) : 0 };
	_cleanup_error_ struct error err = {};

	if (S_ISLNK(mode))
		e.link = text;
	else if (S_ISREG(mode))
		e.size = strlen(text);
	if (layer_tar_add(t, &e, &s, S_ISREG(mode) && s.n ? 1 : 0, &err) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", path, err.msg);
	if (S_ISREG(mode)) {
		ASSERT_OK(layer_tar_write(t, 0, text, strlen(text), NULL));
		ASSERT_OK(layer_tar_end_file(t, NULL));
	}
}

struct stream {
	int fd;
	char piece[8192];
};

static int on_read(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	struct stream *s = data;
	ssize_t n = read(s->fd, s->piece, sizeof(s->piece));

	(void)err;
	*ret = s->piece;
	*ret_n = n > 0 ? (size_t)n : 0;
	return n < 0 ? -EIO : 0;
}

static const struct tar_item *next(struct tar *t)
{
	const struct tar_item *item = NULL;
	_cleanup_error_ struct error e = {};

	if (tar_next(t, &item, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return item;
}

TEST(what_is_written_is_read_back)
{
	_cleanup_close_ int fd = open_file("a.tar", O_RDWR | O_CREAT);
	struct layer_tar *t = begin(fd);
	struct stream s = { .fd = fd };
	_cleanup_(tar_freep) struct tar *r = tar_new(on_read, &s);
	_cleanup_free_ char *deep = xcalloc(1, 301);
	const struct fs_xattr x = { "security.capability", "\1\0\0\2\0", 5 };
	struct fs_entry device = { .path = "null", .mode = S_IFCHR | 0666, .rdev_major = 1, .rdev_minor = 3 };
	struct fs_entry cap = { .path = "ping", .mode = S_IFREG | 04755, .xattrs = &x, .n_xattrs = 1 };
	const struct tar_item *i;
	const void *p;
	uint64_t at;
	size_t n;

	memset(deep, 'd', 300);
	add(t, "etc", S_IFDIR | 01755, NULL);
	ASSERT_OK(layer_tar_opaque(t, "etc", NULL));
	ASSERT_OK(layer_tar_whiteout(t, "etc/gone", NULL));
	add(t, "etc/näme \xff", S_IFREG | 0640, "hello");
	ASSERT_OK(layer_tar_link(t, "etc/other", "etc/näme \xff", NULL));
	add(t, deep, S_IFLNK | 0777, deep);
	ASSERT_OK(layer_tar_add(t, &device, NULL, 0, NULL));
	ASSERT_OK(layer_tar_add(t, &cap, NULL, 0, NULL));
	ASSERT_OK(layer_tar_end_file(t, NULL));
	ASSERT_OK(layer_tar_finish(t, NULL));
	layer_tar_free(t);

	ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
	i = next(r);
	ASSERT_STREQ(i->entry.path, "etc");
	ASSERT_EQ(i->entry.mode, S_IFDIR | 01755);
	ASSERT_EQ(i->entry.uid, 7);
	ASSERT_EQ(i->entry.gid, 70000);
	ASSERT_EQ(i->entry.mtime_ns, 1600000000000000123);
	ASSERT_STREQ(next(r)->entry.path, "etc/.wh..wh..opq");
	ASSERT_STREQ(next(r)->entry.path, "etc/.wh.gone");
	i = next(r);
	ASSERT_STREQ(i->entry.path, "etc/näme \xff");
	ASSERT_EQ(tar_content(r, &at, &p, &n, NULL), 1);
	ASSERT_EQ(n, 5);
	ASSERT_MEMEQ(p, "hello", 5);
	i = next(r);
	ASSERT_STREQ(i->entry.path, "etc/other");
	ASSERT_STREQ(i->hard_link, "etc/näme \xff");
	i = next(r);
	ASSERT_STREQ(i->entry.path, deep);
	ASSERT_STREQ(i->entry.link, deep);
	i = next(r);
	ASSERT_EQ(i->entry.mode, S_IFCHR | 0666);
	ASSERT_EQ(i->entry.rdev_minor, 3);
	i = next(r);
	ASSERT_EQ(i->entry.n_xattrs, 1);
	ASSERT_STREQ(i->entry.xattrs[0].name, "security.capability");
	ASSERT_MEMEQ(i->entry.xattrs[0].value, "\1\0\0\2\0", 5);
	ASSERT_EQ(tar_next(r, &i, NULL), 0);
}

static void write_sparse(int fd, uint64_t size, const struct fs_segment *segments, size_t n)
{
	struct layer_tar *t = begin(fd);
	struct fs_entry e = { .path = "sparse", .mode = S_IFREG | 0600, .size = size };
	_cleanup_free_ char *data = xcalloc(1, MIB);

	memset(data, 'x', MIB);
	ASSERT_OK(layer_tar_add(t, &e, segments, n, NULL));
	for (size_t i = 0; i < n; i++)
		ASSERT_OK(layer_tar_write(t, segments[i].offset, data, segments[i].n, NULL));
	ASSERT_OK(layer_tar_end_file(t, NULL));
	add(t, "behind", S_IFREG | 0600, "it");
	ASSERT_OK(layer_tar_finish(t, NULL));
	layer_tar_free(t);
}

TEST(small_holes_are_zeros_and_large_ones_are_holes)
{
	const struct fs_segment small[] = { { 4096, 100 } };
	const struct fs_segment large[] = { { 4096, 100 }, { 100 * MIB, 10 }, { UINT64_C(300) << 30, 1 << 20 } };
	struct stat st;

	for (int k = 0; k < 3; k++) {
		_cleanup_close_ int fd = open_file(k == 0 ? "s.tar" : k == 1 ? "l.tar" : "h.tar", O_RDWR | O_CREAT);
		uint64_t size = k == 0 ? MIB : UINT64_C(400) << 30, sum = 0, at;
		struct stream s = { .fd = fd };
		_cleanup_(tar_freep) struct tar *r = tar_new(on_read, &s);
		const struct tar_item *i;
		const void *p;
		size_t n;

		write_sparse(fd, size, k == 0 ? small : large, k == 0 ? 1 : k == 1 ? 3 : 0);
		ASSERT_OK(fstat(fd, &st));
		ASSERT(st.st_size < (off_t)(4 * MIB));
		ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
		i = next(r);
		ASSERT_STREQ(i->entry.path, "sparse");
		ASSERT_EQ(i->entry.size, size);
		while (tar_content(r, &at, &p, &n, NULL) == 1) {
			for (size_t b = 0; b < n; b++)
				sum += ((const char *)p)[b] == 'x';
		}
		ASSERT_EQ(sum, k == 0 ? 100 : k == 1 ? 110 + MIB : 0);
		ASSERT_STREQ(next(r)->entry.path, "behind");
		ASSERT_EQ(tar_next(r, &i, NULL), 0);
	}
}

TEST(as_many_pieces_are_read_as_are_written)
{
	enum { MANY = 140000, UNIT = 4096 };
	_cleanup_close_ int fd = open_file("many.tar", O_RDWR | O_CREAT);
	_cleanup_free_ struct fs_segment *segments = xnew_n(struct fs_segment, MANY);
	struct stream s = { .fd = fd };
	_cleanup_(tar_freep) struct tar *r = tar_new(on_read, &s);
	uint64_t at, pieces = 0;
	const void *p;
	size_t n;

	for (uint64_t i = 0; i < MANY; i++)
		segments[i] = (struct fs_segment){ .offset = i * 2 * UNIT, .n = 16 };
	write_sparse(fd, (uint64_t)MANY * 2 * UNIT, segments, MANY);
	ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
	ASSERT_STREQ(next(r)->entry.path, "sparse");
	while (tar_content(r, &at, &p, &n, NULL) == 1)
		pieces += at % (2 * UNIT) == 0;
	ASSERT_EQ(pieces, MANY);
	ASSERT_STREQ(next(r)->entry.path, "behind");
}

TEST(gnu_tar_lists_it)
{
	_cleanup_close_ int fd = open_file("l.tar", O_RDWR | O_CREAT);
	const struct fs_segment large[] = { { 100 * MIB, 10 } };
	_cleanup_free_ char *path = xasprintf("%s/l.tar", test_tmpdir());
	const char *argv[] = { "tar", "-tvf", path, NULL };
	struct spawn sp = SPAWN_INIT;
	_cleanup_buf_ struct buf out = {};

	write_sparse(fd, 200 * MIB, large, 1);
	sp.argv = argv;
	ASSERT_OK(spawn_check(&sp, NULL, &out, 1 << 16, 0, NULL));
	ASSERT_CONTAINS(out.p, "209715200");
	ASSERT_CONTAINS(out.p, " sparse\n");
	ASSERT_CONTAINS(out.p, " behind\n");
}

TEST(a_name_that_means_removal_is_refused)
{
	_cleanup_close_ int fd = open_file("a.tar", O_RDWR | O_CREAT);
	_cleanup_(layer_tar_freep) struct layer_tar *t = begin(fd);
	struct fs_entry e = { .path = "etc/.wh.x", .mode = S_IFREG | 0600 };
	_cleanup_error_ struct error err = {};

	ASSERT_EQ(layer_tar_add(t, &e, NULL, 0, &err), -EBADMSG);
	ASSERT_CONTAINS(err.msg, "etc/.wh.x");
}

static int store_file(struct store *s, const char *name, enum layer_compression c, struct oci_descriptor *d, char **id)
{
	_cleanup_close_ int fd = open_file(name, O_RDONLY), lock = blob_lock(s, false, NULL);
	_cleanup_error_ struct error e = {};
	int r = layer_store(s, fd, 100 * MIB, c, NULL, NULL, NULL, d, id, &e);

	ASSERT_OK(lock);
	if (r < 0 && r != -EFBIG)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return r;
}

TEST(a_stream_becomes_the_same_blob_each_time)
{
	static const enum layer_compression kinds[] = { LAYER_GZIP, LAYER_ZSTD, LAYER_PLAIN };
	_cleanup_store_ struct store s = {};
	_cleanup_close_ int fd = open_file("a.tar", O_RDWR | O_CREAT);
	struct layer_tar *t = begin(fd);
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir());

	ASSERT_OK(setenv("SKERRY_HOME", home, 1));
	ASSERT_OK(store_open(&s, NULL));
	add(t, "a", S_IFREG | 0644, "text");
	ASSERT_OK(layer_tar_finish(t, NULL));
	layer_tar_free(t);
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		_cleanup_(oci_descriptor_done) struct oci_descriptor a = {}, b = {};
		_cleanup_free_ char *x = NULL, *y = NULL;

		ASSERT_EQ(store_file(&s, "a.tar", kinds[i], &a, &x), 1);
		ASSERT_EQ(store_file(&s, "a.tar", kinds[i], &b, &y), 1);
		ASSERT_STREQ(a.digest, b.digest);
		ASSERT_STREQ(x, y);
		ASSERT_EQ(streq(a.digest, x), kinds[i] == LAYER_PLAIN);
		ASSERT(blob_exists(&s, a.digest));
		ASSERT_EQ(a.size, b.size);
	}
}

TEST(nothing_is_not_stored_and_too_much_is_refused)
{
	_cleanup_store_ struct store s = {};
	_cleanup_close_ int fd = open_file("empty.tar", O_RDWR | O_CREAT), big = open_file("big", O_RDWR | O_CREAT);
	struct layer_tar *t = begin(fd);
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir()), *id = NULL;
	struct oci_descriptor d = {};

	ASSERT_OK(setenv("SKERRY_HOME", home, 1));
	ASSERT_OK(store_open(&s, NULL));
	ASSERT_OK(layer_tar_finish(t, NULL));
	layer_tar_free(t);
	ASSERT_EQ(store_file(&s, "empty.tar", LAYER_GZIP, &d, &id), 0);
	ASSERT(!d.digest && !id);
	ASSERT_OK(ftruncate(big, (off_t)(101 * MIB)));
	ASSERT_EQ(store_file(&s, "big", LAYER_ZSTD, &d, &id), -EFBIG);
	ASSERT(!d.digest && !id);
}
