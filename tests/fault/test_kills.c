/* Processes killed from outside, and many commands at once. */
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"
#include "scenario.h"

static void make_running(void)
{
	_cleanup_cli_ struct cli create = {}, start = {};

	scenario_home(true);
	create = cli("create", MACHINE, "--image", "tiny", NULL);
	ASSERT_STATUS(create, 0);
	start = cli("start", "--wait", MACHINE, NULL);
	ASSERT_STATUS(start, 0);
}

static void assert_state(const char *state)
{
	_cleanup_cli_ struct cli r = cli("status", MACHINE, NULL);

	ASSERT_CONTAINS(r.out, state);
}

TEST(a_killed_monitor_is_replaced_and_the_guest_goes_on)
{
	_cleanup_cli_ struct cli mark = {}, look = {}, stop = {};
	int engine;

	make_running();
	mark = cli("exec", MACHINE, CLI_SHELL, "echo kept > /run/mark", NULL);
	ASSERT_STATUS(mark, 0);
	engine = cli_inspect_pid(MACHINE, "pid");
	cli_kill(cli_inspect_pid(MACHINE, "monitor_pid"));
	look = cli("exec", MACHINE, "cat", "/run/mark", NULL);
	ASSERT_STATUS(look, 0);
	ASSERT_STREQ(look.out, "kept\n");
	ASSERT_EQ(cli_inspect_pid(MACHINE, "pid"), engine);
	stop = cli("stop", MACHINE, NULL);
	ASSERT_STATUS(stop, 0);
	assert_state("stopped");
	assert_usable("after adoption");
	assert_nothing_left("after adoption");
}

TEST(an_exit_after_adoption_is_recorded)
{
	_cleanup_cli_ struct cli again = {}, off = {}, wait = {};

	make_running();
	cli_kill(cli_inspect_pid(MACHINE, "monitor_pid"));
	again = cli("exec", MACHINE, "true", NULL);
	ASSERT_STATUS(again, 0);
	off = cli("exec", MACHINE, "poweroff", NULL);
	wait = cli("wait", "--for", "exit", "--timeout", "120", MACHINE, NULL);
	ASSERT_EQ(wait.status, 0);
	assert_state("stopped");
	assert_nothing_left("after power-off");
}

TEST(a_killed_engine_is_a_failure_with_its_reason)
{
	_cleanup_cli_ struct cli wait = {}, inspect = {};

	make_running();
	cli_kill(cli_inspect_pid(MACHINE, "pid"));
	wait = cli("wait", "--for", "exit", "--timeout", "120", MACHINE, NULL);
	assert_state("failed");
	inspect = cli("inspect", MACHINE, NULL);
	ASSERT_CONTAINS(inspect.out, "killed by signal 9");
	assert_usable("after the engine was killed");
	assert_nothing_left("after the engine was killed");
}

TEST(monitor_and_engine_killed_together)
{
	int monitor, engine;

	make_running();
	monitor = cli_inspect_pid(MACHINE, "monitor_pid");
	engine = cli_inspect_pid(MACHINE, "pid");
	kill(monitor, SIGKILL);
	kill(engine, SIGKILL);
	ASSERT(cli_processes_gone(120));
	assert_state("failed");
	assert_usable("after both were killed");
	assert_nothing_left("after both were killed");
}

/* Twenty at once are slow on a host that has other things to do. */
enum { CROWD = 20, CROWD_S = 900, LOOKS = 600 };

/* @how ends it, and the monitor dies of being asked. Whoever is told that it has ended finds nothing that runs. */
static void dies_of(const char *how, const char *point)
{
	_cleanup_cli_ struct cli create = {}, start = {}, end = {};
	char fault[64];

	snprintf(fault, sizeof(fault), "SKERRY_FAULT=%s=kill", point);
	create = cli("create", MACHINE, "--image", "tiny", "--restart", "always", NULL);
	ASSERT_STATUS(create, 0);
	cli_setenv(fault);
	start = cli("start", "--wait", MACHINE, NULL);
	cli_setenv("SKERRY_FAULT=");
	ASSERT_STATUS(start, 0);
	end = cli(how, MACHINE, NULL);
	ASSERT_STATUS(end, 0);
	ASSERT(cli_processes_gone(120));
	assert_usable(point);
	assert_nothing_left(point);
}

TEST(a_monitor_that_dies_of_a_stop)
{
	scenario_home(true);
	dies_of("stop", "stop.record");
	dies_of("kill", "stop.record");
	dies_of("stop", "stop.exit");
	dies_of("stop", "stop.forget");
}

/* Nobody is there any more to ask again: whoever comes by next goes on with it. */
TEST(a_stop_whose_asker_and_monitor_are_dead_goes_on)
{
	_cleanup_cli_ struct cli create = {}, start = {}, record = {}, recover = {};
	int monitor;

	scenario_home(true);
	create = cli("create", MACHINE, "--image", "tiny", "--restart", "always", NULL);
	ASSERT_STATUS(create, 0);
	start = cli("start", "--wait", MACHINE, NULL);
	ASSERT_STATUS(start, 0);
	monitor = cli_inspect_pid(MACHINE, "monitor_pid");
	cli_kill(monitor);
	record = cli_argv((const char *[]){ CLI_SHELL,
					    "f=$SKERRY_HOME/run/" MACHINE "/state.json; grep -q running $f && "
					    "sed -i 's/\"running\"/\"stopping\"/' $f && grep -q stopping $f",
					    NULL },
			  NULL, CROWD_S);
	ASSERT_STATUS(record, 0);
	recover = cli("system", "recover", NULL);
	ASSERT_STATUS(recover, 0);
	ASSERT(cli_processes_gone(120));
	assert_state("stopped");
	assert_usable("after a stop that was gone on with");
	assert_nothing_left("after a stop that was gone on with");
}

