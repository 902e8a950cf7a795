#include "image/blob.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "image/digest.h"
#include "image/reference.h"
#include "test.h"

static struct store store;

static void open_store(void)
{
	setenv("SKERRY_HOME", test_tmpdir(), 1);
	ASSERT_OK(store_open(&store, NULL));
}

TEST(a_blob_is_there_when_it_is_whole)
{
	_cleanup_free_ char *digest = digest_bytes("hello", 5), *found = NULL;
	_cleanup_buf_ struct buf text = {};
	struct blob_writer *w;

	open_store();
	ASSERT_OK(blob_writer_open(&store, digest, 5, &w, NULL));
	ASSERT_OK(blob_writer_write(w, "he", 2, NULL));
	ASSERT(!blob_exists(&store, digest));
	ASSERT_OK(blob_writer_write(w, "llo", 3, NULL));
	ASSERT_OK(blob_writer_finish(w, &found, NULL));
	blob_writer_free(w);
	ASSERT_STREQ(found, digest);
	ASSERT_OK(blob_read(&store, digest, 100, &text, NULL));
	ASSERT_STREQ(text.p, "hello");
	ASSERT_EQ(blob_read(&store, digest, 4, &text, NULL), -EFBIG);
	ASSERT_EQ(blob_writer_open(&store, digest, 5, &w, NULL), 1);
	ASSERT(!w);
}

TEST(a_broken_attempt_is_gone_on_with)
{
	_cleanup_free_ char *digest = digest_bytes("hello", 5);
	struct blob_writer *w;

	open_store();
	ASSERT_OK(blob_writer_open(&store, digest, 5, &w, NULL));
	ASSERT_OK(blob_writer_write(w, "he", 2, NULL));
	blob_writer_free(w);
	ASSERT_OK(blob_writer_open(&store, digest, 5, &w, NULL));
	ASSERT_EQ(blob_writer_offset(w), 2);
	ASSERT_OK(blob_writer_write(w, "llo", 3, NULL));
	ASSERT_OK(blob_writer_finish(w, NULL, NULL));
	blob_writer_free(w);
	ASSERT(blob_exists(&store, digest));
}

TEST(another_content_is_refused_and_removed)
{
	_cleanup_free_ char *digest = digest_bytes("hello", 5);
	_cleanup_error_ struct error e = {}, e2 = {}, e3 = {};
	struct blob_writer *w;

	open_store();
	ASSERT_OK(blob_writer_open(&store, digest, 5, &w, NULL));
	ASSERT_EQ(blob_writer_write(w, "hello!", 6, &e), -EBADMSG);
	ASSERT_OK(blob_writer_write(w, "hell", 4, NULL));
	ASSERT_EQ(blob_writer_finish(w, NULL, &e2), -EBADMSG);
	ASSERT_CONTAINS(e2.msg, "4 bytes instead of 5");
	ASSERT_OK(blob_writer_write(w, "a", 1, NULL));
	ASSERT_EQ(blob_writer_finish(w, NULL, &e3), -EBADMSG);
	ASSERT_EQ(e3.kind, ERROR_DATA);
	blob_writer_free(w);
	ASSERT(!blob_exists(&store, digest));
	ASSERT_OK(blob_writer_open(&store, digest, 5, &w, NULL));
	ASSERT_EQ(blob_writer_offset(w), 0);
	ASSERT_OK(blob_writer_write(w, "xx", 2, NULL));
	ASSERT_OK(blob_writer_restart(w, NULL));
	ASSERT_OK(blob_writer_write(w, "hello", 5, NULL));
	ASSERT_OK(blob_writer_finish(w, NULL, NULL));
	blob_writer_free(w);
}

