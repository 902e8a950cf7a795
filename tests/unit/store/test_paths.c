#include "store/paths.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "test.h"

TEST(the_environment_says_where_programs_are)
{
	_cleanup_close_ int d = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *want = xasprintf("%s/skerry-x", test_tmpdir()), *path = NULL;

	setenv("SKERRY_LIBEXEC_DIR", test_tmpdir(), 1);
	ASSERT(!libexec_path("skerry-x"));
	ASSERT_OK(file_write_at(d, "skerry-x", "", 0, 0700, 0));
	path = libexec_path("skerry-x");
	ASSERT_STREQ(path, want);
}

TEST(a_program_that_is_not_installed_is_not_found)
{
	unsetenv("SKERRY_LIBEXEC_DIR");
	ASSERT(!libexec_path("skerry-no-such-program"));
}

TEST(the_environment_says_where_data_is)
{
	_cleanup_close_ int d = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	_cleanup_free_ char *want = xasprintf("%s/a/b", test_tmpdir()), *path = NULL;

	setenv("SKERRY_DATA_DIR", test_tmpdir(), 1);
	ASSERT(!data_path("a/b"));
	ASSERT_OK(mkdirat(d, "a", 0700));
	ASSERT_OK(mkdirat(d, "a/b", 0700));
	path = data_path("a/b");
	ASSERT_STREQ(path, want);
	unsetenv("SKERRY_DATA_DIR");
	ASSERT(!data_path("no/such/data"));
}