/* As on NFS, where a file that is open somewhere stays under another name. */
TEST(a_directory_that_does_not_go_at_once_is_deleted_all_the_same)
{
	_cleanup_cli_ struct cli create = {}, delete = {}, list = {};

	scenario_home(true);
	create = cli("create", MACHINE, "--image", "tiny", NULL);
	ASSERT_STATUS(create, 0);
	cli_setenv("SKERRY_FAULT=delete.files=EBUSY");
	delete = cli("delete", "-y", MACHINE, NULL);
	cli_setenv("SKERRY_FAULT=");
	ASSERT_STATUS(delete, 0);
	list = cli("list", "--quiet", NULL);
	ASSERT_STREQ(list.out, "");
	assert_nothing_left("after a delete that left files");
}

TEST(twenty_starts_of_one_machine_give_one_machine)
{
	const char *start[] = { cli_skerry(), "start", MACHINE, NULL };
	_cleanup_cli_ struct cli create = {}, exec = {};
	int pids[CROWD], ok = 0;
	char names[2048];

	scenario_home(true);
	create = cli("create", MACHINE, "--image", "tiny", NULL);
	ASSERT_STATUS(create, 0);
	for (int i = 0; i < CROWD; i++)
		pids[i] = cli_spawn(start);
	for (int i = 0; i < CROWD; i++) {
		int status = cli_wait(pids[i], CROWD_S);

		if (status != 0 && status != 75)
			test_fail(__FILE__, __LINE__, "one of the crowd ended with %d", status);
		ok += status == 0;
	}
	ASSERT(ok >= 1);
	exec = cli("exec", MACHINE, "true", NULL);
	ASSERT_STATUS(exec, 0);
	/* One monitor and one engine (and the network's helper, where there is one), when whoever helped them for a moment has gone. */
	for (int i = 0; cli_processes(names, sizeof(names)) > 3; i++) {
		if (i == LOOKS)
			test_fail(__FILE__, __LINE__, "there are:\n%s", names);
		(void)usleep(200000); /* lint: other people's children announce nothing */
	}
	assert_nothing_left("after the crowd");
}

TEST(twenty_commands_of_all_kinds_on_one_machine)
{
	static const char *const verbs[][5] = {
		{ "start", MACHINE },
		{ "stop", MACHINE },
		{ "status", MACHINE },
		{ "restart", MACHINE },
		{ "exec", MACHINE, "true" },
		{ "kill", MACHINE },
		{ "list" },
		{ "inspect", MACHINE },
		{ "pause", MACHINE },
		{ "resume", MACHINE },
	};
	_cleanup_cli_ struct cli resume = {}, end = {};
	int pids[CROWD];

	make_running();
	for (int i = 0; i < CROWD; i++) {
		const char *argv[7] = { cli_skerry() };

		for (int k = 0; k < 5 && verbs[i % 10][k]; k++)
			argv[k + 1] = verbs[i % 10][k];
		pids[i] = cli_spawn(argv);
	}
	/* A command in a guest that has been paused waits for it to go on; all others end by themselves. */
	for (int in_guest = 0; in_guest < 2; in_guest++) {
		for (int i = 0; i < CROWD; i++)
			if (streq(verbs[i % 10][0], "exec") == in_guest && cli_wait(pids[i], CROWD_S) < 0)
				test_fail(__FILE__, __LINE__, "`%s` does not end", verbs[i % 10][0]);
		if (!in_guest)
			resume = cli("resume", MACHINE, NULL);
	}
	ASSERT(resume.status >= 0);
	/* Whatever it is left as. */
	end = cli("kill", MACHINE, NULL);
	ASSERT(end.status >= 0);
	assert_usable("after all kinds of commands");
	assert_nothing_left("after all kinds of commands");
}

TEST(twenty_machines_at_once)
{
	char names[CROWD][16], left[4096];
	int pids[CROWD];

	scenario_home(true);
	for (int i = 0; i < CROWD; i++) {
		const char *argv[] = { cli_skerry(), "run", "-d",   "--timeout", "600s", "--name", names[i],
				       "--memory",   "96M", "tiny", "sleep",     "1000", NULL };

		snprintf(names[i], sizeof(names[i]), "m%d", i);
		pids[i] = cli_spawn(argv);
	}
	for (int i = 0; i < CROWD; i++)
		ASSERT_EQ(cli_wait(pids[i], CROWD_S), 0);
	for (int i = 0; i < CROWD; i++) {
		const char *argv[] = { cli_skerry(), "delete", "--force", "-y", names[i], NULL };

		pids[i] = cli_spawn(argv);
	}
	for (int i = 0; i < CROWD; i++)
		ASSERT_EQ(cli_wait(pids[i], CROWD_S), 0);
	ASSERT(cli_processes_gone(120));
	if (cli_entries("machines", left, sizeof(left)) > 0)
		test_fail(__FILE__, __LINE__, "left: %s", left);
	ASSERT(cli_entries("run", left, sizeof(left)) <= 0);
}
