/* A machine's life, as a user sees it: real boots. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

enum { PATIENCE_S = 120 };

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

static uint64_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec;
}

/* Until a command says @text, or succeeds when that is NULL. */
#define UNTIL(text, ...)                                                                         \
	for (uint64_t _deadline = now_s() + PATIENCE_S, _done = 0; !_done;) {                    \
		_cleanup_cli_ struct cli _r = cli(__VA_ARGS__, NULL);                            \
		const char *_text = (text);                                                      \
                                                                                                 \
		_done = _text ? strstr(_r.out, _text) != NULL : _r.status == 0;                  \
		if (!_done && now_s() > _deadline)                                               \
			test_fail(__FILE__, __LINE__, "never: out: %s err: %s", _r.out, _r.err); \
		if (!_done)                                                                      \
			usleep(100000); /* lint: nothing announces this */                       \
	}

/* As cli_spawn(), with its output in a file: what stands there has come through the command, which stays with its machine's process by then. */
static int spawn_heard(const char *const *argv)
{
	const char *words[32] = { CLI_SHELL, NULL };
	char script[200];
	size_t n = 2;

	snprintf(script, sizeof(script), "exec \"$0\" \"$@\" >'%s/heard'", test_tmpdir());
	words[n++] = script;
	while (*argv && n < sizeof(words) / sizeof(words[0]) - 1)
		words[n++] = *argv++;
	return cli_spawn(words);
}

static void until_heard(const char *text)
{
	uint64_t deadline = now_s() + PATIENCE_S;
	char path[200], said[1024];

	snprintf(path, sizeof(path), "%s/heard", test_tmpdir());
	for (;;) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? 0 : read(fd, said, sizeof(said) - 1);

		if (fd >= 0)
			close(fd);
		said[n > 0 ? n : 0] = '\0';
		if (strstr(said, text))
			return;
		if (now_s() > deadline)
			test_fail(__FILE__, __LINE__, "never '%s', but: %s", text, said);
		usleep(10000); /* lint: nothing announces this */
	}
}

static void nothing_left(void)
{
	char names[1024] = "";

	if (!cli_processes_gone(120)) {
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
	r = cli_argv(argv, text, 300);
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
	ok(cli("wait", "--for", "agent", "--timeout", "120", "web", NULL));
	says(cli("port", "web", NULL), "127.0.0.1:");
	says(cli("stats", "web", "--format", "json", NULL), "\"agent\": \"ready\"");
	says(cli("path", "web", "system", NULL), "system.qcow2");
	says(cli("inspect", "--plan", "web", NULL), "qemu");
	{
		_cleanup_cli_ struct cli look = cli("inspect", "web", NULL);

		ASSERT_STATUS(look, 0);
		ASSERT_CONTAINS(look.out, strstr(look.out, "\"accel\": \"kvm\"") ? "\"isolation_promised\": true"
										 : "\"isolation_promised\": false");
	}
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
	/* Not the command's fault. */
	r = cli("exec", "-u", "nobody-here", "web", "true", NULL);
	ASSERT_STATUS(r, 125);
	ASSERT_CONTAINS(r.err, "nobody-here");
	cli_done(&r);
	r = cli_argv(
		(const char *[]){ CLI_SHELL, "exec \"$SKERRY_TEST_BIN\" exec web true $(seq -f %016.0f 65536)", NULL },
		NULL, PATIENCE_S);
	ASSERT_STATUS(r, 125);
	ASSERT_CONTAINS(r.err, "more than 65536 arguments");
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
	ok(cli("run", "-d", "--name", "web", "tiny", CLI_SHELL,
	       "printf '\\033[31mred\\033[m\\n'; echo first line; sleep 2; echo last line", NULL));
	r = cli_argv(argv, NULL, PATIENCE_S);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "first line");
	ASSERT_CONTAINS(r.out, "last line");
	/* What does not run is printed, not waited for. */
	pid = cli_spawn(argv);
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 0);
	says(cli("logs", "web", "--lines", "1", NULL), "\n");
	says(cli("logs", "web", "--raw", NULL), "\033[31mred");
	says(cli("wait", "web", NULL), "0\n");
	nothing_left();
}

