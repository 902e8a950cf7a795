/* A machine's life, as a user sees it: real boots. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

static void ok(struct cli r)
{
	ASSERT_STATUS(r, 0);
	cli_done(&r);
}

static void says(struct cli r, const char *text)
{
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, text);
	cli_done(&r);
}

static void status_of_machine(const char *name, const char *status)
{
	char line[64];

	snprintf(line, sizeof(line), "\"status\": \"%s\"", status);
	says(cli("status", "--format", "json", name, NULL), line);
}

static void nothing_left(void)
{
	char names[1024] = "";

	if (!cli_processes_gone(20)) {
		cli_processes(names, sizeof(names));
		test_fail(__FILE__, __LINE__, "processes left: %s", names);
	}
	ASSERT(cli_entries("run", names, sizeof(names)) <= 0);
}

TEST(create_start_exec_stop_start_again_with_its_data_delete)
{
	cli_home(true);
	says(cli("create", "web", "--image", "tiny", "--label", "env=test", NULL), "web");
	status_of_machine("web", "created");
	ok(cli("start", "--wait", "web", NULL));
	status_of_machine("web", "running");
	says(cli("list", "--label", "env=test", "--quiet", NULL), "web\n");
	ok(cli("exec", "web", CLI_SHELL, "echo kept > /root/file; sync", NULL));
	ok(cli("stop", "web", NULL));
	status_of_machine("web", "stopped");
	nothing_left();
	ok(cli("start", "web", NULL));
	says(cli("exec", "web", "cat", "/root/file", NULL), "kept\n");
	/* A second start changes nothing. */
	ok(cli("start", "web", NULL));
	ok(cli("restart", "web", NULL));
	says(cli("exec", "web", "cat", "/root/file", NULL), "kept\n");
	ok(cli("delete", "--force", "web", NULL));
	says(cli("list", "--format", "json", NULL), "[]");
	nothing_left();
	/* The name is free again, the data is not there. */
	says(cli("create", "web", "--image", "tiny", NULL), "web");
	ok(cli("delete", "web", NULL));
}

TEST(run_gives_the_command_s_output_and_status)
{
	_cleanup_cli_ struct cli a = {}, b = {}, c = {};

	cli_home(true);
	a = cli("run", "--rm", "tiny", CLI_SHELL, "echo out; echo err >&2; exit 7", NULL);
	ASSERT_STATUS(a, 7);
	ASSERT_STREQ(a.out, "out\n");
	ASSERT_STREQ(a.err, "err\n");
	b = cli("run", "--rm", "tiny", "no-such-command", NULL);
	ASSERT_STATUS(b, 127);
	c = cli("run", "--rm", "tiny", "/etc/passwd", NULL);
	ASSERT_STATUS(c, 126);
	nothing_left();
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

TEST(run_passes_standard_input_and_loses_nothing)
{
	const char *argv[] = { cli_skerry(), "run", "--rm", "-i", "tiny", CLI_SHELL, "wc -c; echo end", NULL };
	size_t n = 3 << 20;
	char *text = malloc(n + 1);
	struct cli r;

	cli_home(true);
	memset(text, 'x', n);
	text[n] = '\0';
	r = cli_argv(argv, text, 120);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "3145728\nend\n");
	cli_done(&r);
	r = cli("run", "--rm", "tiny", CLI_SHELL, "head -c 3000000 /dev/zero | tr '\\0' y", NULL);
	ASSERT_EQ(r.status, 0);
	ASSERT_EQ(strlen(r.out), 3000000);
	cli_done(&r);
	free(text);
	nothing_left();
}

TEST(a_detached_machine_stays_and_is_seen)
{
	_cleanup_cli_ struct cli pid = {};

	cli_home(true);
	says(cli("run", "-d", "--name", "web", "--publish", "0:80", "tiny", NULL), "web\n");
	ok(cli("wait", "--for", "agent", "--timeout", "60", "web", NULL));
	says(cli("port", "web", NULL), "127.0.0.1:");
	says(cli("stats", "web", "--format", "json", NULL), "\"agent\": \"ready\"");
	says(cli("path", "web", "system", NULL), "system.qcow2");
	says(cli("inspect", "--plan", "web", NULL), "qemu");
	pid = cli("pid", "web", NULL);
	ASSERT_STATUS(pid, 0);
	ASSERT(kill((pid_t)strtol(pid.out, NULL, 10), 0) == 0); /* lint: a digit string of ours */
	ok(cli("pause", "web", NULL));
	status_of_machine("web", "paused");
	ok(cli("resume", "web", NULL));
	status_of_machine("web", "running");
	says(cli("disk", "trim", "web", NULL), "given back");
	ok(cli("kill", "web", NULL));
	nothing_left();
	ok(cli("delete", "-y", "web", NULL));
}

TEST(exec_has_user_directory_environment_and_statuses)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	ok(cli("run", "-d", "--name", "web", "--env", "FROM=machine", "tiny", NULL));
	says(cli("exec", "-w", "/tmp", "-e", "A=b c", "web", CLI_SHELL, "pwd; echo $A $FROM; id -u", NULL),
	     "/tmp\nb c machine\n0\n");
	r = cli("exec", "web", CLI_SHELL, "exit 42", NULL);
	ASSERT_STATUS(r, 42);
	cli_done(&r);
	r = cli("exec", "web", "nothing-of-the-kind", NULL);
	ASSERT_STATUS(r, 127);
	cli_done(&r);
	r = cli("ssh", "web", "true", NULL);
	ASSERT_STATUS(r, 125);
	ASSERT_CONTAINS(r.err, "no ssh server");
	ASSERT_CONTAINS(r.err, "skerry exec");
	ok(cli("delete", "--force", "web", NULL));
	nothing_left();
}

