#include "machine/report.h"

#include <fcntl.h>

#include "base/clock.h"
#include "test.h"

static uint64_t soon(void)
{
	return clock_monotonic_ns() + 100 * NS_PER_SEC;
}

TEST(success_and_errors_arrive_as_they_were)
{
	_cleanup_error_ struct error e = {}, back = {};
	int p[2];

	ASSERT_EQ(pipe2(p, O_CLOEXEC), 0);
	report_send(p[1], NULL);
	close(p[1]);
	ASSERT_EQ(report_receive(p[0], soon(), &back), 0);
	close(p[0]);

	error_set_kind(&e, ERROR_BUSY, EADDRINUSE, "port \"8080\" is taken\nby \\ somebody");
	error_hint(&e, "take another");
	ASSERT_EQ(pipe2(p, O_CLOEXEC), 0);
	report_send(p[1], &e);
	close(p[1]);
	ASSERT_EQ(report_receive(p[0], soon(), &back), -EADDRINUSE);
	ASSERT_STREQ(back.msg, e.msg);
	ASSERT_STREQ(back.hint, e.hint);
	ASSERT_EQ(back.kind, ERROR_BUSY);
	close(p[0]);
}

TEST(a_monitor_that_dies_silently_is_an_error)
{
	_cleanup_error_ struct error e = {};
	int p[2];

	ASSERT_EQ(pipe2(p, O_CLOEXEC), 0);
	close(p[1]);
	ASSERT_EQ(report_receive(p[0], soon(), &e), -ECHILD);
	close(p[0]);
}

TEST(a_monitor_that_hangs_is_a_timeout)
{
	_cleanup_error_ struct error e = {};
	int p[2];

	ASSERT_EQ(pipe2(p, O_CLOEXEC), 0);
	ASSERT_EQ(report_receive(p[0], clock_monotonic_ns() + 10 * NS_PER_MS, &e), -ETIMEDOUT);
	close(p[0]);
	close(p[1]);
}

TEST(garbage_is_an_error)
{
	_cleanup_error_ struct error e = {};
	int p[2];

	ASSERT_EQ(pipe2(p, O_CLOEXEC), 0);
	ASSERT_EQ(write(p[1], "segfault\n", 9), 9);
	close(p[1]);
	ASSERT_EQ(report_receive(p[0], soon(), &e), -EBADMSG);
	close(p[0]);
}
