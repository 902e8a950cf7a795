#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/file.h"
#include "test.h"

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "aaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct store store;

static void open_store(void)
{
	setenv("SKERRY_HOME", test_tmpdir(), 1);
	ASSERT_OK(store_open(&store, NULL));
}

/* A directory as a build leaves it. */
static void workshop(const char *name)
{
	_cleanup_close_ int disks = image_disks_open(&store, NULL);
	_cleanup_close_ int dir = -EBADF;

	ASSERT_OK(disks);
	ASSERT_OK(mkdirat(disks, name, 0700));
	dir = openat(disks, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(file_write_at(dir, "disk.raw", "content", 7, 0600, 0));
}

static int seal(const char *name, const char *hex, uint64_t memory)
{
	struct image_meta m = { .digest = xasprintf("sha256:%s", hex),
				.virtual_bytes = 7,
				.default_memory_bytes = memory,
				.source = xstrdup("test") };
	int r;

	workshop(".tmp-test");
	r = image_seal(&store, name, ".tmp-test", &m, NULL);
	image_meta_done(&m);
	if (r < 0) {
		_cleanup_close_ int disks = image_disks_open(&store, NULL);

		ASSERT_OK(remove_tree_at(disks, ".tmp-test"));
	}
	return r;
}

static bool disk_exists(const char *hex)
{
	_cleanup_free_ char *digest = xasprintf("sha256:%s", hex), *path = image_disk_path(&store, digest);

	return access(path, F_OK) == 0;
}

static int used(const char *digest, char **ret_by, void *data)
{
	if (!streq(digest, data))
		return 0;
	*ret_by = xstrdup("machine 'web'");
	return 1;
}

TEST(a_sealed_image_is_read_only_and_found_by_name_and_digest)
{
	static const char *const names[] = { "tiny", "tiny:latest", ("sha256:" HEX_A), "sha256:aaaaaaaaaaaa" };
	_cleanup_free_ char *path = NULL;
	struct stat st;

	open_store();
	ASSERT_OK(seal("tiny", HEX_A, 5));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct image_meta m = {};

		ASSERT_OK(image_find(&store, names[i], &m, NULL));
		ASSERT_STREQ(m.digest, "sha256:" HEX_A);
		ASSERT_STREQ(m.format, "raw");
		ASSERT_EQ(m.default_memory_bytes, 5);
		image_meta_done(&m);
	}
	path = image_disk_path(&store, "sha256:" HEX_A);
	ASSERT_OK(stat(path, &st));
	ASSERT_EQ(st.st_mode & 07777, 0444);
}

TEST(a_name_that_is_sealed_again_gets_the_next_generation)
{
	struct image_index index = {};

	open_store();
	ASSERT_OK(seal("x", HEX_A, 1));
	ASSERT_OK(seal("x", HEX_B, 1));
	ASSERT_OK(seal("x", HEX_B, 9));
	ASSERT_OK(image_index_load(&store, &index, NULL));
	ASSERT_EQ(index.n, 1);
	ASSERT_EQ(index.refs[0].generation, 3);
	ASSERT_STREQ(index.refs[0].digest, "sha256:" HEX_B);
	image_index_done(&index);
	/* The older one stays until it is collected. */
	ASSERT(disk_exists(HEX_A));
	ASSERT_OK(image_collect(&store, NULL, NULL, NULL));
	ASSERT(!disk_exists(HEX_A));
	ASSERT(disk_exists(HEX_B));
}

TEST(equal_content_is_kept_once_with_the_latest_facts)
{
	struct image_meta m = {};

	open_store();
	ASSERT_OK(seal("one", HEX_A, 1));
	ASSERT_OK(seal("two", HEX_A, 2));
	ASSERT_OK(image_find(&store, "one", &m, NULL));
	ASSERT_EQ(m.default_memory_bytes, 2);
	image_meta_done(&m);
	ASSERT_OK(image_delete(&store, "one", NULL, NULL, NULL));
	ASSERT(disk_exists(HEX_A));
	ASSERT_OK(image_delete(&store, "two", NULL, NULL, NULL));
	ASSERT(!disk_exists(HEX_A));
}

