#include "base/progress_board.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "test.h"

static const char *pending(int fd)
{
	static char text[65536];
	ssize_t n = read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = '\0';
	return text;
}

/* A terminal hands over what was written to it a little later. What was read up to @want, and maybe beyond. */
static const char *shown(int master, const char *want)
{
	static char text[65536];
	struct pollfd p = { .fd = master, .events = POLLIN };
	size_t len = 0;

	text[0] = '\0';
	while (!strstr(text, want)) {
		ssize_t n = poll(&p, 1, 100000) > 0 ? read(master, text + len, sizeof(text) - 1 - len) : 0;

		if (n <= 0)
			test_fail(__FILE__, __LINE__, "\"%s\" does not contain \"%s\"", text, want);
		len += (size_t)n;
		text[len] = '\0';
	}
	return text;
}

TEST(elsewhere_than_on_a_terminal_there_is_a_line_for_each_at_its_end)
{
	struct progress_board *b;
	const char *out;
	size_t one, two;
	int p[2];

	ASSERT_EQ(pipe2(p, O_CLOEXEC | O_NONBLOCK), 0);
	b = progress_board_new(p[1]);
	one = progress_board_add(b, "one", 100);
	two = progress_board_add(b, "two", 0);
	progress_board_update(b, one, 10);
	progress_board_say(b, two, "waits");
	progress_board_say(b, two, "waits");
	progress_board_update(b, two, 10);
	progress_board_end(b, two, "done");
	progress_board_end(b, one, "do\033ne");
	ASSERT(!progress_board_free(b));
	out = pending(p[0]);
	ASSERT_STREQ(out, "two: waits\ntwo: done\none: do?ne\n");
}

TEST(silence_is_silent)
{
	struct progress_board *b = progress_board_new(-1);
	size_t row = progress_board_add(b, "one", 100);

	progress_board_update(b, row, 10);
	progress_board_say(b, row, "waits");
	progress_board_end(b, row, "done");
	ASSERT(!progress_board_free(b));
	ASSERT(!progress_board_free(NULL));
	ASSERT_EQ(progress_board_add(NULL, "x", 1), 0);
	progress_board_update(NULL, 0, 1);
	progress_board_end(NULL, 0, "x");
}

static int terminal(int *ret_slave, unsigned short rows)
{
	struct winsize ws = { .ws_row = rows, .ws_col = 60 };
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);

	setenv("TERM", "xterm", 1);
	ASSERT(master >= 0);
	ASSERT_OK(fcntl(master, F_SETFL, O_NONBLOCK));
	ASSERT_OK(grantpt(master));
	ASSERT_OK(unlockpt(master));
	*ret_slave = open(ptsname(master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT(*ret_slave >= 0);
	ASSERT_OK(ioctl(*ret_slave, TIOCSWINSZ, &ws));
	return master;
}

TEST(on_a_terminal_bars_stand_below_each_other_and_ends_above_them)
{
	int slave, master = terminal(&slave, 24);
	struct progress_board *b = progress_board_new(slave);
	size_t one = progress_board_add(b, "one", 1000), two = progress_board_add(b, "two", 1000);

	progress_board_update(b, one, 0);
	(void)shown(master, "one  [");
	progress_board_update(b, two, 500);
	/* Up over the one line that is there, then both. */
	(void)shown(master, "\033[1A\rone  [");
	progress_board_end(b, one, "done");
	(void)shown(master, "\033[2A\rone: done\033[K\r\ntwo  [");
	b = progress_board_free(b);
	(void)shown(master, "\033[1A\r\033[J");
}

TEST(no_more_bars_than_the_terminal_has_lines)
{
	int slave, master = terminal(&slave, 4);
	struct progress_board *b = progress_board_new(slave);
	const char *out;

	for (int i = 0; i < 10; i++)
		progress_board_update(b, progress_board_add(b, i < 3 ? "shown" : "hidden", 10), 1);
	out = shown(master, "\033[3A");
	ASSERT(!strstr(out, "hidden") && !strstr(out, "\033[4A"));
	b = progress_board_free(b);
}
