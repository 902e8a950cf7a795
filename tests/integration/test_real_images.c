/* Images that other tools made, unpacked by us and by umoci, and compared file by file: type, mode, owner, size, times, links, device numbers,
 * attributes, holes aside content. As root only: nobody else can make what is in them. */
#include "layers.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/parse.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "disk/ext4_diff.h"
#include "erofs_tree.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/source.h"
#include "test.h"

enum { LAYERS = 100 };

static void run(const char *const *argv)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_buf_ struct buf errors = {};
	_cleanup_free_ char *found = program_find(argv[0]);
	int status;

	if (geteuid() != 0)
		test_skip("not root");
	if (!found)
		test_skip("no %s", argv[0]);
	s.argv = argv;
	s.cwd = test_tmpdir();
	ASSERT_OK(spawn_run(&s, NULL, NULL, &errors, 4096, 0, &status, NULL));
	if (status != 0)
		test_fail(__FILE__, __LINE__, "%s %s: %.*s", argv[0], argv[1], (int)errors.len, errors.p);
}
#define RUN(...) run((const char *const[]){ __VA_ARGS__, NULL })

/* Lines, put in order at the end. */
struct list {
	struct strv lines;
	struct digest *content; /* of the file being told */
	uint64_t at;
};

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_line(struct list *l, const char *path, mode_t mode, uint32_t uid, uint32_t gid, uint64_t size,
		     uint64_t mtime_ns, uint64_t rdev, const char *link, const char *xattrs)
{
	strv_addf(&l->lines, "%s %o %u:%u size=%" PRIu64 " mtime=%" PRIu64 " rdev=%" PRIx64 " -> %s [%s]", path, mode,
		  uid, gid, S_ISREG(mode) ? size : 0, mtime_ns, S_ISCHR(mode) || S_ISBLK(mode) ? rdev : 0,
		  link ? link : "", xattrs);
}

static void add_xattr(struct strv *to, const char *name, const void *value, size_t n)
{
	_cleanup_free_ char *digest = digest_bytes(value, n);

	strv_addf(to, "%s=%.20s", name, digest);
}

static char *join_xattrs(struct strv *v)
{
	struct buf out = {};

	if (v->n)
		qsort(v->items, v->n, sizeof(*v->items), by_text);
	for (size_t i = 0; i < v->n; i++)
		buf_addf(&out, "%s ", v->items[i]);
	return buf_take(&out);
}

static int tell_entry(const struct fs_entry *e, const struct fs_segment *segments, size_t n, void *data,
		      struct error *err)
{
	struct list *l = data;
	_cleanup_strv_ struct strv xattrs = {};
	_cleanup_free_ char *text = NULL;

	(void)segments;
	(void)n;
	(void)err;
	if (streq(e->path, "lost+found"))
		return 0;
	for (size_t i = 0; i < e->n_xattrs; i++)
		add_xattr(&xattrs, e->xattrs[i].name, e->xattrs[i].value, e->xattrs[i].len);
	text = join_xattrs(&xattrs);
	add_line(l, e->path, e->mode, e->uid, e->gid, e->size, e->mtime_ns, makedev(e->rdev_major, e->rdev_minor),
		 S_ISLNK(e->mode) ? e->link : NULL, text);
	if (S_ISREG(e->mode)) {
		l->content = digest_new();
		l->at = 0;
	}
	return 0;
}

/* What is not told is zeros. */
static void add_content(struct list *l, uint64_t offset, const void *p, size_t n)
{
	static const char zeros[4096];

	while (l->at < offset) {
		size_t k = offset - l->at < sizeof(zeros) ? (size_t)(offset - l->at) : sizeof(zeros);

		digest_add(l->content, zeros, k);
		l->at += k;
	}
	if (n)
		digest_add(l->content, p, n);
	l->at += n;
}

static int tell_content(uint64_t offset, const void *p, size_t n, void *data, struct error *err)
{
	(void)err;
	add_content(data, offset, p, n);
	return 0;
}

static int tell_end(void *data, struct error *err)
{
	struct list *l = data;
	_cleanup_free_ char *digest = NULL, *line = l->lines.items[l->lines.n - 1];
	_cleanup_free_ char *size = xstrndup(strstr(line, " size=") + 6, strcspn(strstr(line, " size=") + 6, " "));
	uint64_t bytes;

	(void)err;
	ASSERT_OK(parse_u64(size, 0, UINT64_MAX, &bytes));
	add_content(l, bytes, NULL, 0);
	digest = digest_text(l->content);
	l->content = digest_free(l->content);
	l->lines.items[l->lines.n - 1] = xasprintf("%s %s", line, digest);
	return 0;
}

