#include "base/new_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#include "test.h"

static const char *path_of(const char *name)
{
	static char text[300];

	snprintf(text, sizeof(text), "%s/%s", test_tmpdir(), name);
	return text;
}

/* Names in the test's directory. */
static unsigned entries(void)
{
	DIR *d = opendir(test_tmpdir());
	unsigned n = 0;
	struct dirent *e;

	while ((e = readdir(d)))
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

static void assert_content(const char *name, const char *expected)
{
	_cleanup_buf_ struct buf b = {};

	ASSERT_OK(file_read_at(AT_FDCWD, path_of(name), 100, &b));
	ASSERT_STREQ(b.p, expected);
}

TEST(it_is_there_when_it_is_finished)
{
	_cleanup_(new_file_done) struct new_file f = NEW_FILE_INIT;
	struct stat st;

	umask(0);
	ASSERT_OK(new_file_open(&f, path_of("one"), 0640));
	ASSERT_OK(write_full(f.fd, "text", 4));
	ASSERT(access(path_of("one"), F_OK) < 0);
	ASSERT_OK(new_file_finish(&f, false));
	assert_content("one", "text");
	ASSERT_EQ(stat(path_of("one"), &st), 0);
	ASSERT_EQ(st.st_mode & 07777, 0640);
	new_file_done(&f);
	new_file_done(&f);
	ASSERT_EQ(entries(), 1);
}

TEST(nothing_is_left_of_one_that_is_given_up)
{
	struct new_file f;

	ASSERT_OK(new_file_open(&f, path_of("one"), 0600));
	ASSERT_OK(write_full(f.fd, "text", 4));
	new_file_done(&f);
	ASSERT_EQ(entries(), 0);
}

TEST(what_is_there_goes_only_when_that_is_wanted)
{
	struct new_file f, g;

	ASSERT_OK(file_write_at(AT_FDCWD, path_of("one"), "old", 3, 0600, 0));
	ASSERT_OK(new_file_open(&f, path_of("one"), 0600));
	ASSERT_OK(write_full(f.fd, "new", 3));
	ASSERT_EQ(new_file_finish(&f, false), -EEXIST);
	assert_content("one", "old");
	ASSERT_OK(new_file_finish(&f, true));
	assert_content("one", "new");
	new_file_done(&f);
	/* A name in the working directory. */
	ASSERT_EQ(chdir(test_tmpdir()), 0);
	ASSERT_OK(new_file_open(&g, "two", 0600));
	ASSERT_OK(new_file_finish(&g, false));
	new_file_done(&g);
	assert_content("two", "");
	ASSERT_EQ(entries(), 2);
}

TEST(only_files_are_replaced)
{
	struct new_file f;

	ASSERT_EQ(new_file_open(&f, "/dev/null", 0600), -ENOTSUP);
	ASSERT_EQ(new_file_open(&f, test_tmpdir(), 0600), -EISDIR);
	ASSERT_EQ(new_file_open(&f, path_of("no/such"), 0600), -ENOENT);
	new_file_done(&f);
	ASSERT_EQ(mkfifo(path_of("fifo"), 0600), 0);
	ASSERT_EQ(new_file_open(&f, path_of("fifo"), 0600), -ENOTSUP);
	new_file_done(&f);
}