TEST(files_are_copied_both_ways)
{
	char from[400], back[400], text[64] = "";
	FILE *f;

	cli_home(true);
	snprintf(from, sizeof(from), "%s/from", test_tmpdir());
	snprintf(back, sizeof(back), "%s/back", test_tmpdir());
	f = fopen(from, "we");
	fputs("through and back\n", f);
	fclose(f);
	ok(cli("run", "-d", "--name", "web", "tiny", NULL));
	ok(cli("cp", from, "web:/tmp/there", NULL));
	says(cli("exec", "web", "cat", "/tmp/there", NULL), "through and back\n");
	ok(cli("cp", "web:/tmp/there", back, NULL));
	f = fopen(back, "re");
	ASSERT(f && fgets(text, sizeof(text), f));
	fclose(f);
	ASSERT_STREQ(text, "through and back\n");
	{
		_cleanup_cli_ struct cli r = cli("cp", "web:/no/such", back, NULL);

		ASSERT_STATUS(r, 1);
		ASSERT_CONTAINS(r.err, "No such file");
	}
	ok(cli("delete", "--force", "web", NULL));
}

TEST(logs_show_the_console_and_follow_to_the_end)
{
	const char *argv[] = { cli_skerry(), "logs", "-f", "web", NULL };
	_cleanup_cli_ struct cli r = {};
	int pid;

	cli_home(true);
	ok(cli("run", "-d", "--name", "web", "tiny", CLI_SHELL, "echo first line; sleep 2; echo last line", NULL));
	r = cli_argv(argv, NULL, 60);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "first line");
	ASSERT_CONTAINS(r.out, "last line");
	/* What does not run is printed, not waited for. */
	pid = cli_spawn(argv);
	ASSERT_EQ(cli_wait(pid, 10), 0);
	says(cli("logs", "web", "--lines", "1", NULL), "\n");
	says(cli("wait", "web", NULL), "0\n");
	nothing_left();
}

TEST(interrupting_run_reaches_the_command)
{
	const char *argv[] = { cli_skerry(), "run",
			       "--rm",       "--name",
			       "web",        "tiny",
			       CLI_SHELL,    "trap 'exit 33' INT; touch /tmp/ready; while :; do sleep 0.1; done",
			       NULL };
	int pid;

	cli_home(true);
	pid = cli_spawn(argv);
	for (int i = 0; i < 600; i++) {
		_cleanup_cli_ struct cli r = cli("exec", "web", "test", "-e", "/tmp/ready", NULL);

		if (r.status == 0)
			break;
		usleep(100000); /* lint: nothing announces this */
	}
	ASSERT_OK(kill(pid, SIGINT));
	ASSERT_EQ(cli_wait(pid, 60), 33);
	nothing_left();
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

TEST(an_interrupt_before_there_is_a_command_ends_the_machine)
{
	const char *argv[] = { cli_skerry(), "run", "--rm", "--name", "web", "tiny", "sleep", "1000", NULL };
	char path[512];
	int pid;

	cli_home(true);
	snprintf(path, sizeof(path), "%s/run/web/state.json", getenv("SKERRY_HOME"));
	pid = cli_spawn(argv);
	/* Its monitor is at work, and the guest has not come far. */
	for (int i = 0; i < 6000 && access(path, F_OK) < 0; i++)
		usleep(10000); /* lint: nothing announces this */
	ASSERT_OK(kill(pid, SIGINT));
	ASSERT_EQ(cli_wait(pid, 60), 130);
	nothing_left();
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

TEST(three_interrupts_cut_the_power)
{
	const char *argv[] = { cli_skerry(), "run",
			       "--rm",       "--name",
			       "web",        "tiny",
			       CLI_SHELL,    "trap '' INT; touch /tmp/ready; while :; do sleep 0.1; done",
			       NULL };
	int pid;

	cli_home(true);
	pid = cli_spawn(argv);
	for (int i = 0; i < 600; i++) {
		_cleanup_cli_ struct cli r = cli("exec", "web", "test", "-e", "/tmp/ready", NULL);

		if (r.status == 0)
			break;
		usleep(100000); /* lint: nothing announces this */
	}
	for (int i = 0; i < 3; i++) {
		ASSERT_OK(kill(pid, SIGINT));
		usleep(100000); /* lint: nothing announces this */
	}
	ASSERT_EQ(cli_wait(pid, 60), 130);
	nothing_left();
}

TEST(a_guest_that_never_answers_is_given_up_with_its_last_words)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	ok(cli("create", "web", "--image", "tiny", NULL));
	ok(cli("start", "web", NULL));
	/* Frozen, so that it cannot answer. */
	(void)cli("pause", "web", NULL);
	r = cli("start", "--wait", "--timeout", "1", "web", NULL);
	/* It may have answered before it was frozen: then waiting is over at once. */
	if (r.status != 0) {
		ASSERT_STATUS(r, 1);
		ASSERT_CONTAINS(r.err, "did not answer within 1 s");
	}
	ok(cli("delete", "--force", "web", NULL));
	nothing_left();
}
