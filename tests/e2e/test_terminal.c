/* On a terminal: what is typed, what is shown, and that the terminal is as it was afterwards. */
#include <signal.h>
#include <unistd.h>

#include "cli.h"
#include "terminal.h"

TEST(a_shell_in_a_fresh_machine)
{
	const char *argv[] = { cli_skerry(), "run", "--rm", "-it", "tiny", NULL };
	struct terminal s;

	cli_home(true);
	terminal_begin(&s, argv);
	terminal_expect(&s, "#", 60);
	terminal_type(&s, "stty size; echo sum $((40+2))\n");
	terminal_expect(&s, "30 90", 20);
	terminal_expect(&s, "sum 42", 20);
	/* Ctrl-C is a key for the guest's terminal. */
	terminal_type(&s, "sleep 100\n");
	terminal_expect(&s, "sleep 100", 20);
	usleep(300000); /* lint: nothing announces this */
	terminal_type(&s, "\003");
	terminal_type(&s, "echo still $((1+1)) here\n");
	terminal_expect(&s, "still 2 here", 20);
	terminal_type(&s, "exit 3\n");
	terminal_end(&s, 3);
	ASSERT(cli_processes_gone(20));
}

TEST(a_terminal_that_hangs_up_or_a_signal_puts_it_back)
{
	const char *argv[] = { cli_skerry(), "exec", "-it", "web", "sh", NULL };
	_cleanup_cli_ struct cli made = {}, gone = {};
	struct terminal s;

	cli_home(true);
	made = cli("run", "-d", "--name", "web", "tiny", NULL);
	ASSERT_STATUS(made, 0);
	terminal_begin(&s, argv);
	terminal_expect(&s, "#", 60);
	ASSERT_OK(kill(s.pid, SIGTERM));
	terminal_end(&s, 125);
	gone = cli("delete", "--force", "web", NULL);
	ASSERT_STATUS(gone, 0);
}

TEST(the_console_is_joined_and_left)
{
	const char *argv[] = { cli_skerry(), "console", "web", NULL };
	_cleanup_cli_ struct cli made = {}, status = {}, gone = {};
	struct terminal s, second;

	cli_home(true);
	made = cli("run", "-d", "--name", "web", "tiny", CLI_SHELL, "while :; do echo tick; sleep 0.2; done", NULL);
	ASSERT_STATUS(made, 0);
	terminal_begin(&s, argv);
	terminal_begin(&second, argv);
	terminal_expect(&s, "tick", 60);
	terminal_expect(&second, "tick", 60);
	terminal_type(&s, "\035");
	terminal_end(&s, 0);
	terminal_expect(&second, "tick", 20);
	terminal_type(&second, "\035");
	terminal_end(&second, 0);
	status = cli("status", "web", NULL);
	ASSERT_CONTAINS(status.out, "running");
	gone = cli("delete", "--force", "web", NULL);
	ASSERT_STATUS(gone, 0);
}

TEST(delete_asks)
{
	const char *argv[] = { cli_skerry(), "delete", "web", NULL };
	_cleanup_cli_ struct cli made = {};
	struct terminal s;

	cli_home(true);
	made = cli("run", "--name", "web", "tiny", "true", NULL);
	ASSERT_STATUS(made, 0);
	terminal_begin(&s, argv);
	terminal_expect(&s, "[y/N]", 20);
	terminal_type(&s, "n\n");
	terminal_end(&s, 1);
	ASSERT_EQ(cli_entries("machines", NULL, 0), 1);
	terminal_begin(&s, argv);
	terminal_expect(&s, "[y/N]", 20);
	terminal_type(&s, "y\n");
	terminal_end(&s, 0);
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}
