/* On a terminal: what is typed, what is shown, and that the terminal is as it was afterwards. */
#include <signal.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli.h"
#include "terminal.h"

TEST(a_shell_in_a_fresh_machine)
{
	const char *argv[] = { cli_skerry(), "run", "--rm", "-it", "tiny", NULL };
	struct terminal s;

	cli_home(true);
	terminal_begin(&s, argv);
	terminal_expect(&s, "#", 120);
	terminal_type(&s, "stty size; echo sum $((40+2))\n");
	terminal_expect(&s, "30 90", 120);
	terminal_expect(&s, "sum 42", 120);
	/* Ctrl-C is a key for the guest's terminal. */
	terminal_type(&s, "sh -c 'echo begun $((1+1)); exec sleep 1000'\n");
	terminal_expect(&s, "begun 2", 120);
	terminal_type(&s, "\003");
	terminal_type(&s, "echo still $((1+1)) here\n");
	terminal_expect(&s, "still 2 here", 120);
	terminal_type(&s, "exit 3\n");
	terminal_end(&s, 3);
	ASSERT(cli_processes_gone(120));
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
	terminal_expect(&s, "#", 120);
	ASSERT_OK(kill(s.pid, SIGTERM));
	terminal_end(&s, 125);
	gone = cli("delete", "--force", "web", NULL);
	ASSERT_STATUS(gone, 0);
}

/* A connection that is lost does not cost what its machine has not written out yet. */
TEST(a_machine_that_stays_powers_off_when_its_terminal_hangs_up)
{
	const char *argv[] = { cli_skerry(), "run", "-it", "--name", "web", "tiny", NULL };
	_cleanup_cli_ struct cli inspect = {}, start = {}, kept = {}, gone = {};
	struct terminal s;

	cli_home(true);
	terminal_begin(&s, argv);
	terminal_expect(&s, "#", 120);
	terminal_type(&s, "echo kept >/root/file; echo written $((1+1))\n");
	terminal_expect(&s, "written 2", 120);
	ASSERT_OK(kill(s.pid, SIGHUP));
	terminal_end(&s, 130);
	inspect = cli("inspect", "web", NULL);
	ASSERT_CONTAINS(inspect.out, "stopped (agent)");
	start = cli("start", "web", NULL);
	ASSERT_STATUS(start, 0);
	kept = cli("exec", "web", "cat", "/root/file", NULL);
	ASSERT_STATUS(kept, 0);
	ASSERT_STREQ(kept.out, "kept\n");
	gone = cli("delete", "--force", "web", NULL);
	ASSERT_STATUS(gone, 0);
}

/* As nohup(1) starts it. */
TEST(who_is_deaf_to_a_lost_terminal_stays_so)
{
	char script[4096];
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	snprintf(script, sizeof(script),
		 "cd %s; mkfifo in\n"
		 "(trap '' HUP; exec %s run --rm -i tiny sh -c 'echo up; read w; echo got $w') <in >out & pid=$!\n"
		 "exec 3>in; until grep -qx up out; do kill -0 $pid || exit 9; sleep 0.1; done\n"
		 "kill -HUP $pid; echo word >&3; wait $pid || exit 8; cat out",
		 test_tmpdir(), cli_skerry());
	r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, 300);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "up\ngot word\n");
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
	terminal_expect(&s, "tick", 120);
	terminal_expect(&second, "tick", 120);
	terminal_type(&s, "\035");
	terminal_end(&s, 0);
	terminal_expect(&second, "tick", 120);
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
	terminal_expect(&s, "[y/N]", 120);
	terminal_type(&s, "n\n");
	terminal_end(&s, 1);
	ASSERT_EQ(cli_entries("machines", NULL, 0), 1);
	terminal_begin(&s, argv);
	terminal_expect(&s, "[y/N]", 120);
	terminal_type(&s, "y\n");
	terminal_end(&s, 0);
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

/* What readline makes of what is offered shows in a shell only. */
TEST(bash_completes_names_beside_directories_of_that_name)
{
	static const char program[] =
		"skerry() { if [ \"$1\" = __complete ]; then echo web; else echo \"got:$*:\"; fi; }\n";
	_cleanup_free_ char *go =
		xasprintf("cd %s; mkdir -p web kernel sub; . ./script; PS1='rea''dy> '\n", test_tmpdir());
	_cleanup_free_ char *script = xasprintf("%s/script", test_tmpdir());
	_cleanup_cli_ struct cli made = {};
	const char *argv[] = { "/bin/bash", "--noprofile", "--norc", "-i", NULL };
	struct terminal s;
	FILE *f;

	made = cli("completion", "bash", NULL);
	ASSERT_STATUS(made, 0);
	f = fopen(script, "we");
	ASSERT(f);
	fprintf(f, "%s%s", program, made.out);
	ASSERT_EQ(fclose(f), 0);
	terminal_begin(&s, argv);
	terminal_type(&s, go);
	terminal_expect(&s, "ready> ", 120);
	terminal_type(&s, "skerry start we\tx\n");
	terminal_expect(&s, "got:start web x:", 120);
	terminal_type(&s, "skerry kern\tx\n");
	terminal_expect(&s, "got:kernel x:", 120);
	terminal_type(&s, "skerry create x --ssh-key su\tx\n");
	terminal_expect(&s, "got:create x --ssh-key sub/x:", 120);
	terminal_type(&s, "exit 0\n");
	terminal_end(&s, 0);
}

TEST(quitting_at_a_password_leaves_the_echo)
{
	const char *argv[] = { cli_skerry(), "login", "-u", "me", "localhost:1", NULL };
	struct terminal s;

	cli_home(false);
	terminal_begin(&s, argv);
	terminal_expect(&s, "assword", 120);
	terminal_type(&s, "\034");
	terminal_end(&s, 131);
}
