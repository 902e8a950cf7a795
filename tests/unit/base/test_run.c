#include "base/spawn.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/parse.h"
#include "test.h"

static int sh(const char *script, const struct buf *in, struct buf *out, struct buf *errout, size_t limit,
	      uint64_t timeout_ns, int *status, struct error *err)
{
	const char *argv[] = { "sh", "-c", script, NULL }; /* lint: the children of these tests */
	struct spawn s = SPAWN_INIT;

	s.argv = argv;
	return spawn_run(&s, in, out, errout, limit, timeout_ns, status, err);
}

TEST(input_output_and_errors_are_apart)
{
	_cleanup_buf_ struct buf in = {}, out = {}, errout = {};
	int status = -1;

	buf_adds(&in, "given\n");
	ASSERT_OK(sh("cat; echo oops >&2; exit 3", &in, &out, &errout, 1000, 0, &status, NULL));
	ASSERT_STREQ(out.p, "given\n");
	ASSERT_STREQ(errout.p, "oops\n");
	ASSERT_EQ(WEXITSTATUS(status), 3);
}

TEST(large_input_and_output_do_not_block_each_other)
{
	_cleanup_buf_ struct buf in = {}, out = {};
	int status;

	memset(buf_reserve(&in, 4 << 20), 'x', 4 << 20);
	buf_commit(&in, 4 << 20);
	ASSERT_OK(sh("cat", &in, &out, NULL, 8 << 20, 0, &status, NULL));
	ASSERT_EQ(status, 0);
	ASSERT_EQ(out.len, in.len);
	ASSERT_MEMEQ(out.p, in.p, in.len);
}

static void on_out(const char *p, size_t n, void *data)
{
	buf_add(data, p, n);
}

TEST(output_is_told_of_as_it_comes)
{
	static const char script[] = "echo one; echo oops >&2; echo two";
	const char *argv[] = { "sh", "-c", script, NULL }; /* lint: the child of this test */
	_cleanup_buf_ struct buf told = {}, errout = {};
	struct spawn s = SPAWN_INIT;

	s.argv = argv;
	s.on_out = on_out;
	s.on_out_data = &told;
	/* No limit holds for what is not kept. */
	ASSERT_OK(spawn_run(&s, NULL, NULL, &errout, 5, 0, NULL, NULL));
	ASSERT_STREQ(told.p, "one\ntwo\n");
	ASSERT_STREQ(errout.p, "oops\n");
	buf_truncate(&told, 0);
	ASSERT_OK(spawn_check(&s, NULL, NULL, 5, 0, NULL));
	ASSERT_STREQ(told.p, "one\ntwo\n");
}

TEST(an_empty_input_is_an_end)
{
	_cleanup_buf_ struct buf in = {}, out = {};

	ASSERT_OK(sh("cat; echo done", &in, &out, NULL, 100, 0, NULL, NULL));
	ASSERT_STREQ(out.p, "done\n");
}

TEST(output_above_the_limit_is_dropped)
{
	_cleanup_buf_ struct buf out = {}, errout = {};
	int status;

	ASSERT_OK(
		sh("head -c 1000000 /dev/zero; head -c 50 /dev/zero >&2", NULL, &out, &errout, 100, 0, &status, NULL));
	ASSERT_EQ(status, 0);
	ASSERT_EQ(out.len, 100);
	ASSERT_EQ(errout.len, 50);
}

TEST(a_time_limit_kills)
{
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf out = {};
	uint64_t began = clock_monotonic_ns();

	ASSERT_EQ(sh("echo x; exec sleep 1000", NULL, &out, NULL, 100, 3 * NS_PER_SEC, NULL, &e), -ETIMEDOUT);
	ASSERT(clock_monotonic_ns() - began < 100 * NS_PER_SEC);
	ASSERT_STREQ(e.msg, "sh: no end after 3000 ms, killed");
	ASSERT_EQ(e.kind, ERROR_TIMEOUT);
	ASSERT_EQ(waitpid(-1, NULL, WNOHANG), -1);
}

TEST(a_writer_without_end_is_stopped_by_the_time_limit)
{
	_cleanup_buf_ struct buf out = {};

	/* Who is held up so long that it has not begun by then is given longer. */
	for (uint64_t limit_ns = 3 * NS_PER_SEC; !out.len; limit_ns *= 2)
		ASSERT_EQ(sh("exec cat /dev/zero", NULL, &out, NULL, 10, limit_ns, NULL, NULL), -ETIMEDOUT);
	ASSERT_EQ(out.len, 10);
}

TEST(a_daemon_left_behind_does_not_hold_us)
{
	_cleanup_buf_ struct buf out = {};
	uint64_t began = clock_monotonic_ns(), pid;

	ASSERT_OK(sh("sleep 1000 & echo $!", NULL, &out, NULL, 100, 0, NULL, NULL));
	ASSERT(clock_monotonic_ns() - began < 100 * NS_PER_SEC);
	ASSERT(out.len > 1);
	buf_truncate(&out, out.len - 1);
	ASSERT_OK(parse_u64(out.p, 2, INT32_MAX, &pid));
	ASSERT_OK(kill((pid_t)pid, SIGKILL));
}

TEST(closed_streams_do_not_make_it_spin_or_end)
{
	_cleanup_buf_ struct buf out = {}, errout = {};
	int status;

	ASSERT_OK(sh("exec >&- 2>&-; sleep 0.1; exit 4", NULL, &out, &errout, 100, 0, &status, NULL));
	ASSERT_EQ(WEXITSTATUS(status), 4);
}

TEST(check_carries_the_last_line_of_the_errors)
{
	static const struct {
		const char *script, *message;
	} cases[] = {
		{ "echo first >&2; echo 'sh: the reason' >&2; echo >&2; exit 1", "sh: the reason" },
		{ "printf 'a\\033[31mb\\n' >&2; exit 1", "sh: a?[31mb" },
		{ "exit 9", "sh: exited with status 9" },
		{ "kill -9 $$", "sh: killed by signal 9 (KILL)" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *argv[] = { "/bin/sh", "-c", cases[i].script, NULL };
		_cleanup_error_ struct error e = {};
		struct spawn s = SPAWN_INIT;

		s.argv = argv;
		ASSERT_EQ(spawn_check(&s, NULL, NULL, 1000, 0, &e), -EIO);
		ASSERT_STREQ(e.msg, cases[i].message);
	}
}

TEST(check_passes_success_on)
{
	const char *argv[] = { "echo", "hello", NULL };
	_cleanup_error_ struct error e = {};
	_cleanup_buf_ struct buf out = {};
	struct spawn s = SPAWN_INIT;

	s.argv = argv;
	ASSERT_OK(spawn_check(&s, NULL, &out, 1000, NS_PER_SEC * 100, &e));
	ASSERT_STREQ(out.p, "hello\n");
	ASSERT(!e.num);
}

TEST(what_is_missing_is_told_and_leaks_nothing)
{
	const char *argv[] = { "no-such-program", NULL };
	_cleanup_buf_ struct buf out = {}, in = {};
	_cleanup_error_ struct error e = {};
	struct spawn s = SPAWN_INIT;
	int before = fcntl(1, F_DUPFD_CLOEXEC, 3), after;

	s.argv = argv;
	close(before);
	for (int i = 0; i < 50; i++)
		ASSERT_EQ(spawn_check(&s, &in, &out, 100, 0, &e), -ENOENT);
	after = fcntl(1, F_DUPFD_CLOEXEC, 3);
	ASSERT_EQ(before, after);
	ASSERT_EQ(error_exit_status(&e), 69);
}
