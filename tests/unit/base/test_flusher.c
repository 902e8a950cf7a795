#include "base/flusher.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "test.h"

enum { PIECE = 1 << 20, PIECES = 48 };

static int make(void)
{
	int fd = openat(AT_FDCWD, "flushed", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT(fd >= 0);
	return fd;
}

TEST(what_is_noted_is_what_was_written)
{
	_cleanup_close_ int fd = make();
	_cleanup_(flusher_freep) struct flusher *f = flusher_new(fd);
	_cleanup_free_ uint8_t *piece = xcalloc(1, PIECE), *back = xcalloc(1, PIECE);

	/* Backwards, too: every order is taken. */
	for (unsigned i = 0; i < PIECES; i++) {
		unsigned at = i % 2 ? i : PIECES - i;

		memset(piece, (int)at + 1, PIECE);
		ASSERT_OK(pwrite_full(fd, piece, PIECE, (uint64_t)at * PIECE));
		flusher_note(f, (uint64_t)at * PIECE, PIECE);
	}
	flusher_sync_begin(f);
	ASSERT_OK(pread_full(fd, back, PIECE, 5 * PIECE));
	ASSERT_OK(flusher_sync_end(f));
	memset(piece, 6, PIECE);
	ASSERT(memcmp(piece, back, PIECE) == 0);
}

TEST(a_sync_may_come_first_and_again)
{
	_cleanup_close_ int fd = make();
	_cleanup_(flusher_freep) struct flusher *f = flusher_new(fd);

	for (unsigned i = 0; i < 3; i++) {
		ASSERT_OK(pwrite_full(fd, "x", 1, i));
		flusher_sync_begin(f);
		ASSERT_OK(flusher_sync_end(f));
	}
}

TEST(what_fails_is_told)
{
	int pipes[2];
	struct flusher *f;

	ASSERT_OK(pipe2(pipes, O_CLOEXEC));
	f = flusher_new(pipes[1]);
	/* A hint that cannot be taken is none of the caller's business. */
	flusher_note(f, 0, UINT64_C(1) << 30);
	flusher_sync_begin(f);
	ASSERT_EQ(flusher_sync_end(f), -EINVAL);
	ASSERT(flusher_free(f) == NULL);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
}

TEST(it_may_end_at_any_time)
{
	_cleanup_close_ int fd = make();

	ASSERT(flusher_free(NULL) == NULL);
	for (unsigned i = 0; i < 50; i++) {
		struct flusher *f = flusher_new(fd);

		for (unsigned k = 0; k < i; k++)
			flusher_note(f, (uint64_t)k << 24, 1 << 24);
		ASSERT(flusher_free(f) == NULL);
	}
}
