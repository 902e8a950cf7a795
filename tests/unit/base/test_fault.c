#include "base/fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/memory.h"
#include "test.h"

TEST(without_a_request_nothing_happens)
{
	unsetenv("SKERRY_FAULT");
	ASSERT_OK(fault_point("a"));
	setenv("SKERRY_FAULT", "", 1);
	ASSERT_OK(fault_point("a"));
}

TEST(an_errno_is_returned_at_the_nth_passing)
{
	setenv("SKERRY_FAULT", "file.write:3=ENOSPC", 1);
	ASSERT_OK(fault_point("file.write"));
	ASSERT_OK(fault_point("file.rename"));
	ASSERT_OK(fault_point("file.write"));
	ASSERT_OK(fault_point("file"));
	ASSERT_EQ(fault_point("file.write"), -ENOSPC);
	ASSERT_OK(fault_point("file.write"));
}

TEST(without_a_number_it_is_the_first)
{
	setenv("SKERRY_FAULT", "a=EIO", 1);
	ASSERT_OK(fault_point("ab"));
	ASSERT_EQ(fault_point("a"), -EIO);
	ASSERT_OK(fault_point("a"));
}

TEST(kill_is_not_to_be_caught)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		setenv("SKERRY_FAULT", "a=kill", 1);
		(void)fault_point("a");
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

TEST(stop_stops)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		setenv("SKERRY_FAULT", "a=stop", 1);
		_exit(fault_point("a") == 0 ? 0 : 1);
	}
	ASSERT_EQ(waitpid(pid, &status, WUNTRACED), pid);
	ASSERT(WIFSTOPPED(status));
	ASSERT_OK(kill(pid, SIGCONT));
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

TEST(a_request_that_means_nothing_aborts)
{
	static const char *const bad[] = { "a", "a=EWHATEVER", "a:0=EIO", "a:x=EIO", "a:=EIO" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0) {
			close(STDERR_FILENO);
			setenv("SKERRY_FAULT", bad[i], 1);
			(void)fault_point("a");
			_exit(0);
		}
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	}
}

TEST(passed_labels_are_logged)
{
	_cleanup_free_ char *path = xasprintf("%s/log", test_tmpdir());
	_cleanup_buf_ struct buf b = {};

	setenv("SKERRY_FAULT_LOG", path, 1);
	setenv("SKERRY_FAULT", "b=EIO", 1);
	(void)fault_point("a");
	(void)fault_point("b");
	(void)fault_point("a");
	ASSERT_OK(file_read_at(AT_FDCWD, path, 1000, &b));
	ASSERT_STREQ(b.p, "a\nb\na\n");
}

static const char *const write_labels[] = { "file.create", "file.write", "file.rename", "file.renamed" };

/* How many names there are, and whether one of them is temporary. */
static unsigned names(int d, bool *ret_temporary)
{
	int fd = openat(d, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fdopendir(fd);
	const struct dirent *e;
	unsigned n = 0;

	ASSERT(dir);
	*ret_temporary = false;
	while ((e = readdir(dir))) {
		n += e->d_name[0] != '.' || after_prefix(e->d_name, ".tmp-");
		*ret_temporary |= after_prefix(e->d_name, ".tmp-") != NULL;
	}
	closedir(dir);
	return n;
}

TEST(a_write_that_fails_anywhere_leaves_old_or_new_and_nothing_else)
{
	int d = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; i < ARRAY_SIZE(write_labels); i++)
		for (unsigned flags = 0; flags < 2; flags++) {
			_cleanup_free_ char *spec = xasprintf("%s=ENOSPC", write_labels[i]);
			_cleanup_buf_ struct buf b = {};
			bool temporary;
			pid_t pid;
			int status;

			unsetenv("SKERRY_FAULT");
			ASSERT_OK(file_write_at(d, "f", "old", 3, 0600, 0));
			pid = fork();
			if (pid == 0) {
				setenv("SKERRY_FAULT", spec, 1);
				_exit(file_write_at(d, "f", "new", 3, 0600, flags) == -ENOSPC ? 0 : 1);
			}
			ASSERT_EQ(waitpid(pid, &status, 0), pid);
			ASSERT_EQ(status, 0);
			ASSERT_EQ(names(d, &temporary), 1);
			ASSERT(!temporary);
			ASSERT_OK(file_read_at(d, "f", 10, &b));
			ASSERT_STREQ(b.p, streq(write_labels[i], "file.renamed") ? "new" : "old");
		}
}

TEST(a_write_killed_anywhere_leaves_old_or_new_whole)
{
	int d = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	for (size_t i = 0; i < ARRAY_SIZE(write_labels); i++) {
		_cleanup_free_ char *spec = xasprintf("%s=kill", write_labels[i]);
		_cleanup_buf_ struct buf b = {};
		bool temporary;
		pid_t pid;
		int status;

		unsetenv("SKERRY_FAULT");
		ASSERT_OK(file_write_at(d, "f", "old", 3, 0600, 0));
		pid = fork();
		if (pid == 0) {
			setenv("SKERRY_FAULT", spec, 1);
			(void)file_write_at(d, "f", "new", 3, 0600, FILE_DURABLE);
			_exit(0);
		}
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT(WIFSIGNALED(status));
		ASSERT_OK(file_read_at(d, "f", 10, &b));
		ASSERT_STREQ(b.p, streq(write_labels[i], "file.renamed") ? "new" : "old");
		ASSERT_OK(file_remove_temporaries(d));
		ASSERT_EQ(names(d, &temporary), 1);
	}
}
