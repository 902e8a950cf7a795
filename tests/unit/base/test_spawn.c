#include "base/spawn.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"
#include "test.h"

enum { LIMIT = 1 << 16 };

/* Runs a shell script, as tests may; returns what it wrote. */
static char *output(struct spawn *s, const char *script)
{
	const char *argv[] = { "sh", "-c", script, NULL }; /* lint: the children of these tests */
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf out = {};

	s->argv = argv;
	if (spawn_check(s, NULL, &out, LIMIT, 100 * NS_PER_SEC, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", script, e.msg);
	return buf_take(&out);
}

TEST(a_program_runs_with_pid_and_pidfd)
{
	const char *argv[] = { "sh", "-c", "exit 7", NULL }; /* lint: the children of these tests */
	struct spawn s = SPAWN_INIT;
	int pidfd, status;
	pid_t pid;

	s.argv = argv;
	ASSERT_OK(spawn_start(&s, &pid, &pidfd, NULL));
	ASSERT(pid > 0);
	ASSERT(fcntl(pidfd, F_GETFD) & FD_CLOEXEC);
	ASSERT_OK(pidfd_wait_exit(pidfd, UINT64_MAX));
	ASSERT_OK(pidfd_reap(pidfd, &status));
	ASSERT_EQ(WEXITSTATUS(status), 7);
}

TEST(what_is_not_installed_is_an_error_that_names_it)
{
	const char *argv[] = { "no-such-program", NULL }, *path[] = { "/no/such/program", NULL };
	_cleanup_error_ struct error e = {};
	struct spawn s = SPAWN_INIT;

	s.argv = argv;
	ASSERT_EQ(spawn_start(&s, NULL, NULL, &e), -ENOENT);
	ASSERT_EQ(e.kind, ERROR_UNAVAILABLE);
	ASSERT_STREQ(e.msg, "no-such-program: not installed");
	s.argv = path;
	ASSERT_EQ(spawn_start(&s, NULL, NULL, &e), -ENOENT);
	ASSERT_EQ(e.kind, ERROR_UNAVAILABLE);
	ASSERT_EQ(waitpid(-1, NULL, WNOHANG), -1);
	ASSERT_EQ(errno, ECHILD);
}

TEST(what_cannot_be_executed_is_an_error_too)
{
	_cleanup_free_ char *path = xasprintf("%s/data", test_tmpdir());
	const char *argv[] = { path, NULL };
	_cleanup_error_ struct error e = {};
	struct spawn s = SPAWN_INIT;

	s.argv = argv;
	close(open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	ASSERT_EQ(spawn_start(&s, NULL, NULL, &e), -EACCES);
	ASSERT_EQ(e.kind, ERROR_DENIED);
	ASSERT_CONTAINS(e.msg, "cannot execute");
	ASSERT_OK(chmod(path, 0700));
	ASSERT_EQ(spawn_start(&s, NULL, NULL, &e), -ENOEXEC);
}

TEST(a_failing_step_is_told)
{
	const char *argv[] = { "true", NULL };
	_cleanup_error_ struct error e = {};
	struct spawn s = SPAWN_INIT;

	s.argv = argv;
	s.cwd = "/no/such/directory";
	ASSERT_EQ(spawn_start(&s, NULL, NULL, &e), -ENOENT);
	ASSERT_STREQ(e.msg, "true: cannot change directory to '/no/such/directory': No such file or directory");
	s.cwd = NULL;
	s.fds = (struct spawn_fd[]){ { 9999, 5 } };
	s.n_fds = 1;
	ASSERT_EQ(spawn_start(&s, NULL, NULL, &e), -EBADF);
	ASSERT_CONTAINS(e.msg, "cannot pass descriptors");
	s.n_fds = 0;
	s.new_session = s.foreground_tty = true;
	ASSERT_EQ(spawn_start(&s, NULL, NULL, &e), -ENOTTY);
	ASSERT_CONTAINS(e.msg, "cannot take the terminal");
}

TEST(only_passed_descriptors_arrive)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *text = NULL;
	int inherited = fcntl(1, F_DUPFD, 50), high = fcntl(1, F_DUPFD, 700);

	ASSERT(inherited >= 50 && high >= 700);
	s.fds = (struct spawn_fd[]){ { 1, 7 }, { 2, 12 } };
	s.n_fds = 2;
	text = output(
		&s,
		"for i in 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 50 700; do test -e /proc/$$/fd/$i && echo $i; done; true");
	ASSERT_STREQ(text, "0\n1\n2\n7\n12\n");
}

/* Each descriptor takes the number of the next one: the naive order overwrites all but one. */
TEST(descriptors_can_swap_places)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *text = NULL;
	struct spawn_fd map[3];
	int fds[3];

	for (int i = 0; i < 3; i++) {
		int p[2];
		char c = (char)('a' + i);

		ASSERT_OK(pipe2(p, O_CLOEXEC));
		ASSERT_EQ(write(p[1], &c, 1), 1);
		close(p[1]);
		fds[i] = p[0];
	}
	for (int i = 0; i < 3; i++)
		map[i] = (struct spawn_fd){ fds[i], fds[(i + 1) % 3] };
	s.fds = map;
	s.n_fds = 3;
	{
		_cleanup_free_ char *script = xasprintf("cat <&%d; cat <&%d; cat <&%d", fds[0], fds[1], fds[2]);

		text = output(&s, script);
	}
	ASSERT_STREQ(text, "cab");
}

TEST(the_parents_own_descriptors_0_to_2_can_be_crossed)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *text = NULL;
	int p[2];

	ASSERT_OK(pipe2(p, O_CLOEXEC));
	/* The error stream is where the output was, and the other way round. */
	s.stdio[2] = p[1];
	s.fds = (struct spawn_fd[]){ { p[0], 1000 } };
	s.n_fds = 1;
	text = output(&s, "echo out; test -e /proc/self/fd/1000 || echo none");
	ASSERT_STREQ(text, "out\n");
}

