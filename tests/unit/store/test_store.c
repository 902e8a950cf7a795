#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "test.h"

static void clear_environment(void)
{
	unsetenv("SKERRY_HOME");
	unsetenv("SKERRY_RUN_DIR");
	unsetenv("XDG_DATA_HOME");
	unsetenv("XDG_CONFIG_HOME");
	unsetenv("XDG_CACHE_HOME");
	unsetenv("XDG_RUNTIME_DIR");
}

/* Runs the rest as somebody who is not root, in a child; true in that child. */
static bool as_user(pid_t *pid)
{
	ASSERT_OK(chmod(test_tmpdir(), 0777));
	*pid = fork();
	ASSERT(*pid >= 0);
	if (*pid)
		return false;
	if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setgid(54321) < 0 || setuid(54321) < 0))
		_exit(10);
	return true;
}

static void expect_success(pid_t pid)
{
	int status;

	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

static void check_mode(const char *path)
{
	struct stat st;

	ASSERT_OK(stat(path, &st));
	ASSERT(S_ISDIR(st.st_mode));
	ASSERT_EQ(st.st_mode & 0777, 0700);
}

TEST(skerry_home_holds_everything)
{
	_cleanup_free_ char *home = xasprintf("%s/a/b", test_tmpdir()), *run = xasprintf("%s/run", home);
	_cleanup_free_ char *machines = xasprintf("%s/machines", home), *config = xasprintf("%s/config", home);
	_cleanup_store_ struct store s = {}, again = {};

	setenv("SKERRY_HOME", home, 1);
	umask(022);
	ASSERT_OK(store_open(&s, NULL));
	ASSERT_STREQ(s.home_path, home);
	ASSERT_STREQ(s.run_path, run);
	ASSERT_STREQ(s.config_path, config);
	check_mode(home);
	check_mode(run);
	check_mode(config);
	check_mode(machines);
	ASSERT(fcntl(s.home_fd, F_GETFD) & FD_CLOEXEC);
	ASSERT(fcntl(s.kernels_fd, F_GETFD) & FD_CLOEXEC);
	ASSERT_OK(store_open(&again, NULL));
}

TEST(what_belongs_to_this_boot_can_be_elsewhere)
{
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir()), *run = xasprintf("%s/run", test_tmpdir());
	_cleanup_store_ struct store s = {}, ignored = {};

	setenv("SKERRY_HOME", home, 1);
	setenv("SKERRY_RUN_DIR", run, 1);
	ASSERT_OK(store_open(&s, NULL));
	ASSERT_STREQ(s.home_path, home);
	ASSERT_STREQ(s.run_path, run);
	check_mode(run);
	setenv("SKERRY_RUN_DIR", "relative/is/ignored", 1);
	ASSERT_OK(store_open(&ignored, NULL));
	ASSERT(after_prefix(ignored.run_path, home));
}

TEST(a_relative_home_is_made_absolute)
{
	_cleanup_free_ char *want = xasprintf("%s/here", test_tmpdir());
	_cleanup_store_ struct store s = {};

	ASSERT_OK(chdir(test_tmpdir()));
	setenv("SKERRY_HOME", "here", 1);
	ASSERT_OK(store_open(&s, NULL));
	ASSERT_STREQ(s.home_path, want);
	/* For the programs that are started elsewhere. */
	ASSERT_STREQ(getenv("SKERRY_HOME"), want);
}

TEST(a_user_follows_xdg)
{
	const char *t = test_tmpdir();
	_cleanup_free_ char *data = xasprintf("%s/data", t), *run = xasprintf("%s/run", t),
			    *want = xasprintf("%s/data/skerry", t);
	_cleanup_free_ char *config = xasprintf("%s/.config/skerry", t), *cache = xasprintf("%s/.cache/skerry", t);
	pid_t pid;

	clear_environment();
	if (as_user(&pid)) {
		_cleanup_store_ struct store s = {};

		setenv("HOME", t, 1);
		setenv("XDG_DATA_HOME", data, 1);
		setenv("XDG_RUNTIME_DIR", run, 1);
		setenv("XDG_CACHE_HOME", "relative/is/ignored", 1);
		ASSERT_OK(store_open(&s, NULL));
		ASSERT_STREQ(s.home_path, want);
		ASSERT_STREQ(s.config_path, config);
		ASSERT_STREQ(s.cache_path, cache);
		ASSERT_EQ(strncmp(s.run_path, run, strlen(run)), 0);
		check_mode(config);
		store_done(&s);
		_exit(0);
	}
	expect_success(pid);
}