TEST(an_image_in_use_is_not_deleted)
{
	_cleanup_error_ struct error e = {};
	char digest[] = "sha256:" HEX_A;

	open_store();
	ASSERT_OK(seal("x", HEX_A, 1));
	ASSERT_EQ(image_delete(&store, "x", used, digest, &e), -EBUSY);
	ASSERT_EQ(e.kind, ERROR_BUSY);
	ASSERT_CONTAINS(e.msg, "machine 'web'");
	ASSERT(disk_exists(HEX_A));
	/* Deleting by digest does not pull a name's disk away. */
	ASSERT_EQ(image_delete(&store, "sha256:" HEX_A, NULL, NULL, NULL), -EBUSY);
	/* An older generation that is in use stays when the name goes. */
	ASSERT_OK(seal("x", HEX_B, 1));
	ASSERT_OK(image_delete(&store, "x", used, digest, NULL));
	ASSERT(disk_exists(HEX_A));
	ASSERT(!disk_exists(HEX_B));
}

TEST(what_is_not_there_is_told_with_a_hint)
{
	static const char *const names[] = { "tiny", "debian:trixie", "nothing", "sha256:cccccccccccc" };
	struct image_meta m = {};

	open_store();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_error_ struct error e = {};

		ASSERT_EQ(image_find(&store, names[i], &m, &e), -ENOENT);
		ASSERT_EQ(e.kind, ERROR_NOT_FOUND);
		ASSERT_CONTAINS(e.hint, i < 2 ? "skerry image build" : "skerry image list");
	}
	ASSERT_EQ(image_delete(&store, "nothing", NULL, NULL, NULL), -ENOENT);
	ASSERT(image_find(&store, "../../etc", &m, NULL) < 0);
	ASSERT(!image_disk_path(&store, "sha256:../../../etc/passwd"));
	ASSERT(!image_disk_path(&store, "md5:x"));
}

TEST(two_digests_with_one_beginning_are_ambiguous)
{
	_cleanup_error_ struct error e = {};
	struct image_meta m = {};

	open_store();
	ASSERT_OK(seal("a", HEX_A, 1));
	ASSERT_OK(seal("b", HEX_B, 1));
	ASSERT_EQ(image_find(&store, "sha256:aaaaaaaaaaaa", &m, &e), -EINVAL);
	ASSERT_CONTAINS(e.msg, "more than one");
}

TEST(damaged_records_are_data_errors)
{
	_cleanup_error_ struct error e = {}, e2 = {};
	static const char evil[] = "{\"images\":[{\"name\":\"x:latest\",\"digest\":\"sha256:../../../../etc\"}]}";
	struct image_index index = {};
	struct image_meta m = {};

	open_store();
	ASSERT_OK(seal("x", HEX_A, 1));
	ASSERT_OK(file_write_at(store.images_fd, "disks/" HEX_A "/meta.json", "{}", 2, 0600, 0));
	ASSERT_EQ(image_find(&store, "x", &m, &e), -EBADMSG);
	ASSERT_EQ(e.kind, ERROR_DATA);
	ASSERT_OK(file_write_at(store.images_fd, "index.json", evil, sizeof(evil) - 1, 0600, 0));
	ASSERT_EQ(image_index_load(&store, &index, &e2), -EBADMSG);
	ASSERT_EQ(e2.kind, ERROR_DATA);
}

TEST(a_bad_digest_or_name_is_not_sealed)
{
	open_store();
	ASSERT_EQ(seal("x", "zz", 1), -EINVAL);
	ASSERT_EQ(seal("sha256:" HEX_A, HEX_A, 1), -EINVAL);
	ASSERT(seal("../x", HEX_A, 1) < 0);
	ASSERT(!disk_exists(HEX_A));
}

TEST(leavings_of_a_crash_go_and_a_living_build_stays)
{
	_cleanup_close_ int disks = -EBADF, dir = -EBADF;

	open_store();
	workshop(".tmp-dead");
	workshop(".tmp-alive");
	disks = image_disks_open(&store, NULL);
	dir = openat(disks, ".tmp-alive", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(flock(dir, LOCK_EX | LOCK_NB));
	ASSERT_OK(image_remove_leftovers(&store, NULL));
	ASSERT_EQ(faccessat(disks, ".tmp-dead", F_OK, 0), -1);
	ASSERT_OK(faccessat(disks, ".tmp-alive", F_OK, 0));
}