TEST(interrupting_run_reaches_the_command)
{
	const char *argv[] = { cli_skerry(), "run",
			       "--rm",       "--name",
			       "web",        "tiny",
			       CLI_SHELL,    "trap 'exit 33' INT; echo ready; while :; do sleep 0.1; done",
			       NULL };
	int pid;

	cli_home(true);
	pid = spawn_heard(argv);
	until_heard("ready\n");
	ASSERT_OK(kill(pid, SIGINT));
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 33);
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
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 130);
	nothing_left();
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

TEST(three_interrupts_cut_the_power)
{
	const char *argv[] = { cli_skerry(), "run",  "--rm",    "--name",
			       "web",        "tiny", CLI_SHELL, "trap '' INT; echo ready; while :; do sleep 0.1; done",
			       NULL };
	struct pollfd end = { .events = POLLIN };
	unsigned sent = 0;
	int pid;

	cli_home(true);
	pid = spawn_heard(argv);
	until_heard("ready\n");
	/* Those that come before the last one was looked at are one: they are sent until three have been seen in two seconds. */
	end.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	ASSERT_OK(end.fd);
	do {
		ASSERT(++sent <= PATIENCE_S * 10);
		ASSERT_OK(kill(pid, SIGINT));
	} while (poll(&end, 1, 100) == 0);
	ASSERT(sent >= 3);
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 130);
	nothing_left();
}

TEST(a_guest_that_never_answers_is_given_up_with_its_last_words)
{
	_cleanup_cli_ struct cli r = {}, spec = {}, changed = {};
	char script[1024];

	cli_home(true);
	ok(cli("create", "web", "--image", "tiny", NULL));
	/* Its kernel finds nothing to begin with, says so, and stays there. */
	spec = cli("path", "web", "spec", NULL);
	ASSERT_STATUS(spec, 0);
	spec.out[strcspn(spec.out, "\n")] = '\0';
	snprintf(script, sizeof(script),
		 "sed -i '0,/{/s//{\"engine_args\": [\"-append\", \"console=hvc0 pci=off acpi=off panic=0 "
		 "no_timer_check rdinit=\\/none\"],/' '%s'",
		 spec.out);
	changed = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, PATIENCE_S);
	ASSERT_STATUS(changed, 0);
	ok(cli("start", "web", NULL));
	UNTIL("]---", "logs", "web");
	r = cli("start", "--wait", "--timeout", "3", "web", NULL);
	ASSERT_STATUS(r, 1);
	ASSERT_CONTAINS(r.err, "did not answer within 3 s\nhint: the console's last lines (skerry logs web):\n[");
	ASSERT_CONTAINS(r.err, "]---\n");
	ok(cli("delete", "--force", "web", NULL));
	nothing_left();
}

static void is_told_to_resume(struct cli r, int status)
{
	ASSERT_STATUS(r, status);
	ASSERT_CONTAINS(r.err, "machine 'web' is paused\nhint: skerry resume web\n");
	cli_done(&r);
}

TEST(a_paused_machine_is_told_as_one_and_nothing_waits_in_it)
{
	cli_home(true);
	ok(cli("create", "web", "--image", "tiny", NULL));
	ok(cli("start", "--wait", "web", NULL));
	ok(cli("pause", "web", NULL));
	is_told_to_resume(cli("exec", "web", "touch", "/x", NULL), 125);
	is_told_to_resume(cli("cp", cli_skerry(), "web:/x", NULL), 75);
	is_told_to_resume(cli("cp", "web:/etc/passwd", "/dev/null", NULL), 75);
	is_told_to_resume(cli("disk", "trim", "web", NULL), 75);
	is_told_to_resume(cli("wait", "--for", "agent", "web", NULL), 75);
	is_told_to_resume(cli("wait", "--for", "ssh", "web", NULL), 75);
	{
		_cleanup_cli_ struct cli r = cli("start", "--wait", "web", NULL);

		ASSERT_STATUS(r, 75);
		ASSERT_CONTAINS(r.err, "is paused");
	}
	ok(cli("resume", "web", NULL));
	ok(cli("exec", "web", "test", "!", "-e", "/x", NULL));
	ok(cli("delete", "--force", "web", NULL));
	nothing_left();
}

