/* What a guest can make its engine say does not fill the host's disk. */
#include "machine/engine_log.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "test.h"

enum { LINES = 80000 };

static const char line[] =
	"qemu: virtio: the descriptor is bad, and the guest may well know that it is, which it says again\n";

static off_t size_of(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, 0) < 0 ? -1 : st.st_size;
}

TEST(it_has_an_end_whatever_is_written)
{
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), log = -EBADF;
	struct engine_log *e = NULL;
	struct loop *l = NULL;
	int status;
	pid_t pid;

	log = engine_log_open(dir);
	ASSERT_OK(log);
	ASSERT_OK(loop_new(&l));
	ASSERT_OK(engine_log_watch(l, dir, log, &e));
	pid = fork();
	ASSERT(pid >= 0);
	if (pid == 0) {
		for (int i = 0; i < LINES; i++)
			if (write_full(log, line, sizeof(line) - 1) < 0)
				_exit(1);
		_exit(0);
	}
	do
		ASSERT(loop_step(l, clock_monotonic_ns() + NS_PER_SEC / 20) >= 0);
	while (waitpid(pid, &status, WNOHANG) == 0);
	ASSERT_EQ(status, 0);
	/* Once more what it has not seen yet. */
	ASSERT_OK(write_full(log, line, sizeof(line) - 1));
	ASSERT_OK(loop_step(l, clock_monotonic_ns() + NS_PER_SEC));
	ASSERT(size_of(dir, ENGINE_LOG) <= 1 << 20);
	ASSERT(size_of(dir, ENGINE_LOG_1) > 0 && size_of(dir, ENGINE_LOG_1) <= 1 << 20);
	engine_log_free(e);
	loop_free(l);
}

TEST(what_was_large_before_is_put_aside_at_once)
{
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), log = engine_log_open(dir);
	struct engine_log *e = NULL;
	struct loop *l = NULL;

	ASSERT_OK(log);
	ASSERT_OK(ftruncate(log, 2 << 20));
	ASSERT_OK(loop_new(&l));
	ASSERT_OK(engine_log_watch(l, dir, log, &e));
	ASSERT_EQ(size_of(dir, ENGINE_LOG), 0);
	ASSERT_EQ(size_of(dir, ENGINE_LOG_1), 1 << 20);
	engine_log_free(e);
	loop_free(l);
}
