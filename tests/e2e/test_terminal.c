/* On a terminal: what is typed, what is shown, and that the terminal is as it was afterwards. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

struct session {
	int master, slave;
	pid_t pid;
	struct termios before;
	char text[1 << 16];
	size_t n;
};

static void begin(struct session *s, const char *const *argv)
{
	struct winsize size = { .ws_row = 30, .ws_col = 90 };

	*s = (struct session){ .master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC) };
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

/* Reads until @text is on the screen; what stood before it is dropped. */
static void expect(struct session *s, const char *text, unsigned timeout_s)
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

static void type(struct session *s, const char *text)
{
	ASSERT_EQ(write(s->master, text, strlen(text)), (long long)strlen(text));
}

static void end(struct session *s, int status)
{
	struct termios after;

	ASSERT_EQ(cli_wait(s->pid, 60), status);
	ASSERT_OK(tcgetattr(s->slave, &after));
	ASSERT_EQ(after.c_lflag, s->before.c_lflag);
	ASSERT_EQ(after.c_iflag, s->before.c_iflag);
	ASSERT_EQ(after.c_oflag, s->before.c_oflag);
	close(s->master);
	close(s->slave);
}

TEST(a_shell_in_a_fresh_machine)
{
	const char *argv[] = { cli_skerry(), "run", "--rm", "-it", "tiny", NULL };
	struct session s;

	cli_home(true);
	begin(&s, argv);
	expect(&s, "#", 60);
	type(&s, "stty size; echo sum $((40+2))\n");
	expect(&s, "30 90", 20);
	expect(&s, "sum 42", 20);
	/* Ctrl-C is a key for the guest's terminal. */
	type(&s, "sleep 100\n");
	expect(&s, "sleep 100", 20);
	usleep(300000); /* lint: nothing announces this */
	type(&s, "\003");
	type(&s, "echo still $((1+1)) here\n");
	expect(&s, "still 2 here", 20);
	type(&s, "exit 3\n");
	end(&s, 3);
	ASSERT(cli_processes_gone(20));
}

TEST(a_terminal_that_hangs_up_or_a_signal_puts_it_back)
{
	const char *argv[] = { cli_skerry(), "exec", "-it", "web", "sh", NULL };
	_cleanup_cli_ struct cli made = {}, gone = {};
	struct session s;

	cli_home(true);
	made = cli("run", "-d", "--name", "web", "tiny", NULL);
	ASSERT_STATUS(made, 0);
	begin(&s, argv);
	expect(&s, "#", 60);
	ASSERT_OK(kill(s.pid, SIGTERM));
	end(&s, 125);
	gone = cli("delete", "--force", "web", NULL);
	ASSERT_STATUS(gone, 0);
}

TEST(the_console_is_joined_and_left)
{
	const char *argv[] = { cli_skerry(), "console", "web", NULL };
	_cleanup_cli_ struct cli made = {}, status = {}, gone = {};
	struct session s, second;

	cli_home(true);
	made = cli("run", "-d", "--name", "web", "tiny", CLI_SHELL, "while :; do echo tick; sleep 0.2; done", NULL);
	ASSERT_STATUS(made, 0);
	begin(&s, argv);
	begin(&second, argv);
	expect(&s, "tick", 60);
	expect(&second, "tick", 60);
	type(&s, "\035");
	end(&s, 0);
	expect(&second, "tick", 20);
	type(&second, "\035");
	end(&second, 0);
	status = cli("status", "web", NULL);
	ASSERT_CONTAINS(status.out, "running");
	gone = cli("delete", "--force", "web", NULL);
	ASSERT_STATUS(gone, 0);
}

TEST(delete_asks)
{
	const char *argv[] = { cli_skerry(), "delete", "web", NULL };
	_cleanup_cli_ struct cli made = {};
	struct session s;

	cli_home(true);
	made = cli("run", "--name", "web", "tiny", "true", NULL);
	ASSERT_STATUS(made, 0);
	begin(&s, argv);
	expect(&s, "[y/N]", 20);
	type(&s, "n\n");
	end(&s, 1);
	ASSERT_EQ(cli_entries("machines", NULL, 0), 1);
	begin(&s, argv);
	expect(&s, "[y/N]", 20);
	type(&s, "y\n");
	end(&s, 0);
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}
