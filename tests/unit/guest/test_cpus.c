#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/memory.h"
#include "guest/cpus.h"
#include "test.h"

/* A directory as the kernel's, of @n processors; of which those up to @on run. The first has no switch. */
static int make(unsigned n, unsigned on)
{
	int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(dir);
	for (unsigned i = 0; i < n; i++) {
		_cleanup_free_ char *name = xasprintf("cpu%u", i), *path = xasprintf("cpu%u/online", i);
		_cleanup_close_ int fd = -EBADF;

		ASSERT_OK(mkdirat(dir, name, 0700));
		if (i == 0)
			continue;
		fd = openat(dir, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		ASSERT_OK(write_full(fd, i < on ? "1\n" : "0\n", 2));
	}
	return dir;
}

static char state(int dir, unsigned n)
{
	_cleanup_free_ char *path = xasprintf("cpu%u/online", n);
	_cleanup_close_ int fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	char c = '?';

	ASSERT_EQ(read(fd, &c, 1), 1);
	return c;
}

TEST(processors_come_and_go_in_order)
{
	_cleanup_close_ int dir = make(4, 1);
	uint32_t online;

	ASSERT_OK(cpus_set_online(dir, 3, &online));
	ASSERT_EQ(online, 3);
	ASSERT_EQ(state(dir, 1), '1');
	ASSERT_EQ(state(dir, 2), '1');
	ASSERT_EQ(state(dir, 3), '0');
	ASSERT_OK(cpus_set_online(dir, 2, &online));
	ASSERT_EQ(online, 2);
	ASSERT_EQ(state(dir, 1), '1');
	ASSERT_EQ(state(dir, 2), '0');
	ASSERT_OK(cpus_set_online(dir, 2, &online));
	ASSERT_EQ(online, 2);
}

TEST(there_are_no_more_than_there_are_and_no_fewer_than_one)
{
	_cleanup_close_ int dir = make(3, 3);
	uint32_t online;

	ASSERT_OK(cpus_set_online(dir, UINT32_MAX, &online));
	ASSERT_EQ(online, 3);
	ASSERT_OK(cpus_set_online(dir, 0, &online));
	ASSERT_EQ(online, 1);
	ASSERT_EQ(state(dir, 1), '0');
}

TEST(one_that_does_not_come_is_told_and_another_taken)
{
	_cleanup_close_ int dir = make(4, 1);
	uint32_t online;

	ASSERT_OK(unlinkat(dir, "cpu1/online", 0));
	ASSERT_OK(mkdirat(dir, "cpu1/online", 0700));
	ASSERT_EQ(cpus_set_online(dir, 2, &online), -EISDIR);
	ASSERT_EQ(online, 2);
	ASSERT_EQ(state(dir, 2), '1');
	ASSERT_EQ(state(dir, 3), '0');
}