TEST(standard_streams_are_null_by_default)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *text = output(&s, "readlink /proc/$$/fd/0 /proc/$$/fd/2; cat");

	ASSERT_CONTAINS(text, "/dev/null\n");
}

TEST(signals_are_reset)
{
	struct spawn s = SPAWN_INIT;
	/* Directly, as shells have signal masks of their own. */
	const char *argv[] = { "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status", NULL };
	_cleanup_buf_ struct buf text = {}, kept = {};
	sigset_t set, now;

	s.argv = argv;
	/* A shell ignores two of these for what it runs in the background, nohup(1) the third, tests included. */
	signal(SIGINT, SIG_DFL);
	signal(SIGQUIT, SIG_DFL);
	signal(SIGHUP, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR2, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGUSR1);
	ASSERT_OK(sigprocmask(SIG_BLOCK, &set, NULL));
	ASSERT_OK(spawn_check(&s, NULL, &text, LIMIT, 0, NULL));
	ASSERT_STREQ(text.p, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	s.mask_signals = true;
	ASSERT_OK(spawn_check(&s, NULL, &kept, LIMIT, 0, NULL));
	ASSERT_STREQ(kept.p, "SigBlk:\t0000000000004200\nSigIgn:\t0000000000001800\n");
	s.mask_signals = false;
	s.patient = true;
	buf_truncate(&kept, 0);
	ASSERT_OK(spawn_check(&s, NULL, &kept, LIMIT, 0, NULL));
	ASSERT_STREQ(kept.p, "SigBlk:\t0000000000004003\nSigIgn:\t0000000000000000\n");
	s.patient = false;
	s.keep_hangup = true;
	buf_truncate(&kept, 0);
	ASSERT(!signal_ignored(SIGHUP));
	ASSERT_OK(spawn_check(&s, NULL, &kept, LIMIT, 0, NULL));
	ASSERT_STREQ(kept.p, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
	signal(SIGHUP, SIG_IGN);
	ASSERT(signal_ignored(SIGHUP));
	buf_truncate(&kept, 0);
	ASSERT_OK(spawn_check(&s, NULL, &kept, LIMIT, 0, NULL));
	ASSERT_STREQ(kept.p, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000001\n");
	ASSERT_OK(sigprocmask(SIG_BLOCK, NULL, &now));
	ASSERT(sigismember(&now, SIGTERM) && !sigismember(&now, SIGHUP));
}

TEST(environment_and_directory_are_the_given_ones)
{
	const char *env[] = { "ONLY=this", NULL };
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *text = NULL, *inherited = NULL;

	setenv("FROM_PARENT", "yes", 1);
	inherited = output(&s, "echo $FROM_PARENT");
	ASSERT_STREQ(inherited, "yes\n");
	s.env = env;
	s.cwd = "/proc";
	text = output(&s, "echo $ONLY-$FROM_PARENT; pwd");
	ASSERT_STREQ(text, "this-\n/proc\n");
}

TEST(privileges_are_dropped_for_good)
{
	const gid_t groups[] = { 65533 };
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *text = NULL;

	if (geteuid() != 0)
		test_skip("not root");
	s.drop_privileges = true;
	s.uid = s.gid = 65534;
	s.groups = groups;
	s.n_groups = 1;
	text = output(&s, "grep -E '^(Uid|Gid|Groups)' /proc/self/status");
	ASSERT_STREQ(text, "Uid:\t65534\t65534\t65534\t65534\nGid:\t65534\t65534\t65534\t65534\nGroups:\t65533 \n");
}

TEST(what_it_mounts_goes_with_it)
{
	_cleanup_free_ char *dir = xasprintf("%s/mounted", test_tmpdir()), *script = NULL, *file = NULL;
	_cleanup_free_ char *seen = NULL;
	struct spawn s = SPAWN_INIT;

	if (geteuid() != 0)
		test_skip("not root");
	ASSERT_OK(mkdir(dir, 0700));
	script = xasprintf("mount -t tmpfs none '%s' && echo there >'%s/file' && cat '%s/file'", dir, dir, dir);
	file = xasprintf("%s/file", dir);
	s.own_mounts = true;
	seen = output(&s, script);
	ASSERT_STREQ(seen, "there\n");
	ASSERT_EQ(access(file, F_OK), -1);
	ASSERT_OK(rmdir(dir));
}

TEST(a_session_of_its_own)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *text = NULL;

	s.new_session = true;
	text = output(&s, "set -- $(cut -d' ' -f1,6 /proc/$$/stat); test $1 = $2 && echo leader");
	ASSERT_STREQ(text, "leader\n");
}

TEST(a_terminal_becomes_the_controlling_one)
{
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *text = NULL;
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave;

	ASSERT(master >= 0);
	ASSERT_OK(grantpt(master));
	ASSERT_OK(unlockpt(master));
	slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT(slave >= 0);
	s.stdio[0] = slave;
	s.new_session = s.foreground_tty = true;
	text = output(&s, "tty </dev/tty >/dev/null && echo yes");
	ASSERT_STREQ(text, "yes\n");
}

TEST(a_child_dies_with_its_parent_when_told_to)
{
	int p[2], pidfd;
	pid_t pid, grandchild;

	ASSERT_OK(pipe2(p, O_CLOEXEC));
	pid = fork();
	if (pid == 0) {
		const char *argv[] = { "sleep", "1000", NULL };
		struct spawn s = SPAWN_INIT;

		s.argv = argv;
		s.death_signal = SIGKILL;
		if (spawn_start(&s, &grandchild, NULL, NULL) < 0)
			_exit(1);
		(void)write_full(p[1], &grandchild, sizeof(grandchild));
		pause();
		_exit(0);
	}
	ASSERT_OK(read_full(p[0], &grandchild, sizeof(grandchild)));
	{
		struct process_id id;

		ASSERT_OK(process_identify(grandchild, &id));
		pidfd = process_open(&id);
		ASSERT_OK(pidfd);
	}
	ASSERT_OK(kill(pid, SIGKILL));
	ASSERT_EQ(waitpid(pid, NULL, 0), pid);
	ASSERT_OK(pidfd_wait_exit(pidfd, clock_monotonic_ns() + 100 * NS_PER_SEC));
}

TEST(few_descriptors_left_is_an_error_and_not_a_hang)
{
	const char *argv[] = { "true", NULL };
	struct rlimit few = { 8, 8 };
	_cleanup_error_ struct error e = {};
	struct spawn s = SPAWN_INIT;
	int fd;

	s.argv = argv;
	ASSERT_OK(setrlimit(RLIMIT_NOFILE, &few));
	while ((fd = fcntl(1, F_DUPFD_CLOEXEC, 3)) >= 0)
		;
	ASSERT_EQ(spawn_start(&s, NULL, NULL, &e), -EMFILE);
	for (fd = 3; fd < 8; fd++)
		close(fd);
}

TEST(programs_are_found_in_absolute_directories_only)
{
	_cleanup_free_ char *dir = xstrdup(test_tmpdir()), *path = xasprintf("%s/tool", dir), *found = NULL,
			    *sbin = NULL;
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	close(fd);
	ASSERT_OK(chdir(dir));
	setenv("PATH", ".::relative", 1);
	ASSERT(!program_find("tool"));
	setenv("PATH", dir, 1);
	ASSERT(!program_find("tool"));
	ASSERT_OK(chmod(path, 0700));
	found = program_find("tool");
	ASSERT_STREQ(found, path);
	/* Administrators' programs are found for users too. */
	sbin = program_find("chroot");
	ASSERT(sbin && strstr(sbin, "sbin/chroot"));
	ASSERT(!program_find(""));
	ASSERT_OK(mkdirat(AT_FDCWD, "directory", 0700));
	ASSERT(!program_find("directory"));
}

struct recorded {
	pid_t pid;
	int answer;
	bool ran; /* the program had begun before it was on record */
	const char *trace;
};

static int record(pid_t pid, void *data)
{
	struct recorded *rec = data;

	rec->pid = pid;
	rec->ran = access(rec->trace, F_OK) == 0;
	return rec->answer;
}

TEST(a_program_waits_until_its_pid_is_on_record)
{
	_cleanup_free_ char *trace = xasprintf("%s/ran", test_tmpdir());
	const char *argv[] = { "touch", trace, NULL };
	struct recorded rec = { .trace = trace };
	struct spawn s = SPAWN_INIT;
	int pidfd, status;
	pid_t pid;

	s.argv = argv;
	s.on_pid = record;
	s.on_pid_data = &rec;
	ASSERT_OK(spawn_start(&s, &pid, &pidfd, NULL));
	ASSERT_EQ(rec.pid, pid);
	ASSERT(!rec.ran);
	ASSERT_OK(pidfd_wait_exit(pidfd, UINT64_MAX));
	ASSERT_OK(pidfd_reap(pidfd, &status));
	ASSERT_EQ(status, 0);
	ASSERT_OK(access(trace, F_OK));
}

TEST(a_program_that_cannot_be_recorded_does_not_run)
{
	_cleanup_free_ char *trace = xasprintf("%s/ran", test_tmpdir());
	const char *argv[] = { "touch", trace, NULL };
	struct recorded rec = { .trace = trace, .answer = -ENOSPC };
	_cleanup_error_ struct error e = {};
	struct spawn s = SPAWN_INIT;

	s.argv = argv;
	s.on_pid = record;
	s.on_pid_data = &rec;
	ASSERT_EQ(spawn_start(&s, NULL, NULL, &e), -ENOSPC);
	ASSERT_CONTAINS(e.msg, "touch");
	ASSERT(access(trace, F_OK) < 0);
	ASSERT_EQ(waitpid(-1, NULL, WNOHANG), -1);
	ASSERT_EQ(errno, ECHILD);
}
