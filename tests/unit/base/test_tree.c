#include "base/file.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/memory.h"
#include "test.h"

static int dir(void)
{
	int fd = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT(fd >= 0);
	return fd;
}

static bool exists(int d, const char *name)
{
	return faccessat(d, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

TEST(what_is_not_there_is_removed)
{
	_cleanup_close_ int d = dir();

	ASSERT_OK(remove_tree_at(d, "none"));
	ASSERT_EQ(remove_tree_at(9999, "x"), -EBADF);
}

TEST(files_links_and_directories_go)
{
	_cleanup_close_ int d = dir();
	char name[32];

	ASSERT_OK(mkdir_parents_at(d, "t/a/b/c", 0700));
	ASSERT_OK(mkdir_parents_at(d, "t/empty", 0700));
	ASSERT_OK(mkfifoat(d, "t/a/fifo", 0600));
	ASSERT_OK(symlinkat("nowhere", d, "t/a/dangling"));
	for (int i = 0; i < 3000; i++) {
		snprintf(name, sizeof(name), "t/a/b/f%d", i);
		int fd = openat(d, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		ASSERT(fd >= 0);
		close(fd);
	}
	ASSERT_OK(remove_tree_at(d, "t"));
	ASSERT(!exists(d, "t"));
	ASSERT_OK(file_write_at(d, "f", "x", 1, 0600, 0));
	ASSERT_OK(remove_tree_at(d, "f"));
	ASSERT(!exists(d, "f"));
}

TEST(links_are_not_followed)
{
	_cleanup_close_ int d = dir();

	ASSERT_OK(mkdir_parents_at(d, "keep", 0700));
	ASSERT_OK(mkdir_parents_at(d, "keep/sub", 0700));
	ASSERT_OK(mkdir_parents_at(d, "t", 0700));
	ASSERT_OK(symlinkat("../keep", d, "t/link"));
	ASSERT_OK(symlinkat("keep", d, "top-link"));
	ASSERT_OK(remove_tree_at(d, "t"));
	ASSERT_OK(remove_tree_at(d, "top-link"));
	ASSERT(exists(d, "keep/sub"));
}

TEST(depth_costs_no_descriptors)
{
	_cleanup_close_ int d = dir();
	int at = fcntl(d, F_DUPFD_CLOEXEC, 3);

	/* Deeper than any descriptor limit, and than a path could name. */
	ASSERT_OK(mkdirat(d, "t", 0700));
	for (int i = 0; i < 5000; i++) {
		const char *name = i ? "a-directory-name" : "t";
		int next;

		if (i)
			ASSERT_OK(mkdirat(at, name, 0700));
		next = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ASSERT(next >= 0);
		close(at);
		at = next;
	}
	close(at);
	ASSERT_OK(remove_tree_at(d, "t"));
	ASSERT(!exists(d, "t"));
}

TEST(directories_without_permissions_go_too)
{
	_cleanup_close_ int d = dir();
	pid_t pid;
	int status;

	ASSERT_OK(fchmod(d, 0777));
	pid = fork();
	ASSERT(pid >= 0);
	if (pid == 0) {
		/* Root may do everything anyway: be somebody else. */
		if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
			_exit(10);
		if (mkdir_parents_at(d, "t/locked/deep/er", 0700) < 0 || file_write_at(d, "t2", "x", 1, 0600, 0) < 0)
			_exit(11);
		if (fchmodat(d, "t/locked/deep", 0500, 0) < 0 || fchmodat(d, "t/locked", 0, 0) < 0)
			_exit(12);
		_exit(remove_tree_at(d, "t") == 0 && !exists(d, "t") ? 0 : 13);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(WEXITSTATUS(status), 0);
}

TEST(a_mount_is_never_entered)
{
	_cleanup_close_ int d = dir();
	_cleanup_free_ char *path = xasprintf("%s/t/mnt", test_tmpdir());
	int r;

	ASSERT_OK(mkdir_parents_at(d, "t/mnt", 0700));
	if (mount("none", path, "tmpfs", 0, NULL) < 0)
		test_skip("cannot mount");
	ASSERT_OK(mkdir_parents_at(d, "t/mnt/inside", 0700));
	r = remove_tree_at(d, "t");
	ASSERT(r == -EBUSY || r == -EXDEV);
	ASSERT(exists(d, "t/mnt/inside"));
	ASSERT_OK(umount(path));
	ASSERT_OK(remove_tree_at(d, "t"));
}

TEST(names_in_a_directory_are_listed_and_no_link_is_followed)
{
	_cleanup_close_ int top = dir();
	_cleanup_strv_ struct strv names = {};

	ASSERT_OK(mkdirat(top, "listed", 0700));
	ASSERT_OK(mkdirat(top, "listed/one", 0700));
	ASSERT_OK(mkdirat(top, "listed/.two", 0700));
	ASSERT_OK(symlinkat("listed", top, "link"));
	ASSERT_OK(dir_list_at(top, "listed", &names));
	ASSERT_EQ(names.n, 2);
	ASSERT(strv_has(&names, "one") && strv_has(&names, ".two"));
	ASSERT_EQ(dir_list_at(top, "nothing", &names), -ENOENT);
	ASSERT(dir_list_at(top, "link", &names) < 0);
	ASSERT_EQ(names.n, 2);
}