static int tell_link(const char *path, const char *target, void *data, struct error *err)
{
	struct list *l = data;

	(void)err;
	strv_addf(&l->lines, "%s == %s", path, target);
	return 0;
}

static void list_disk(const struct store *s, const struct image_meta *m, struct list *l)
{
	static const struct ext4_diff_ops ops = {
		.entry = tell_entry, .content = tell_content, .end = tell_end, .hard_link = tell_link
	};
	_cleanup_(disk_reader_freep) struct disk_reader *disk = NULL;
	_cleanup_free_ char *path = image_disk_path(s, m);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_error_ struct error e = {};
	struct ext4_diff_request q = { .what = "disk", .ops = &ops, .data = l };

	ASSERT_OK(fd);
	if (streq(m->fstype, "erofs")) {
		erofs_tree_tell(fd, &ops, l);
		return;
	}
	ASSERT_OK(disk_reader_raw(fd, "disk", &disk, NULL));
	q.disk = disk;
	if (ext4_diff(&q, NULL, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

struct seen {
	struct {
		ino_t ino;
		char *path; /* owned */
	} * items;          /* owned */
	size_t n;
};

static char *file_xattrs(const char *path)
{
	_cleanup_strv_ struct strv v = {};
	char names[4096], value[4096];
	ssize_t n = llistxattr(path, names, sizeof(names));

	for (char *p = names; n > 0 && p < names + n; p += strlen(p) + 1) {
		ssize_t k = lgetxattr(path, p, value, sizeof(value));

		ASSERT_OK(k);
		add_xattr(&v, p, value, (size_t)k);
	}
	return join_xattrs(&v);
}

static void list_file(const char *path, const char *relative, struct list *l, struct seen *seen)
{
	_cleanup_free_ char *xattrs = file_xattrs(path);
	char link[4096] = "";
	struct stat st;

	ASSERT_EQ(lstat(path, &st), 0);
	if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
		for (size_t i = 0; i < seen->n; i++)
			if (seen->items[i].ino == st.st_ino) {
				strv_addf(&l->lines, "%s == %s", relative, seen->items[i].path);
				return;
			}
		seen->items = xrealloc_array(seen->items, seen->n + 1, sizeof(*seen->items));
		seen->items[seen->n].ino = st.st_ino;
		seen->items[seen->n++].path = xstrdup(relative);
	}
	if (S_ISLNK(st.st_mode))
		ASSERT(readlink(path, link, sizeof(link) - 1) > 0);
	add_line(l, relative, st.st_mode, st.st_uid, st.st_gid, (uint64_t)st.st_size,
		 (uint64_t)st.st_mtim.tv_sec * UINT64_C(1000000000) + (uint64_t)st.st_mtim.tv_nsec, st.st_rdev, link,
		 xattrs);
	if (S_ISREG(st.st_mode)) {
		_cleanup_buf_ struct buf content = {};

		l->content = digest_new();
		l->at = 0;
		ASSERT_OK(file_read_at(AT_FDCWD, path, SIZE_MAX / 2, &content));
		add_content(l, 0, content.p, content.len);
		ASSERT_OK(tell_end(l, NULL));
	}
}

/* In the order of names, as the other list is made: the first name of a file with several is the same then. */
static void list_directory(const char *path, const char *relative, struct list *l, struct seen *seen)
{
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);

	list_file(path, relative, l, seen);
	ASSERT_OK(n);
	for (int i = 0; i < n; i++) {
		if (!streq(names[i]->d_name, ".") && !streq(names[i]->d_name, "..")) {
			_cleanup_free_ char *full = xasprintf("%s/%s", path, names[i]->d_name);
			_cleanup_free_ char *below = streq(relative, ".")
							     ? xstrdup(names[i]->d_name)
							     : xasprintf("%s/%s", relative, names[i]->d_name);

			if (names[i]->d_type == DT_DIR)
				list_directory(full, below, l, seen);
			else
				list_file(full, below, l, seen);
		}
		free(names[i]);
	}
	free(names);
}

static void same_lists(struct list *ours, struct list *theirs)
{
	qsort(ours->lines.items, ours->lines.n, sizeof(char *), by_text);
	qsort(theirs->lines.items, theirs->lines.n, sizeof(char *), by_text);
	for (size_t i = 0; i < ours->lines.n && i < theirs->lines.n; i++)
		ASSERT_STREQ(ours->lines.items[i], theirs->lines.items[i]);
	ASSERT_EQ(ours->lines.n, theirs->lines.n);
	strv_done(&ours->lines);
	strv_done(&theirs->lines);
}

static void unpack_layout(const char *layout, const char *format, struct list *l, const char *home)
{
	_cleanup_store_ struct store s = {};
	_cleanup_free_ char *operand = xasprintf("%s/%s", test_tmpdir(), layout), *name = NULL;
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_(image_meta_done) struct image_meta m = {};
	_cleanup_close_ int lock = -EBADF;
	_cleanup_error_ struct error e = {};
	struct source_request q = { .operand = operand, .progress_fd = -1 };

	layers_store(&s, home);
	lock = blob_lock(&s, false, NULL);
	ASSERT_OK(lock);
	if (source_oci.fetch(&s, &q, &manifest, &name, &e) < 0 ||
	    layers_unpack_as(&s, &manifest, "real", format, 0, &m, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", layout, e.msg);
	layers_check_disk(&s, &m);
	list_disk(&s, &m, l);
}

/* Where no layer has an entry for the root, its time is anybody's. */
static void forget_root(struct list *l)
{
	for (size_t i = 0; i < l->lines.n; i++)
		if (after_prefix(l->lines.items[i], ". ")) {
			free(l->lines.items[i]);
			l->lines.items[i] = xstrdup(". ");
		}
}

/* The layout's image, by us and by umoci. */
static void compare_as(const char *layout, const char *format, const char *root, bool with_root)
{
	struct list ours = {}, theirs = {};
	struct seen seen = {};

	list_directory(root, ".", &theirs, &seen);
	unpack_layout(layout, format, &ours, format);
	ASSERT(ours.lines.n > 5);
	if (!with_root) {
		forget_root(&ours);
		forget_root(&theirs);
	}
	same_lists(&ours, &theirs);
}

static void compare(const char *layout, const char *bundle, bool with_root)
{
	_cleanup_free_ char *image = xasprintf("%s:t", layout),
			    *root = xasprintf("%s/%s/rootfs", test_tmpdir(), bundle);

	RUN("umoci", "unpack", "--image", image, bundle);
	compare_as(layout, "ext4", root, with_root);
	compare_as(layout, "erofs", root, with_root);
}

static char *at(const char *path)
{
	return xasprintf("%s/b/rootfs/%s", test_tmpdir(), path);
}

static void put(const char *path, const char *text, mode_t mode)
{
	_cleanup_free_ char *full = at(path);
	_cleanup_close_ int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

	ASSERT_OK(fd);
	ASSERT_OK(write_full(fd, text, strlen(text)));
	ASSERT_EQ(fchmod(fd, mode), 0);
}

static void make_dir(const char *path, mode_t mode)
{
	_cleanup_free_ char *full = at(path);

	ASSERT_EQ(mkdir(full, mode), 0);
	ASSERT_EQ(chmod(full, mode), 0);
}

/* A directory with a bit of everything. */
static void fill_root(void)
{
	static const struct timespec old[2] = { { 1000000000, 1 }, { 1234567890, 123456789 } };
	static const uint8_t capability[20] = { 1, 0, 0, 2, 0, 0x20 };
	_cleanup_free_ char *su = at("usr/bin/su"), *lib = at("lib"), *twin = at("usr/bin/twin"),
			    *null_path = at("null"), *fifo = at("fifo"), *sparse = at("sparse");
	char name[256];
	_cleanup_free_ char *long_path = NULL;
	int fd;

	make_dir("usr", 0755);
	make_dir("usr/bin", 0755);
	make_dir("usr/lib", 0700);
	make_dir("tmp", 01777);
	put("usr/bin/su", "program", 04755);
	ASSERT_EQ(chown(su, 12345, 70000), 0);
	ASSERT_EQ(chmod(su, 06755), 0);
	ASSERT_EQ(setxattr(su, "security.capability", capability, sizeof(capability), 0), 0);
	put("usr/bin/with-xattr", "x", 0600);
	{
		_cleanup_free_ char *x = at("usr/bin/with-xattr");

		/* Not every file system below /tmp takes them. */
		if (setxattr(x, "user.one", "a\0b", 3, 0) == 0)
			ASSERT_EQ(setxattr(x, "user.two", "", 0, 0), 0);
	}
	ASSERT_EQ(utimensat(AT_FDCWD, su, old, 0), 0);
	ASSERT_EQ(link(su, twin), 0);
	ASSERT_EQ(symlink("usr/lib", lib), 0);
	ASSERT_EQ(mknod(null_path, S_IFCHR | 0666, makedev(1, 3)), 0);
	ASSERT_EQ(mkfifo(fifo, 0640), 0);
	put("\xff\xfe-\xc3", "no text in any encoding", 0644);
	put("e\xcc\x81", "decomposed", 0644);
	memset(name, 'n', 255);
	name[255] = 0;
	long_path = xasprintf("usr/lib/%s", name);
	put(long_path, "long", 0644);
	fd = open(sparse, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	ASSERT_OK(fd);
	ASSERT_OK(pwrite_full(fd, "end", 3, 10 << 20));
	close(fd);
}

static void make_base(void)
{
	RUN("umoci", "init", "--layout", "l");
	RUN("umoci", "new", "--image", "l:t");
	RUN("umoci", "unpack", "--image", "l:t", "b");
	fill_root();
	RUN("umoci", "repack", "--refresh-bundle", "--image", "l:t", "b");
}

static void remove_file(const char *path)
{
	_cleanup_free_ char *root = at("");
	_cleanup_close_ int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(fd);
	ASSERT_OK(remove_tree_at(fd, path));
}

TEST(umoci_with_a_bit_of_everything)
{
	make_base();
	compare("l", "other", true);
}

TEST(umoci_with_layers_that_take_away)
{
	make_base();
	remove_file("usr/bin/su"); /* its twin stays */
	remove_file("tmp");
	put("tmp", "a file now", 0644);
	remove_file("fifo");
	make_dir("fifo", 0711);
	put("fifo/inside", "1", 0644);
	put("usr/lib/through", "1", 0644);
	RUN("umoci", "repack", "--refresh-bundle", "--image", "l:t", "b");
	remove_file("usr/lib");
	make_dir("usr/lib", 0755);
	put("usr/lib/anew", "2", 0644);
	RUN("umoci", "repack", "--refresh-bundle", "--image", "l:t", "b");
	compare("l", "other", true);
}

TEST(umoci_with_a_hundred_layers)
{
	make_base();
	for (int i = 1; i < LAYERS; i++) {
		_cleanup_free_ char *path = xasprintf("usr/file-%d", i % 30), *text = xasprintf("%d", i);

		if (i % 3)
			put(path, text, 0644);
		else
			remove_file(path);
		put("changing", text, 0600);
		RUN("umoci", "repack", "--refresh-bundle", "--image", "l:t", "b");
	}
	compare("l", "other", true);
}

TEST(skopeo_packs_layers_anew)
{
	static const char *const formats[] = { "zstd", "gzip" };
	struct list expected = {};

	make_base();
	put("usr/second", "2", 0644);
	RUN("umoci", "repack", "--refresh-bundle", "--image", "l:t", "b");
	unpack_layout("l", "ext4", &expected, "first");
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		_cleanup_free_ char *to = xasprintf("oci:%s/%s:t", test_tmpdir(), formats[i]);
		_cleanup_free_ char *from = xasprintf("oci:%s/l:t", test_tmpdir()), *home = xasprintf("home-%zu", i);
		struct list ours = {}, copy = {};

		RUN("skopeo", "--insecure-policy", "copy", "-q", "--dest-compress", "--dest-compress-format",
		    formats[i], from, to);
		unpack_layout(formats[i], "ext4", &ours, home);
		strv_copy(&copy.lines, &expected.lines);
		same_lists(&ours, &copy);
	}
	strv_done(&expected.lines);
}

TEST(buildah_from_nothing)
{
	_cleanup_free_ char *storage = xasprintf("%s/storage", test_tmpdir()),
			    *run_root = xasprintf("%s/run", test_tmpdir());
	_cleanup_free_ char *to = xasprintf("oci:%s/built:t", test_tmpdir()),
			    *from = xasprintf("%s/b/rootfs", test_tmpdir());

	/* What is copied is what umoci's bundle has. */
	make_base();
#define BUILDAH(...) RUN("buildah", "--storage-driver", "vfs", "--root", storage, "--runroot", run_root, __VA_ARGS__)
	BUILDAH("from", "--name", "work", "scratch");
	BUILDAH("copy", "--chown", "7:8", "work", from, "/");
	BUILDAH("config", "--cmd", "/usr/bin/su", "--env", "A=1", "work");
	BUILDAH("commit", "-q", "work", to);
	BUILDAH("rm", "work");
	compare("built", "other", false);
}