TEST(a_second_writer_waits_and_finds_it_done)
{
	_cleanup_free_ char *digest = digest_bytes("hello", 5);
	struct blob_writer *w;
	pid_t child;
	int status, go[2];

	open_store();
	ASSERT_OK(pipe2(go, O_CLOEXEC));
	/* Before the lock is taken: a descriptor that the child inherited would hold it. */
	child = fork();
	ASSERT(child >= 0);
	if (child == 0) {
		struct blob_writer *second;
		char c;

		_exit(read(go[0], &c, 1) == 1 && blob_writer_open(&store, digest, 5, &second, NULL) == 1 ? 0 : 1);
	}
	ASSERT_OK(blob_writer_open(&store, digest, 5, &w, NULL));
	ASSERT_EQ(write(go[1], "", 1), 1);
	ASSERT_OK(blob_writer_write(w, "hello", 5, NULL));
	ASSERT_OK(blob_writer_finish(w, NULL, NULL));
	blob_writer_free(w);
	ASSERT_EQ(waitpid(child, &status, 0), child);
	ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(a_blob_of_unknown_digest_leaves_nothing_half)
{
	_cleanup_free_ char *digest = NULL, *expected = digest_bytes("x", 1);
	struct blob_writer *w;
	struct stat st;

	open_store();
	ASSERT_OK(blob_writer_open(&store, NULL, UINT64_MAX, &w, NULL));
	ASSERT_OK(blob_writer_write(w, "x", 1, NULL));
	blob_writer_free(w);
	ASSERT(!blob_exists(&store, expected));
	ASSERT_OK(fstatat(store.images_fd, "partial", &st, 0));
	ASSERT_EQ(unlinkat(store.images_fd, "partial", AT_REMOVEDIR), 0);
	ASSERT_OK(blob_put(&store, "x", 1, &digest, NULL));
	ASSERT_STREQ(digest, expected);
}

TEST(what_is_no_digest_never_becomes_a_path)
{
	_cleanup_error_ struct error e = {};
	struct blob_writer *w;

	open_store();
	ASSERT_EQ(blob_open(&store, "sha256:../../index.json", NULL, &e), -EBADMSG);
	ASSERT_EQ(blob_writer_open(&store, "sha256:../x", 1, &w, NULL), -EBADMSG);
	ASSERT(!blob_exists(&store, ".."));
}

TEST(removal_waits_for_nobody)
{
	_cleanup_error_ struct error e = {};
	int shared, also;

	open_store();
	shared = blob_lock(&store, false, NULL);
	also = blob_lock(&store, false, NULL);
	ASSERT_OK(shared);
	ASSERT_OK(also);
	ASSERT_EQ(blob_lock(&store, true, &e), -EBUSY);
	ASSERT_EQ(error_exit_status(&e), 75);
	(void)close(shared);
	(void)close(also);
	shared = blob_lock(&store, true, NULL);
	ASSERT_OK(shared);
	(void)close(shared);
}

/* Two want one blob, and one of them has it whole while the other is about to begin. */
TEST(who_comes_too_late_leaves_no_part)
{
	enum { ROUNDS = 200 };
	/* Each of them syncs twice, which takes as long as the disk is busy. */
	uint64_t deadline_ns = clock_monotonic_ns() + 5 * NS_PER_SEC;

	open_store();
	for (int i = 0; i < ROUNDS && clock_monotonic_ns() < deadline_ns; i++) {
		_cleanup_free_ char *text = xasprintf("%d", i), *digest = digest_bytes(text, strlen(text)),
				    *part = xasprintf("partial/%s", digest_hex(digest));
		struct blob_writer *w;
		int status, r;
		pid_t pid = fork();

		ASSERT(pid >= 0);
		if (pid == 0) {
			r = blob_writer_open(&store, digest, strlen(text), &w, NULL);
			if (r == 0)
				r = blob_writer_write(w, text, strlen(text), NULL);
			if (r == 0)
				r = blob_writer_finish(w, NULL, NULL);
			_exit(r != 0);
		}
		while ((r = blob_writer_try(&store, digest, strlen(text), &w, NULL)) == -EBUSY)
			;
		if (r == 0) {
			ASSERT_OK(blob_writer_write(w, text, strlen(text), NULL));
			ASSERT_OK(blob_writer_finish(w, NULL, NULL));
			blob_writer_free(w);
		}
		ASSERT(r == 0 || r == 1);
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT(WIFEXITED(status) && WEXITSTATUS(status) == (r == 0));
		ASSERT(blob_exists(&store, digest));
		ASSERT(faccessat(store.images_fd, part, F_OK, 0) < 0);
	}
}
