#include "image/build.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "image/digest.h"
#include "image/image.h"
#include "test.h"

/* A tree that is a list of what was put into it, in the disk itself. */
struct list {
	struct tree tree;
	int fd;
	struct buf text;
};
static bool break_down;

static int list_add(struct tree *t, const struct fs_entry *e, struct error *err)
{
	struct list *l = (struct list *)t;

	if (break_down && streq(e->path, "bin/busybox"))
		return error_set(err, ENOSPC, "the disk is full");
	buf_addf(&l->text, "%o %s%s%s\n", (unsigned)e->mode, e->path, e->link ? " -> " : "", e->link ? e->link : "");
	return 0;
}

static int list_write(struct tree *t, uint64_t offset, const void *p, size_t n, struct error *err)
{
	(void)t;
	(void)offset;
	(void)p;
	(void)n;
	(void)err;
	return 0;
}

static int list_end(struct tree *t, struct error *err)
{
	(void)t;
	(void)err;
	return 0;
}

static int list_link(struct tree *t, const char *path, const char *target, struct error *err)
{
	buf_addf(&((struct list *)t)->text, "%s = %s\n", path, target);
	(void)err;
	return 0;
}

static int list_finish(struct tree *t, struct error *err)
{
	struct list *l = (struct list *)t;

	(void)err;
	return write_full(l->fd, l->text.p, l->text.len);
}

static void list_free(struct tree *t)
{
	buf_done(&((struct list *)t)->text);
	free(t);
}

static const struct tree_ops list_ops = {
	.add = list_add,
	.write = list_write,
	.end_file = list_end,
	.link = list_link,
	.finish = list_finish,
	.free = list_free,
};

static int list_create(int fd, const struct tree_format *f, struct tree **ret, struct error *err)
{
	struct list *l = xnew(struct list);

	(void)f;
	(void)err;
	l->tree.ops = &list_ops;
	l->fd = fd;
	*ret = &l->tree;
	return 0;
}

static struct store store;

static int build(const char *recipe, const char *name, char **ret_digest, struct error *err)
{
	struct build_request req = { .recipe = recipe, .name = name, .progress_fd = -1, .create_tree = list_create };

	setenv("SKERRY_HOME", test_tmpdir(), 1);
	if (!store.home_path)
		ASSERT_OK(store_open(&store, NULL));
	if (access("/bin/busybox", R_OK) < 0)
		test_skip("no busybox-static");
	return image_build(&store, &req, ret_digest, err);
}

static size_t count_disks(void)
{
	_cleanup_free_ char *path = xasprintf("%s/images/disks", store.home_path);
	DIR *d = opendir(path);
	const struct dirent *e;
	size_t n = 0;

	while (d && (e = readdir(d)))
		n += !streq(e->d_name, ".") && !streq(e->d_name, "..");
	if (d)
		closedir(d);
	return n;
}

TEST(tiny_is_built_sealed_and_found)
{
	_cleanup_free_ char *digest = NULL, *path = NULL;
	_cleanup_(image_meta_done) struct image_meta m = {};
	_cleanup_buf_ struct buf list = {};
	struct stat st;

	ASSERT_OK(build("tiny", NULL, &digest, NULL));
	ASSERT_OK(image_find(&store, "tiny", &m, NULL));
	ASSERT_STREQ(m.digest, digest);
	ASSERT_EQ(m.init, IMAGE_INIT_AGENT);
	ASSERT_EQ(m.virtual_bytes, UINT64_C(1) << 30);
	ASSERT_EQ(m.default_memory_bytes, UINT64_C(128) << 20);
	path = image_disk_path(&store, &m);
	ASSERT_OK(stat(path, &st));
	ASSERT_EQ(st.st_mode & 0777, 0444);
	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &list));
	ASSERT_CONTAINS(list.p, "100755 bin/busybox\n");
	ASSERT_CONTAINS(list.p, "bin/sh -> /bin/busybox\n");
	ASSERT_CONTAINS(list.p, "100640 etc/shadow\n");
	ASSERT(!strstr(list.p, "resolv.conf"));
	/* The disk alone: no scratch directory, no second directory. */
	ASSERT_EQ(count_disks(), 1);
}

