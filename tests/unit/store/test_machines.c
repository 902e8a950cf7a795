#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "base/clock.h"
#include "base/file.h"
#include "test.h"

static void open_store(struct store *s)
{
	setenv("SKERRY_HOME", test_tmpdir(), 1);
	ASSERT_OK(store_open(s, NULL));
}

static struct name named(const char *s)
{
	struct name n;

	ASSERT_OK(name_parse(s, "machine name", &n, NULL));
	return n;
}

/* So that the other process is likely waiting by now: the tests hold in either case. */
static void give_time(void)
{
	usleep(30000); /* lint: nothing tells from outside that a process waits for a lock */
}

TEST(a_machine_is_created_once)
{
	_cleanup_store_ struct store s = {};
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int d = -EBADF, again = -EBADF;
	struct name web = named("web");
	struct stat st;

	open_store(&s);
	ASSERT_EQ(store_machine_open(&s, &web, &e), -ENOENT);
	ASSERT_STREQ(e.msg, "no machine named 'web'");
	ASSERT_EQ(e.kind, ERROR_NOT_FOUND);
	ASSERT_EQ(store_machine_open(&s, &web, NULL), -ENOENT);
	d = store_machine_create(&s, &web, NULL);
	ASSERT_OK(d);
	ASSERT_OK(fstat(d, &st));
	ASSERT_EQ(st.st_mode & 0777, 0700);
	ASSERT_EQ(store_machine_create(&s, &web, &e), -EEXIST);
	ASSERT_STREQ(e.msg, "a machine named 'web' exists");
	ASSERT_EQ(error_exit_status(&e), 73);
	again = store_machine_open(&s, &web, NULL);
	ASSERT_OK(again);
	ASSERT(fcntl(again, F_GETFD) & FD_CLOEXEC);
}

TEST(a_link_is_no_machine)
{
	_cleanup_store_ struct store s = {};
	struct name x = named("x"), f = named("f");

	open_store(&s);
	ASSERT_OK(symlinkat("/etc", s.machines_fd, "x"));
	ASSERT_OK(file_write_at(s.machines_fd, "f", "", 0, 0600, 0));
	ASSERT_EQ(store_machine_open(&s, &x, NULL), -ENOENT);
	ASSERT_EQ(store_machine_open(&s, &f, NULL), -ENOENT);
	ASSERT_EQ(store_machine_create(&s, &x, NULL), -EEXIST);
}

TEST(names_are_sorted_and_only_machines)
{
	_cleanup_store_ struct store s = {};
	_cleanup_strv_ struct strv names = {};
	_cleanup_close_ int lock = -EBADF;

	open_store(&s);
	ASSERT_OK(store_machine_names(&s, &names, NULL));
	ASSERT_EQ(names.n, 0);
	ASSERT_OK(mkdirat(s.machines_fd, "b", 0700));
	ASSERT_OK(mkdirat(s.machines_fd, "a", 0700));
	ASSERT_OK(mkdirat(s.machines_fd, "lock", 0700));
	ASSERT_OK(mkdirat(s.machines_fd, "B2", 0700));
	ASSERT_OK(mkdirat(s.machines_fd, ".tmp-deleted", 0700));
	ASSERT_OK(mkdirat(s.machines_fd, "with space", 0700));
	ASSERT_OK(file_write_at(s.machines_fd, "file", "", 0, 0600, 0));
	ASSERT_OK(symlinkat("a", s.machines_fd, "link"));
	lock = store_names_lock(&s, 0, NULL);
	ASSERT_OK(lock);
	for (int i = 0; i < 2; i++) {
		ASSERT_OK(store_machine_names(&s, &names, NULL));
		ASSERT_EQ(names.n, 4);
		ASSERT_STREQ(names.items[0], "B2");
		ASSERT_STREQ(names.items[1], "a");
		ASSERT_STREQ(names.items[2], "b");
		ASSERT_STREQ(names.items[3], "lock");
		strv_done(&names);
	}
}

