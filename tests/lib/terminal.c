#include "terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

void terminal_begin(struct terminal *s, const char *const *argv)
{
	struct winsize size = { .ws_row = 30, .ws_col = 90 };

	*s = (struct terminal){ .master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC) };
	ASSERT_OK(s->master);
	ASSERT_OK(grantpt(s->master));
	ASSERT_OK(unlockpt(s->master));
	s->slave = open(ptsname(s->master), O_RDWR | O_NOCTTY | O_CLOEXEC);
	ASSERT_OK(s->slave);
	ASSERT_OK(ioctl(s->slave, TIOCSWINSZ, &size));
	ASSERT_OK(tcgetattr(s->slave, &s->before));
	s->pid = fork();
	ASSERT_OK(s->pid);
	if (s->pid == 0) {
		setsid();
		ioctl(s->slave, TIOCSCTTY, 0);
		for (int i = 0; i < 3; i++)
			dup2(s->slave, i);
		execv(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void terminal_expect(struct terminal *s, const char *text, unsigned timeout_s)
{
	uint64_t deadline = now_ms() + timeout_s * 1000;

	for (;;) {
		struct pollfd p = { .fd = s->master, .events = POLLIN };
		char *found = strstr(s->text, text);
		ssize_t n;

		if (found) {
			size_t end = (size_t)(found - s->text) + strlen(text);

			memmove(s->text, s->text + end, s->n - end + 1);
			s->n -= end;
			return;
		}
		if (now_ms() >= deadline || s->n + 1 >= sizeof(s->text))
			test_fail(__FILE__, __LINE__, "no '%s' on the screen, but: %s", text, s->text);
		if (poll(&p, 1, (int)(deadline - now_ms())) <= 0)
			continue;
		n = read(s->master, s->text + s->n, sizeof(s->text) - s->n - 1);
		if (n <= 0)
			test_fail(__FILE__, __LINE__, "the end instead of '%s': %s", text, s->text);
		s->n += (size_t)n;
		s->text[s->n] = '\0';
	}
}

void terminal_type(struct terminal *s, const char *text)
{
	ASSERT_EQ(write(s->master, text, strlen(text)), (long long)strlen(text));
}

void terminal_try_shell(struct terminal *s, unsigned timeout_s)
{
	terminal_expect(s, "#", timeout_s);
	terminal_type(s, "until stty size | grep '30 90'; do :; done; echo sum $((40+2))\n");
	terminal_expect(s, "\n30 90", timeout_s);
	terminal_expect(s, "sum 42", timeout_s);
	terminal_resize(s, 41, 132);
	terminal_type(s, "until stty size | grep '41 132'; do :; done; echo sum $((41+2))\n");
	terminal_expect(s, "\n41 132", timeout_s);
	terminal_expect(s, "sum 43", timeout_s);
	terminal_type(s, "sh -c 'echo begun $((1+1)); exec sleep 1000'\n");
	terminal_expect(s, "begun 2", timeout_s);
	terminal_type(s, "\003");
	terminal_type(s, "echo ended $?\n");
	terminal_expect(s, "ended 130", timeout_s);
}

void terminal_end(struct terminal *s, int status)
{
	struct termios after;

	ASSERT_EQ(cli_wait(s->pid, 120), status);
	ASSERT_OK(tcgetattr(s->slave, &after));
	ASSERT_EQ(after.c_lflag, s->before.c_lflag);
	ASSERT_EQ(after.c_iflag, s->before.c_iflag);
	ASSERT_EQ(after.c_oflag, s->before.c_oflag);
	close(s->master);
	close(s->slave);
}

void terminal_resize(struct terminal *s, unsigned short rows, unsigned short columns)
{
	struct winsize size = { .ws_row = rows, .ws_col = columns };

	ASSERT_OK(ioctl(s->slave, TIOCSWINSZ, &size) < 0 ? -errno : 0);
}

void terminal_kill(struct terminal *s)
{
	ASSERT_OK(kill(s->pid, SIGKILL));
	(void)cli_wait(s->pid, 120);
	close(s->master);
	close(s->slave);
}