TEST(a_machine_that_goes_with_its_end)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	ok(cli("run", "-d", "--rm", "--name", "web", "tiny", "sleep", "1000", NULL));
	r = cli("restart", "web", NULL);
	ASSERT_STATUS(r, 64);
	ASSERT_CONTAINS(r.err, "--rm");
	says(cli("exec", "web", "echo", "runs on", NULL), "runs on\n");
	/* It runs: there is nothing to wait for. */
	ok(cli("start", "--lock-wait", "1h", "web", NULL));
	ok(cli("delete", "--force", "web", NULL));
	nothing_left();
}

static void run_path(char *path, size_t n, const char *what)
{
	snprintf(path, n, "%s/%s", getenv("SKERRY_HOME"), what);
}

/* Kernels of the test's own to delete, in the place of a link to the prepared ones. */
static void own_kernels(char *to, size_t n)
{
	char from[400], lock[450];
	struct cli r;

	snprintf(from, sizeof(from), "%s/kernels", getenv("SKERRY_TEST_STORE"));
	run_path(to, n, "kernels");
	ASSERT_OK(unlink(to));
	r = cli_argv((const char *const[]){ "cp", "-al", "--", from, to, NULL }, NULL, 120);
	if (r.status != 0) {
		cli_done(&r);
		r = cli_argv((const char *const[]){ "cp", "-a", "--", from, to, NULL }, NULL, 120);
	}
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	snprintf(lock, sizeof(lock), "%s/lock", to);
	(void)unlink(lock);
}

TEST(what_cannot_be_adopted_runs_on_and_is_found_again)
{
	char kernels[400], away[400], state[400], kernel[64];
	_cleanup_cli_ struct cli plan = {}, gone = {}, lost = {};
	const char *p;
	int engine;

	cli_home(true);
	own_kernels(kernels, sizeof(kernels));
	run_path(away, sizeof(away), "kernels-away");
	run_path(state, sizeof(state), "run/web/state.json");
	ok(cli("run", "-d", "--name", "web", "tiny", "sleep", "1000", NULL));
	engine = cli_inspect_pid("web", "pid");
	cli_kill(cli_inspect_pid("web", "monitor_pid"));
	/* The kernel that was the default at its start is its own. */
	plan = cli("status", "--format", "json", "web", NULL);
	p = strstr(plan.out, "\"kernel\": \"");
	ASSERT(p);
	p += strlen("\"kernel\": \"");
	snprintf(kernel, sizeof(kernel), "%.*s", (int)strcspn(p, "\""), p);
	gone = cli("kernel", "delete", kernel, NULL);
	ASSERT_STATUS(gone, 75);
	ASSERT_CONTAINS(gone.err, "machine 'web'");
	ASSERT_OK(rename(kernels, away));
	lost = cli("exec", "web", "true", NULL);
	ASSERT_STATUS(lost, 125);
	ASSERT_CONTAINS(lost.err, "kernel");
	ASSERT_OK(access(state, F_OK));
	ASSERT_OK(kill(engine, 0));
	(void)rmdir(kernels);
	ASSERT_OK(rename(away, kernels));
	ok(cli("wait", "--for", "agent", "--timeout", "120", "web", NULL));
	ok(cli("exec", "web", "true", NULL));
	ASSERT_EQ(cli_inspect_pid("web", "pid"), engine);
	ok(cli("stop", "web", NULL));
	nothing_left();
}

TEST(what_cannot_be_adopted_is_killed_and_keeps_its_data)
{
	char kernels[400], away[400];
	_cleanup_cli_ struct cli stop = {}, status = {};

	cli_home(true);
	own_kernels(kernels, sizeof(kernels));
	run_path(away, sizeof(away), "kernels-away");
	ok(cli("run", "-d", "--name", "web", "tiny", CLI_SHELL, "echo kept >/kept; sync; sleep 1000", NULL));
	UNTIL("kept", "exec", "web", "cat", "/kept");
	cli_kill(cli_inspect_pid("web", "monitor_pid"));
	ASSERT_OK(rename(kernels, away));
	stop = cli("stop", "web", NULL);
	ASSERT_STATUS(stop, 1);
	ASSERT_CONTAINS(stop.err, "skerry kill web");
	ok(cli("kill", "web", NULL));
	nothing_left();
	status = cli("status", "web", NULL);
	ASSERT_CONTAINS(status.out, "failed");
	(void)rmdir(kernels);
	ASSERT_OK(rename(away, kernels));
	ok(cli("start", "--wait", "web", NULL));
	UNTIL("kept", "exec", "web", "cat", "/kept");
	ok(cli("kill", "web", NULL));
	nothing_left();
}

