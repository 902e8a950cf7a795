#include "base/progress.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/file.h"
#include "test.h"

static void make_pipe(int p[2])
{
	ASSERT_OK(pipe2(p, O_CLOEXEC | O_NONBLOCK));
}

static const char *pending(int fd)
{
	static char text[65536];
	ssize_t n = read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

#define DRAWN "\033[K" /* how a drawing ends */

/* A terminal hands over what was written to it in pieces: what was read until @end was there. */
static const char *shown(int master, const char *end)
{
	static char text[65536];
	struct pollfd p = { .fd = master, .events = POLLIN };
	size_t len = 0;

	text[0] = '\0';
	while (!strstr(text, end)) {
		ssize_t n = poll(&p, 1, 100000) > 0 ? read(master, text + len, sizeof(text) - 1 - len) : 0;

		if (n <= 0)
			test_fail(__FILE__, __LINE__, "\"%s\" does not end", text);
		len += (size_t)n;
		text[len] = '\0';
	}
	return text;
}

static void terminal(int *ret_master, int *ret_slave)
{
	struct winsize ws = { .ws_row = 24, .ws_col = 80 };

	setenv("TERM", "xterm", 1);
	*ret_master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT(*ret_master >= 0);
	ASSERT_OK(fcntl(*ret_master, F_SETFL, O_NONBLOCK));
	ASSERT_OK(grantpt(*ret_master));
	ASSERT_OK(unlockpt(*ret_master));
	*ret_slave = open(ptsname(*ret_master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT(*ret_slave >= 0);
	ASSERT_OK(ioctl(*ret_slave, TIOCSWINSZ, &ws));
}

/* Bars are drawn ten times a second. */
static void next_drawing(void)
{
	usleep(110000); /* lint: the passing of time is what is tested */
}

/* Whether these happened within @ms: who is held up for longer has not seen what would have come in time, and looks again. */
static bool took_less(uint64_t began, unsigned ms)
{
	return clock_monotonic_ns() - began < ms * NS_PER_MS;
}

TEST(elsewhere_it_is_two_lines)
{
	struct progress *p;
	uint64_t began;
	int fds[2];

	make_pipe(fds);
	do {
		(void)pending(fds[0]);
		began = clock_monotonic_ns();
		p = progress_new(fds[1], "unpacking\033[2J", 100);
		for (int i = 0; i < 1000; i++)
			progress_update(p, (uint64_t)i << 20);
		p = progress_finish(p, true);
		ASSERT(!p);
	} while (!took_less(began, 900));
	ASSERT_STREQ(pending(fds[0]), "unpacking?[2J\nunpacking?[2J: done, 999 MiB in 0 s\n");
	progress_finish(progress_new(fds[1], "x", 0), false);
	ASSERT_STREQ(pending(fds[0]), "x\nx: failed\n");
	do {
		(void)pending(fds[0]);
		began = clock_monotonic_ns();
		progress_finish(progress_new(fds[1], "x", 0), true);
	} while (!took_less(began, 900));
	ASSERT_STREQ(pending(fds[0]), "x\nx: done in 0 s\n");
	progress_update(NULL, 1);
	ASSERT(!progress_finish(NULL, true));
}

/* False when it was held up between two updates. */
static bool draws_seldom(int master, int slave)
{
	uint64_t began = clock_monotonic_ns();
	struct progress *p = progress_new(slave, "unpacking", 30 << 20);
	const char *soon, *end;

	ASSERT_CONTAINS(shown(master, DRAWN), "\runpacking  [");
	progress_update(p, 1 << 20);
	soon = pending(master);
	if (!took_less(began, 100)) {
		progress_finish(p, true);
		(void)shown(master, "\n");
		return false;
	}
	ASSERT_STREQ(soon, "");
	next_drawing();
	progress_update(p, 15 << 20);
	ASSERT_CONTAINS(shown(master, DRAWN), "###############               ]   50%  15 MiB / 30 MiB\033[K");
	next_drawing();
	progress_update(p, 90 << 20);
	ASSERT_CONTAINS(shown(master, DRAWN), "  100%  90 MiB / 30 MiB");
	progress_finish(p, true);
	end = shown(master, "\n");
	if (!took_less(began, 900))
		return false;
	ASSERT_CONTAINS(end, "\r\033[Kunpacking: done, 90 MiB in 0 s");
	return true;
}

TEST(a_terminal_gets_a_bar_ten_times_a_second_at_most)
{
	int master, slave;

	terminal(&master, &slave);
	while (!draws_seldom(master, slave))
		;
}

TEST(a_huge_total_does_not_overflow)
{
	struct progress *p;
	int master, slave;

	terminal(&master, &slave);
	p = progress_new(slave, "x", UINT64_MAX);
	next_drawing();
	(void)shown(master, DRAWN);
	progress_update(p, UINT64_MAX / 2);
	ASSERT_CONTAINS(shown(master, DRAWN), "%  8 EiB / 16 EiB");
	progress_finish(p, true);
}

TEST(a_narrow_terminal_is_not_overrun)
{
	struct winsize ws = { .ws_row = 24, .ws_col = 20 };
	struct progress *p;
	int master, slave;
	const char *text;

	terminal(&master, &slave);
	ASSERT_OK(ioctl(slave, TIOCSWINSZ, &ws));
	p = progress_new(slave, "a label", 30 << 20);
	text = shown(master, DRAWN);
	ASSERT(strlen(text) <= 20 + strlen("\r\033[K"));
	progress_finish(p, false);
	(void)shown(master, "\n");
	p = progress_new(slave, "a label that is longer than the terminal is wide", 0);
	ASSERT(!strstr(shown(master, DRAWN), "wide"));
	progress_finish(p, false);
}

TEST(a_dumb_terminal_is_none)
{
	int master, slave;

	terminal(&master, &slave);
	setenv("TERM", "dumb", 1);
	progress_finish(progress_new(slave, "x", 5), true);
	ASSERT(!strchr(pending(master), '\033'));
}
