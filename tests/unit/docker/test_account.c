#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "docker/account.h"
#include "test.h"

static char *passwd_with(const char *text)
{
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(file_write_at(dir, "passwd", text, strlen(text), 0664, 0));
	return xasprintf("%s/passwd", test_tmpdir());
}

static void becomes(const char *before, const char *after)
{
	_cleanup_free_ char *path = passwd_with(before);
	_cleanup_buf_ struct buf b = {};

	ASSERT_OK(account_provide(path, 4711, 0));
	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &b));
	ASSERT_STREQ(b.p, after);
}

#define ENTRY "user4711:x:4711:0::/disks:/bin/sh\n"

TEST(who_is_not_there_is_added)
{
	becomes("root:x:0:0:root:/root:/bin/sh\n", "root:x:0:0:root:/root:/bin/sh\n" ENTRY);
	becomes("root:x:0:0:root:/root:/bin/sh", "root:x:0:0:root:/root:/bin/sh\n" ENTRY);
	becomes("", ENTRY);
}

TEST(another_column_or_a_longer_number_is_somebody_else)
{
	becomes("4711:4711:1:4711:4711:4711:4711\n", "4711:4711:1:4711:4711:4711:4711\n" ENTRY);
	becomes("a:x:47110:0::/:\nb:x:471:0::/:\nc\n:\ne:x\n", "a:x:47110:0::/:\nb:x:471:0::/:\nc\n:\ne:x\n" ENTRY);
}

TEST(who_is_there_stays_as_they_are)
{
	becomes("root:x:0:0::/:/bin/sh\nme:x:4711:1:::\n", "root:x:0:0::/:/bin/sh\nme:x:4711:1:::\n");
	becomes(ENTRY, ENTRY);
}

TEST(a_file_that_is_not_there_or_is_a_link_is_an_error)
{
	_cleanup_free_ char *path = passwd_with("root:x:0:0::/:/bin/sh\n"), *link = xasprintf("%s/link", test_tmpdir());

	ASSERT_EQ(account_provide("/nonexistent/passwd", 4711, 0), -ENOENT);
	ASSERT_OK(symlink(path, link));
	ASSERT_EQ(account_provide(link, 4711, 0), -ELOOP);
}