TEST(stop_ends_what_would_begin_again)
{
	cli_home(true);
	ok(cli("run", "-d", "--name", "web", "--restart", "always", "--stop-signal", "TERM", "tiny", CLI_SHELL,
	       "trap 'exit 0' TERM; touch /tmp/ready; while :; do sleep 0.1; done", NULL));
	UNTIL(NULL, "exec", "web", "test", "-e", "/tmp/ready");
	ok(cli("stop", "web", NULL));
	status_of_machine("web", "stopped");
	nothing_left();
}

TEST(what_ends_at_once_begins_again_after_a_pause_and_rm_holds_then)
{
	cli_home(true);
	ok(cli("run", "-d", "--rm", "--name", "web", "--restart", "always", "tiny", "true", NULL));
	UNTIL("starting again in 1 s", "logs", "--engine", "web");
	ok(cli("stop", "web", NULL));
	nothing_left();
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

TEST(a_command_during_a_start_is_not_told_that_it_is_busy)
{
	const char *argv[] = { cli_skerry(), "start", "web", NULL };
	char run[400];
	int pid;

	cli_home(true);
	run_path(run, sizeof(run), "run/web");
	says(cli("create", "web", "--image", "tiny", NULL), "web");
	pid = cli_spawn(argv);
	for (int i = 0; i < 60000 && access(run, F_OK) < 0; i++)
		usleep(1000); /* lint: nothing announces this */
	ok(cli("stats", "web", NULL));
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 0);
	ok(cli("delete", "--force", "web", NULL));
	nothing_left();
}

TEST(an_interrupt_after_the_command_is_heard)
{
	const char *argv[] = { cli_skerry(),
			       "run",
			       "--name",
			       "web",
			       "tiny",
			       CLI_SHELL,
			       "trap '' TERM; sleep 1000 >/dev/null 2>&1 & exit 3",
			       NULL };
	struct pollfd end = { .events = POLLIN };
	unsigned sent = 0;
	int pid;

	cli_home(true);
	pid = cli_spawn(argv);
	/* Its command has ended, and something in the guest takes its time. */
	UNTIL("stopping", "status", "--format", "json", "web");
	end.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	ASSERT_OK(end.fd);
	/* One that is faster than the news of that end is the command's still, which does not hear it any more. */
	do {
		ASSERT(++sent <= PATIENCE_S);
		ASSERT_OK(kill(pid, SIGTERM));
	} while (poll(&end, 1, 1000) == 0);
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 130);
	nothing_left();
}

/* What is to end slowly, as it was told that there is time, is not cut off as the monitor is another. */
TEST(a_stop_that_is_gone_on_with_has_the_time_that_it_had)
{
	const char *argv[] = { cli_skerry(), "stop", "--timeout", "1000", "web", NULL };
	_cleanup_cli_ struct cli until = {};
	int pid, monitor;

	cli_home(true);
	ok(cli("run", "-d", "--name", "web", "--stop-signal", "USR1", "tiny", CLI_SHELL,
	       "trap '' TERM USR1; while :; do sleep 1; done", NULL));
	monitor = cli_inspect_pid("web", "monitor_pid");
	pid = cli_spawn(argv);
	UNTIL("stopping", "status", "--format", "json", "web");
	cli_kill(monitor);
	for (uint64_t deadline = now_s() + PATIENCE_S; cli_inspect_pid("web", "monitor_pid") == monitor;)
		ASSERT(now_s() < deadline);
	UNTIL("going on with that", "logs", "--engine", "web");
	until = cli_argv((const char *[]){ CLI_SHELL, "cat $SKERRY_HOME/run/web/state.json", NULL }, NULL, PATIENCE_S);
	ASSERT(cli_number(until.out, "stop_until_ns") / 1000000000 > (uint64_t)time(NULL) + 500);
	ok(cli("kill", "web", NULL));
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 0);
	nothing_left();
}