TEST(without_a_runtime_directory_there_is_one_in_tmp_that_is_ours_alone)
{
	const char *t = test_tmpdir();
	pid_t pid;

	clear_environment();
	if (geteuid() != 0)
		test_skip("needs a user without /run/user");
	if (as_user(&pid)) {
		_cleanup_error_ struct error e = {};
		_cleanup_store_ struct store s = {};

		setenv("HOME", t, 1);
		ASSERT_OK(store_open(&s, &e));
		ASSERT_STREQ(s.run_path, "/tmp/skerry-54321");
		check_mode(s.run_path);
		/* A machine that was started before the login is found after it. */
		ASSERT_OK(mkdirat(s.run_fd, "web", 0700));
		store_done(&s);
		setenv("XDG_RUNTIME_DIR", t, 1);
		ASSERT_OK(store_open(&s, &e));
		ASSERT_STREQ(s.run_path, "/tmp/skerry-54321");
		ASSERT_OK(unlinkat(s.run_fd, "web", AT_REMOVEDIR));
		store_done(&s);
		ASSERT_OK(store_open(&s, &e));
		ASSERT(after_prefix(s.run_path, t));
		store_done(&s);
		unsetenv("XDG_RUNTIME_DIR");
		/* Others could reach in. */
		ASSERT_OK(chmod("/tmp/skerry-54321", 0770));
		ASSERT_EQ(store_open(&s, &e), -EPERM);
		ASSERT_EQ(error_exit_status(&e), 77);
		ASSERT_CONTAINS(e.msg, "/tmp/skerry-54321");
		ASSERT_OK(rmdir("/tmp/skerry-54321"));
		/* A link to somewhere else. */
		ASSERT_OK(symlink(t, "/tmp/skerry-54321"));
		ASSERT(store_open(&s, &e) < 0);
		ASSERT_OK(unlink("/tmp/skerry-54321"));
		_exit(0);
	}
	expect_success(pid);
	/* Somebody else was there first. */
	ASSERT_OK(mkdir("/tmp/skerry-54321", 0700));
	if (as_user(&pid)) {
		_cleanup_store_ struct store s = {};

		setenv("HOME", t, 1);
		_exit(store_open(&s, NULL) < 0 ? 0 : 1);
	}
	expect_success(pid);
	ASSERT_OK(rmdir("/tmp/skerry-54321"));
}

/* What su, runuser and `sudo -E` leave in the environment, and a place that nobody has made. */
TEST(a_runtime_directory_of_somebody_else_is_not_used)
{
	const char *t = test_tmpdir();
	_cleanup_free_ char *foreign = xasprintf("%s/foreign", t), *open = xasprintf("%s/open", t),
			    *inside = xasprintf("%s/open/skerry", t);
	const char *unusable[] = { foreign, open, "/proc/no/such" };
	pid_t pid;

	clear_environment();
	if (geteuid() != 0)
		test_skip("needs a second user");
	ASSERT_OK(mkdir(foreign, 0700));
	ASSERT_OK(mkdir(open, 0700));
	ASSERT_OK(mkdir(inside, 0700));
	ASSERT_OK(chmod(open, 0755));
	ASSERT_OK(chmod(inside, 0755));
	if (as_user(&pid)) {
		setenv("HOME", t, 1);
		for (size_t i = 0; i < ARRAY_SIZE(unusable); i++) {
			_cleanup_store_ struct store s = {};
			_cleanup_error_ struct error e = {};

			setenv("XDG_RUNTIME_DIR", unusable[i], 1);
			ASSERT_OK(store_open(&s, &e));
			ASSERT_STREQ(s.run_path, "/tmp/skerry-54321");
		}
		ASSERT_OK(rmdir("/tmp/skerry-54321"));
		_exit(0);
	}
	expect_success(pid);
}

TEST(what_only_reads_needs_no_place_for_configuration)
{
	const char *t = test_tmpdir();
	_cleanup_free_ char *closed = xasprintf("%s/closed", t), *run = xasprintf("%s/run", t);
	pid_t pid;

	clear_environment();
	if (geteuid() != 0)
		test_skip("needs a second user");
	ASSERT_OK(mkdir(closed, 0700));
	if (as_user(&pid)) {
		_cleanup_error_ struct error e = {};
		_cleanup_store_ struct store s = {};

		setenv("HOME", t, 1);
		setenv("XDG_RUNTIME_DIR", run, 1);
		setenv("XDG_CONFIG_HOME", closed, 1);
		setenv("XDG_CACHE_HOME", closed, 1);
		ASSERT_OK(store_open(&s, &e));
		ASSERT_EQ(s.config_fd, -EBADF);
		ASSERT_EQ(s.cache_fd, -EBADF);
		ASSERT_EQ(store_config(&s, &e), -EACCES);
		ASSERT_EQ(error_exit_status(&e), 77);
		ASSERT_CONTAINS(e.msg, closed);
		store_done(&s);
		_exit(0);
	}
	expect_success(pid);
}

TEST(what_cannot_be_created_is_named)
{
	_cleanup_error_ struct error e = {}, f = {};
	struct store s;
	pid_t pid;

	clear_environment();
	setenv("SKERRY_HOME", "/proc/no/such", 1);
	ASSERT_EQ(store_open(&s, &e), -ENOENT);
	ASSERT_EQ(error_exit_status(&e), 73);
	ASSERT_CONTAINS(e.msg, "/proc/no/such");
	setenv("SKERRY_HOME", "/dev/null/x", 1);
	ASSERT_EQ(store_open(&s, &f), -ENOTDIR);
	ASSERT_EQ(error_exit_status(&f), 73);
	if (as_user(&pid)) {
		_cleanup_error_ struct error g = {};

		setenv("SKERRY_HOME", "/root/x", 1);
		ASSERT_EQ(store_open(&s, &g), -EACCES);
		ASSERT_EQ(error_exit_status(&g), 77);
		ASSERT_CONTAINS(g.hint, "SKERRY_HOME");
		error_done(&g);
		_exit(0);
	}
	expect_success(pid);
}
