#include "image/prune.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/image.h"
#include "image/workshop.h"
#include "test.h"

static void open_store(struct store *s)
{
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir());

	ASSERT_OK(setenv("SKERRY_HOME", home, 1));
	ASSERT_OK(store_open(s, NULL));
}

/* An image of one's own making, with @name or without. Its digest, owned by the caller. */
static char *seal(struct store *s, const char *name, const char *content)
{
	_cleanup_workshop_ struct workshop w = WORKSHOP_INIT;
	_cleanup_close_ int lock = blob_lock(s, false, NULL), fd = -EBADF;
	_cleanup_(image_meta_done) struct image_meta m = { .virtual_bytes = 65536 };
	_cleanup_error_ struct error e = {};

	ASSERT_OK(lock);
	ASSERT_OK(workshop_open(s, &w, &e));
	fd = openat(w.dir_fd, "disk.raw", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_OK(fd);
	ASSERT_OK(write_full(fd, content, strlen(content)));
	m.disk = digest_bytes(content, strlen(content));
	m.format = xstrdup("raw");
	m.fstype = xstrdup("ext4");
	if (image_seal(&w, name, NULL, &m, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return xstrdup(m.digest);
}

static struct prune_result prune(struct store *s, const struct prune_request *req)
{
	_cleanup_error_ struct error e = {};
	struct prune_result res = {};

	if (image_prune(s, req, &res, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return res;
}

static int used_by_machine(const char *digest, char **ret_by, void *data)
{
	if (!streq(digest, data))
		return 0;
	*ret_by = xstrdup("machine 'm'");
	return 1;
}

static bool exists(const struct store *s, const char *path)
{
	return faccessat(s->images_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

TEST(what_a_name_or_a_machine_needs_stays)
{
	_cleanup_store_ struct store s = {};
	_cleanup_free_ char *named = NULL, *used = NULL, *dangling = NULL, *loose = NULL;
	_cleanup_(prune_result_done) struct prune_result res = {};
	_cleanup_(image_meta_done) struct image_meta m = {};
	struct prune_request req = { .in_use = used_by_machine };

	open_store(&s);
	named = seal(&s, "named:1", "a");
	used = seal(&s, NULL, "b");
	dangling = seal(&s, NULL, "c");
	ASSERT_OK(blob_put(&s, "loose", 5, &loose, NULL));
	req.data = used;
	res = prune(&s, &req);
	ASSERT_EQ(res.names.n, 0);
	ASSERT_EQ(res.digests.n, 1);
	ASSERT_STREQ(res.digests.items[0], dangling);
	ASSERT_EQ(res.n_blobs, 2); /* the loose one and the dangling image's manifest; they share a configuration */
	ASSERT(!blob_exists(&s, loose) && !blob_exists(&s, dangling));
	ASSERT(blob_exists(&s, named) && blob_exists(&s, used));
	ASSERT_OK(image_find(&s, "named:1", &m, NULL));
	ASSERT(res.freed_bytes > 0);
}

TEST(all_takes_names_but_not_young_ones_when_asked)
{
	_cleanup_store_ struct store s = {};
	_cleanup_free_ char *a = NULL, *b = NULL;
	_cleanup_(prune_result_done) struct prune_result first = {}, second = {};
	struct prune_request req = { .all = true, .in_use = used_by_machine };

	open_store(&s);
	a = seal(&s, "a:1", "a");
	b = seal(&s, "b:1", "b");
	req.data = a;
	req.before_ns = clock_realtime_ns() - 3600 * NS_PER_SEC;
	first = prune(&s, &req);
	ASSERT_EQ(first.names.n, 0);
	req.before_ns = 0;
	second = prune(&s, &req);
	ASSERT_EQ(second.names.n, 1);
	ASSERT_STREQ(second.names.items[0], "b:1");
	ASSERT(blob_exists(&s, a) && !blob_exists(&s, b));
}

TEST(blobs_stay_while_somebody_brings_an_image_in)
{
	_cleanup_store_ struct store s = {};
	_cleanup_free_ char *loose = NULL;
	_cleanup_(prune_result_done) struct prune_result busy = {}, idle = {};
	struct prune_request req = {};

	open_store(&s);
	ASSERT_OK(blob_put(&s, "loose", 5, &loose, NULL));
	{
		_cleanup_close_ int lock = blob_lock(&s, false, NULL);

		ASSERT_OK(lock);
		busy = prune(&s, &req);
	}
	ASSERT(busy.blobs_kept && blob_exists(&s, loose));
	idle = prune(&s, &req);
	ASSERT(!idle.blobs_kept && !blob_exists(&s, loose));
}

TEST(leftovers_go_when_their_maker_is_gone)
{
	_cleanup_store_ struct store s = {};
	_cleanup_(prune_result_done) struct prune_result held = {}, freed = {};
	struct timespec old[2] = { { .tv_sec = 1 }, { .tv_sec = 1 } };
	struct prune_request req = {};
	static const char young[] = "partial/1111111111111111111111111111111111111111111111111111111111111111";
	static const char aged[] = "partial/2222222222222222222222222222222222222222222222222222222222222222";
	int dir;

	open_store(&s);
	ASSERT_OK(mkdir_parents_at(s.images_fd, "disks/.tmp-maker", 0700));
	ASSERT_OK(mkdir_parents_at(s.images_fd, "disks/.tmp-gone-0", 0700));
	ASSERT_OK(mkdir_parents_at(s.images_fd, "partial", 0700));
	ASSERT_OK(file_write_at(s.images_fd, young, "x", 1, 0600, 0));
	ASSERT_OK(file_write_at(s.images_fd, aged, "x", 1, 0600, 0));
	ASSERT_OK(file_write_at(s.images_fd, "partial/.tmp-1", "x", 1, 0600, 0));
	ASSERT_OK(utimensat(s.images_fd, aged, old, 0));
	dir = openat(s.images_fd, "disks/.tmp-maker", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(flock(dir, LOCK_EX));
	held = prune(&s, &req);
	ASSERT_EQ(held.n_leftovers, 1);
	ASSERT_EQ(held.n_partial, 2);
	ASSERT(exists(&s, "disks/.tmp-maker") && exists(&s, young) && !exists(&s, aged));
	safe_close(dir);
	freed = prune(&s, &req);
	ASSERT_EQ(freed.n_leftovers, 1);
	ASSERT(!exists(&s, "disks/.tmp-maker"));
}

/* A record is written beside its place and renamed: who is killed between the two leaves it there. */
TEST(records_that_were_never_finished_go)
{
	_cleanup_(prune_result_done) struct prune_result busy = {}, idle = {};
	_cleanup_free_ char *digest = NULL, *path = NULL;
	_cleanup_store_ struct store s = {};
	struct prune_request req = {};
	int lock;

	open_store(&s);
	digest = seal(&s, "named:1", "a");
	path = xasprintf("disks/%s/.tmp-0", digest + strlen("sha256:"));
	ASSERT_OK(file_write_at(s.images_fd, path, "x", 1, 0600, 0));
	ASSERT_OK(file_write_at(s.images_fd, ".tmp-0", "x", 1, 0600, 0));
	lock = blob_lock(&s, false, NULL);
	ASSERT_OK(lock);
	busy = prune(&s, &req);
	ASSERT_EQ(busy.n_leftovers, 1);
	ASSERT(!exists(&s, path) && exists(&s, ".tmp-0"));
	safe_close(lock);
	idle = prune(&s, &req);
	ASSERT_EQ(idle.n_leftovers, 1);
	ASSERT(!exists(&s, ".tmp-0") && exists(&s, "index.json") && exists(&s, "oci-layout"));
}

/* What a pull left that ended with a full disk. */
TEST(all_takes_what_is_half_there_too)
{
	static const char path[] = "partial/1111111111111111111111111111111111111111111111111111111111111111";
	_cleanup_(prune_result_done) struct prune_result filtered = {}, busy = {}, all = {};
	struct prune_request req = { .all = true, .before_ns = 1 };
	_cleanup_store_ struct store s = {};
	int lock;

	open_store(&s);
	ASSERT_OK(mkdir_parents_at(s.images_fd, "partial", 0700));
	ASSERT_OK(file_write_at(s.images_fd, path, "x", 1, 0600, 0));
	filtered = prune(&s, &req);
	ASSERT(filtered.n_partial == 0 && exists(&s, path));
	req.before_ns = 0;
	lock = blob_lock(&s, false, NULL);
	ASSERT_OK(lock);
	busy = prune(&s, &req);
	ASSERT(busy.blobs_kept && exists(&s, path));
	safe_close(lock);
	all = prune(&s, &req);
	ASSERT(all.n_partial == 1 && !exists(&s, path));
}

/* What cannot be read may need anything: then no blob goes. */
TEST(a_damaged_manifest_keeps_all_blobs)
{
	_cleanup_store_ struct store s = {};
	_cleanup_free_ char *named = NULL, *loose = NULL, *path = NULL;
	_cleanup_error_ struct error e = {};
	struct prune_result res = {};
	struct prune_request req = {};

	open_store(&s);
	named = seal(&s, "named:1", "a");
	ASSERT_OK(blob_put(&s, "loose", 5, &loose, NULL));
	path = xasprintf("blobs/sha256/%s", named + strlen("sha256:"));
	ASSERT_OK(file_write_at(s.images_fd, path, "{", 1, 0600, 0));
	ASSERT_EQ(image_prune(&s, &req, &res, &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, "sha256:");
	ASSERT(blob_exists(&s, loose));
}