TEST(the_same_recipe_gives_the_same_image)
{
	_cleanup_free_ char *a = NULL, *b = NULL;

	ASSERT_OK(build("tiny", "one", &a, NULL));
	ASSERT_OK(build("tiny", "two", &b, NULL));
	ASSERT_STREQ(a, b);
	ASSERT_EQ(count_disks(), 1);
}

TEST(a_failed_build_leaves_nothing)
{
	_cleanup_error_ struct error e = {};
	struct image_meta m = {};

	break_down = true;
	ASSERT_EQ(build("tiny", NULL, NULL, &e), -ENOSPC);
	ASSERT_CONTAINS(e.msg, "image 'tiny': the disk is full");
	ASSERT_EQ(count_disks(), 0);
	ASSERT_EQ(image_find(&store, "tiny", &m, NULL), -ENOENT);
}

TEST(bad_requests_are_refused_before_anything_is_made)
{
	static const struct {
		const char *recipe, *name;
		uint64_t disk;
		int r;
	} cases[] = {
		{ "none", NULL, 0, -ENOENT },          { "tinyx", NULL, 0, -ENOENT },
		{ "tiny:x", NULL, 0, -EINVAL },        { "debian:nonesuch", NULL, 0, -EINVAL },
		{ "tiny", "a b", 0, -EINVAL },         { "tiny", NULL, 4096, -ERANGE },
		{ "tiny", NULL, UINT64_MAX, -ERANGE },
	};

	ASSERT_OK(build("tiny", NULL, NULL, NULL));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct build_request req = { .recipe = cases[i].recipe,
					     .name = cases[i].name,
					     .disk_bytes = cases[i].disk,
					     .progress_fd = -1,
					     .create_tree = list_create };
		_cleanup_error_ struct error e = {};
		int r = image_build(&store, &req, NULL, &e);

		if (r != cases[i].r)
			test_fail(__FILE__, __LINE__, "case %zu: %d (%s)", i, r, e.msg);
	}
	ASSERT_EQ(count_disks(), 1);
}

TEST(options_that_a_package_list_could_smuggle_in_are_refused)
{
	static const char *const bad[] = { "--hook=x", "a b", "a;b", "a\nb", "$(x)", "" };

	(void)build("none", NULL, NULL, NULL);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_strv_ struct strv packages = {};
		struct build_request req = {
			.recipe = "debian", .packages = &packages, .progress_fd = -1, .create_tree = list_create
		};

		strv_add(&packages, bad[i]);
		ASSERT_EQ(image_build(&store, &req, NULL, NULL), -EINVAL);
	}
}

TEST(recipes_are_listed)
{
	ASSERT_STREQ(image_recipe_at(0)->name, "tiny");
	ASSERT_STREQ(image_recipe_at(1)->name, "debian");
	ASSERT(!image_recipe_at(2));
}

TEST(a_disks_digest_does_not_tell_holes_from_zeros)
{
	_cleanup_free_ char *a = xasprintf("%s/a", test_tmpdir()), *b = xasprintf("%s/b", test_tmpdir());
	_cleanup_free_ char *zeros = xcalloc(1, 1 << 20), *da = NULL, *db = NULL, *dc = NULL, *text = NULL;
	int fa = open(a, O_RDWR | O_CREAT | O_CLOEXEC, 0600), fb = open(b, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ASSERT_OK(ftruncate(fa, 3 << 20));
	ASSERT_OK(pwrite_full(fa, "x", 1, 2 << 20));
	for (uint64_t i = 0; i < 3; i++)
		ASSERT_OK(pwrite_full(fb, zeros, 1 << 20, i << 20));
	ASSERT_OK(pwrite_full(fb, "x", 1, 2 << 20));
	ASSERT_OK(digest_disk(fa, "a", &da, NULL));
	ASSERT_OK(digest_disk(fb, "b", &db, NULL));
	ASSERT_STREQ(da, db);
	/* The same content elsewhere, or of another size, is another disk. */
	ASSERT_OK(ftruncate(fb, (3 << 20) + 1));
	ASSERT_OK(digest_disk(fb, "b", &dc, NULL));
	ASSERT(!streq(da, dc));
	text = digest_bytes("abc", 3);
	ASSERT_STREQ(text, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	close(fa);
	close(fb);
}