TEST(a_thousand_machines_are_listed_quickly)
{
	_cleanup_store_ struct store s = {};
	_cleanup_strv_ struct strv names = {};
	struct timespec began, ended;
	char name[16];

	open_store(&s);
	for (int i = 0; i < 1000; i++) {
		snprintf(name, sizeof(name), "m%04d", i);
		ASSERT_OK(mkdirat(s.machines_fd, name, 0700));
	}
	ASSERT_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &began), 0);
	ASSERT_OK(store_machine_names(&s, &names, NULL));
	ASSERT_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ended), 0);
	ASSERT_EQ(names.n, 1000);
	ASSERT_STREQ(names.items[999], "m0999");
	/* Work, not time: the tests share the host with others. */
	ASSERT(ended.tv_sec - began.tv_sec < 5);
}

TEST(the_run_directory_appears_when_asked_for)
{
	_cleanup_store_ struct store s = {};
	_cleanup_close_ int a = -EBADF, b = -EBADF;
	struct name web = named("web");
	struct stat st;

	open_store(&s);
	a = store_machine_run_dir(&s, &web, NULL);
	ASSERT_OK(a);
	b = store_machine_run_dir(&s, &web, NULL);
	ASSERT_OK(b);
	ASSERT_OK(fstatat(s.run_fd, "web", &st, 0));
	ASSERT_EQ(st.st_mode & 0777, 0700);
	ASSERT_OK(symlinkat("/etc", s.run_fd, "evil"));
	web = named("evil");
	ASSERT(store_machine_run_dir(&s, &web, NULL) < 0);
}

TEST(a_machine_is_locked_by_one)
{
	_cleanup_store_ struct store s = {};
	_cleanup_error_ struct error e = {};
	_cleanup_close_ int d = -EBADF, lock = -EBADF, other = -EBADF;
	struct name web = named("web"), none = named("none"), mail = named("mail");

	open_store(&s);
	d = store_machine_create(&s, &web, NULL);
	ASSERT_OK(d);
	lock = store_machine_lock(&s, &web, 0, NULL);
	ASSERT_OK(lock);
	ASSERT_EQ(store_machine_lock(&s, &web, 0, &e), -EBUSY);
	ASSERT_CONTAINS(e.msg, "machine 'web' is in use by pid ");
	ASSERT_EQ(error_exit_status(&e), 75);
	ASSERT_EQ(store_machine_lock(&s, &none, 0, &e), -ENOENT);
	ASSERT_STREQ(e.msg, "no machine named 'none'");
	ASSERT_OK(mkdirat(s.machines_fd, "mail", 0700));
	other = store_machine_lock(&s, &mail, 0, NULL);
	ASSERT_OK(other);
}

TEST(a_machine_made_anew_while_waiting_is_another)
{
	_cleanup_store_ struct store s = {};
	struct name web = named("web");
	int lock, p[2], status;
	pid_t pid;
	char c;

	open_store(&s);
	close(store_machine_create(&s, &web, NULL));
	lock = store_machine_lock(&s, &web, 0, NULL);
	ASSERT_OK(lock);
	ASSERT_OK(pipe2(p, O_CLOEXEC));
	pid = fork();
	if (pid == 0) {
		close(lock);
		(void)write_full(p[1], "x", 1);
		lock = store_machine_lock(&s, &web, 100 * NS_PER_SEC, NULL);
		_exit(lock >= 0 && store_machine_lock(&s, &web, 0, NULL) == -EBUSY ? 0 : 1);
	}
	ASSERT_OK(read_full(p[0], &c, 1));
	give_time();
	/* As delete does: away under a temporary name first. */
	ASSERT_OK(renameat(s.machines_fd, "web", s.machines_fd, ".tmp-web"));
	close(store_machine_create(&s, &web, NULL));
	close(lock);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

TEST(a_machine_deleted_while_waiting_is_gone)
{
	_cleanup_store_ struct store s = {};
	struct name web = named("web");
	int lock, p[2], status;
	pid_t pid;
	char c;

	open_store(&s);
	close(store_machine_create(&s, &web, NULL));
	lock = store_machine_lock(&s, &web, 0, NULL);
	ASSERT_OK(pipe2(p, O_CLOEXEC));
	pid = fork();
	if (pid == 0) {
		close(lock);
		(void)write_full(p[1], "x", 1);
		_exit(store_machine_lock(&s, &web, 100 * NS_PER_SEC, NULL) == -ENOENT ? 0 : 1);
	}
	ASSERT_OK(read_full(p[0], &c, 1));
	give_time();
	ASSERT_OK(remove_tree_at(s.machines_fd, "web"));
	close(lock);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}