/* Nor does who goes through /tmp for what is old. */
TEST(nobody_tidies_up_where_a_machine_runs)
{
	char run[400];
	int fd;

	cli_home(true);
	run_path(run, sizeof(run), "run");
	ok(cli("run", "-d", "--name", "web", "tiny", "sleep", "1000", NULL));
	fd = open(run, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(fd);
	ASSERT_EQ(flock(fd, LOCK_EX | LOCK_NB), -1);
	ok(cli("delete", "--force", "web", NULL));
	nothing_left();
	ASSERT_OK(flock(fd, LOCK_EX | LOCK_NB));
	close(fd);
}

TEST(who_waits_for_an_end_does_not_take_a_dead_monitor_for_it)
{
	const char *run[] = { cli_skerry(),
			      "run",
			      "--name",
			      "web",
			      "tiny",
			      CLI_SHELL,
			      "echo ready; while ! test -e /tmp/go; do sleep 0.1; done; exit 3",
			      NULL };
	const char *wait[] = { cli_skerry(), "wait", "web", NULL };
	int runs, waits, monitor;

	cli_home(true);
	/* Both are there before it dies. */
	runs = spawn_heard(run);
	until_heard("ready\n");
	waits = cli_spawn(wait);
	usleep(300000); /* lint: nothing announces this */
	monitor = cli_inspect_pid("web", "monitor_pid");
	cli_kill(monitor);
	ok(cli("exec", "web", "touch", "/tmp/go", NULL));
	ASSERT_EQ(cli_wait(runs, PATIENCE_S), 3);
	ASSERT_EQ(cli_wait(waits, PATIENCE_S), 0);
	says(cli("wait", "web", NULL), "3\n");
	nothing_left();
}

TEST(a_machine_that_crashes_below_run_is_a_failure)
{
	const char *argv[] = { cli_skerry(), "run", "--rm", "--entrypoint", "", "--name", "web", "tiny", NULL };
	int pid;

	cli_home(true);
	pid = cli_spawn(argv);
	UNTIL("running", "status", "--format", "json", "web");
	cli_kill(cli_inspect_pid("web", "pid"));
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 125);
	nothing_left();
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

TEST(an_interrupt_of_a_detached_start_leaves_nothing)
{
	const char *argv[] = { cli_skerry(), "run", "-d", "tiny", "sleep", "1000", NULL };
	int pid;

	cli_home(true);
	cli_hold_engines();
	pid = cli_spawn(argv);
	for (int i = 0; i < 60000 && cli_entries("run", NULL, 0) <= 0; i++)
		usleep(1000); /* lint: nothing announces this */
	/* It waits for the engine, and looks for this one after that. */
	ASSERT_OK(kill(pid, SIGINT));
	cli_let_engines_go();
	ASSERT_EQ(cli_wait(pid, PATIENCE_S), 130);
	nothing_left();
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

/* As a host does that shuts down: to every process of a scope, or of all. */
TEST(who_ends_everything_leaves_the_guest_its_time)
{
	_cleanup_cli_ struct cli logs = {}, inspect = {};
	int engine, monitor;

	cli_home(true);
	/* One process outlives the main one in the guest's end, so that the monitor hears of that before the engine is gone. */
	ok(cli("run", "-d", "--name", "web", "tiny", CLI_SHELL, "(trap '' TERM; exec sleep 2) & exec sleep 1000",
	       NULL));
	engine = cli_inspect_pid("web", "pid");
	monitor = cli_inspect_pid("web", "monitor_pid");
	ASSERT_OK(kill(engine, SIGTERM));
	ok(cli("exec", "web", "true", NULL));
	ASSERT_EQ(cli_inspect_pid("web", "pid"), engine);
	ASSERT_OK(kill(engine, SIGTERM));
	ASSERT_OK(kill(monitor, SIGTERM));
	ok(cli("wait", "web", NULL));
	nothing_left();
	logs = cli("logs", "--engine", "web", NULL);
	ASSERT_CONTAINS(logs.out, "signal 15: stopping");
	/* The guest ended itself, as the monitor asked. */
	inspect = cli("inspect", "web", NULL);
	ASSERT_CONTAINS(inspect.out, "stopped (agent)");
}
