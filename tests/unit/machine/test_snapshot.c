/* Snapshots of a machine that does not run: its disk is qemu-img's, and no guest is needed. */
#include "machine/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "test.h"

struct bench {
	struct store store;
	struct name machine;
	int dir; /* machines/m */
};

static struct name named(const char *text)
{
	struct name n;

	ASSERT_OK(name_parse(text, "name", &n, NULL));
	return n;
}

static void qemu_img(const char *const *argv)
{
	struct spawn sp = SPAWN_INIT;
	struct error e = {};

	sp.argv = argv;
	if (spawn_check(&sp, NULL, NULL, 4096, UINT64_MAX, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

static void begin(struct bench *b)
{
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir()), *run = xasprintf("%s/run", test_tmpdir()),
			    *path = xasprintf("%s/machines/m", home), *disk = xasprintf("%s/system.qcow2", path);
	struct error e = {};

	setenv("SKERRY_HOME", home, 1);
	setenv("SKERRY_RUN_DIR", run, 1);
	if (store_open(&b->store, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	b->machine = named("m");
	ASSERT_EQ(mkdir(path, 0700), 0);
	b->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(b->dir);
	qemu_img((const char *const[]){ "qemu-img", "create", "-q", "-f", "qcow2", disk, "1M", NULL });
}

static void end(struct bench *b)
{
	safe_close(b->dir);
	store_done(&b->store);
}

static void put(const struct bench *b, const char *name, const char *text)
{
	ASSERT_OK(file_write_at(b->dir, name, text, strlen(text), 0600, 0));
}

static void holds(const struct bench *b, const char *name, const char *text)
{
	_cleanup_buf_ struct buf got = {};

	ASSERT_OK(file_read_at(b->dir, name, 4096, &got));
	ASSERT_STREQ(got.p, text);
}

static void is_gone(const struct bench *b, const char *name)
{
	ASSERT(faccessat(b->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT);
}

enum what { SAVE, RESTORE, DELETE };

/* The kind of its failure is the caller's to look at. */
static int attempt(const struct bench *b, enum what what, const char *name, struct error *err)
{
	const struct name n = named(name);

	switch (what) {
	case SAVE: return snapshot_save(&b->store, &b->machine, &n, NULL, err);
	case RESTORE: return snapshot_restore(&b->store, &b->machine, &n, err);
	case DELETE: return snapshot_delete(&b->store, &b->machine, &n, err);
	}
	return -EINVAL;
}

static void does(const struct bench *b, enum what what, const char *name)
{
	struct error e = {};

	if (attempt(b, what, name, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

TEST(the_variables_of_either_firmware_are_part_of_it)
{
	struct bench b = {};

	begin(&b);
	put(&b, "nvram", "plain, then");
	put(&b, "nvram-secure", "secure, then");
	does(&b, SAVE, "one");
	put(&b, "nvram", "plain, now");
	put(&b, "nvram-secure", "secure, now");
	does(&b, RESTORE, "one");
	holds(&b, "nvram", "plain, then");
	holds(&b, "nvram-secure", "secure, then");
	/* A machine that was started with one kind has the one. */
	ASSERT_EQ(unlinkat(b.dir, "nvram", 0), 0);
	does(&b, SAVE, "two");
	put(&b, "nvram-secure", "secure, later");
	does(&b, RESTORE, "two");
	holds(&b, "nvram-secure", "secure, then");
	is_gone(&b, "nvram");
	does(&b, DELETE, "one");
	is_gone(&b, "snapshots/one.nvram");
	is_gone(&b, "snapshots/one.nvram-secure");
	is_gone(&b, "snapshots/one.json");
	holds(&b, "snapshots/two.nvram-secure", "secure, then");
	end(&b);
}

static void fails(const struct bench *b, enum what what, const char *name, const char *why)
{
	struct error e = {};

	ASSERT(attempt(b, what, name, &e) < 0);
	ASSERT(e.num);
	ASSERT_CONTAINS(e.msg, why);
	error_done(&e);
}

TEST(a_record_that_cannot_be_read_is_no_free_name)
{
	struct bench b = {};
	struct error e = {};
	_cleanup_buf_ struct buf record = {};
	struct stat st;

	begin(&b);
	does(&b, SAVE, "good");
	ASSERT_OK(file_read_at(b.dir, "snapshots/good.json", 4096, &record));
	put(&b, "snapshots/good.json", "torn");
	fails(&b, SAVE, "good", "good.json");
	fails(&b, DELETE, "good", "good.json");
	fails(&b, RESTORE, "good", "good.json");
	ASSERT(attempt(&b, SAVE, "good", &e) < 0 && e.kind != ERROR_EXISTS && e.kind != ERROR_NOT_FOUND);
	error_done(&e);
	holds(&b, "snapshots/good.json", "torn");
	/* Once it can be read again everything is as it was. */
	put(&b, "snapshots/good.json", record.p);
	does(&b, RESTORE, "good");
	/* In the disk without a record: it is not ours to drop. */
	ASSERT_EQ(unlinkat(b.dir, "snapshots/good.json", 0), 0);
	fails(&b, SAVE, "good", "in the disk");
	is_gone(&b, "snapshots/good.json");
	put(&b, "snapshots/good.json", record.p);
	does(&b, RESTORE, "good");
	ASSERT(attempt(&b, DELETE, "other", &e) < 0 && e.kind == ERROR_NOT_FOUND);
	ASSERT_CONTAINS(e.hint, "there are: good");
	error_done(&e);
	ASSERT_EQ(fstatat(b.dir, "revert.json", &st, 0), -1);
	end(&b);
}

TEST(why_a_machine_cannot_be_recovered_is_told)
{
	struct bench b = {};

	begin(&b);
	/* Nothing that a record could be. */
	ASSERT_EQ(mkdirat(b.store.run_fd, "m", 0700), 0);
	ASSERT_EQ(mkdirat(b.store.run_fd, "m/state.json", 0700), 0);
	fails(&b, SAVE, "one", "state.json");
	end(&b);
}
