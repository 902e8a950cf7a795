/* What crashes leave of machines, and `skerry system recover`. (What they leave of containers: test_containerd.c.) */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "json/json.h"

static uint64_t number(const char *key)
{
	_cleanup_cli_ struct cli r = cli("inspect", "m", NULL);
	_cleanup_json_ struct json *tree = NULL;
	uint64_t n = 0;

	ASSERT_STATUS(r, 0);
	ASSERT_OK(json_parse(r.out, strlen(r.out), "inspect", &tree, NULL));
	ASSERT(json_u64(json_get(json_is_object(tree) ? tree : json_at(tree, 0), key), &n));
	return n;
}

static int engine_pid(void)
{
	_cleanup_cli_ struct cli r = cli("pid", "m", NULL);

	ASSERT_STATUS(r, 0);
	return atoi(r.out); /* lint: our own program printed it */
}

static void recover(const char *expected)
{
	_cleanup_cli_ struct cli r = cli("system", "recover", NULL);

	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, expected);
}

TEST(machines_are_adopted_or_released_and_told_once)
{
	_cleanup_cli_ struct cli started = {}, said = {}, deleted = {};
	uint64_t monitor;

	(void)cli_home(true);
	recover("");
	started = cli("run", "-d", "--name", "m", "tiny", "sleep", "1000", NULL);
	ASSERT_STATUS(started, 0);
	recover("");
	monitor = number("monitor_pid");
	cli_kill((int)monitor);
	recover("m: its monitor was killed; it runs on under a new one\n");
	ASSERT(number("monitor_pid") != monitor);
	said = cli("exec", "m", "echo", "still here", NULL);
	ASSERT_STREQ(said.out, "still here\n");
	recover("");
	monitor = number("monitor_pid");
	/* First the monitor: it would tidy up. */
	{
		int engine = engine_pid();

		cli_kill((int)monitor);
		cli_kill(engine);
	}
	recover("m: its run was cut off; released what it had\n");
	recover("");
	ASSERT(cli_processes_gone(120));
	deleted = cli("delete", "-y", "m", NULL);
	ASSERT_STATUS(deleted, 0);
}

/* What a power failure of the host does: /run is empty after it. */
static void lose_run(const char *name)
{
	_cleanup_cli_ struct cli gone = {};
	char path[512];
	int monitor = cli_inspect_pid(name, "monitor_pid"), engine = cli_inspect_pid(name, "pid");

	cli_kill(monitor);
	cli_kill(engine);
	ASSERT(cli_processes_gone(120));
	snprintf(path, sizeof(path), "%s/run/%s", getenv("SKERRY_HOME"), name);
	gone = cli_argv((const char *[]){ "rm", "-r", path, NULL }, NULL, 120);
	ASSERT_STATUS(gone, 0);
}

static void expect_status(const char *name, const char *words)
{
	_cleanup_cli_ struct cli r = cli("status", name, NULL);

	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, words);
}

TEST(a_run_that_lost_its_run_directory_has_failed)
{
	_cleanup_cli_ struct cli run = {}, kept = {}, start = {}, stop = {}, again = {}, leftover = {}, prune = {},
				 list = {};

	(void)cli_home(true);
	run = cli("run", "-d", "--name", "m", "tiny", "sleep", "1000", NULL);
	ASSERT_STATUS(run, 0);
	lose_run("m");
	expect_status("m", "its end was not seen");
	kept = cli("delete", "m", NULL);
	ASSERT_STATUS(kept, 64);
	ASSERT_CONTAINS(kept.err, "has disks with data");
	/* A clean end is one, and does not hide that a later one is missing. */
	start = cli("start", "m", NULL);
	ASSERT_STATUS(start, 0);
	stop = cli("stop", "m", NULL);
	ASSERT_STATUS(stop, 0);
	ASSERT(cli_processes_gone(120));
	expect_status("m", "stopped");
	again = cli("start", "m", NULL);
	ASSERT_STATUS(again, 0);
	lose_run("m");
	expect_status("m", "failed");
	leftover = cli("run", "-d", "--rm", "--name", "n", "tiny", "sleep", "1000", NULL);
	ASSERT_STATUS(leftover, 0);
	lose_run("n");
	prune = cli("system", "prune", "-y", NULL);
	ASSERT_STATUS(prune, 0);
	list = cli("list", "--quiet", NULL);
	ASSERT_STREQ(list.out, "m\n");
}

/* Two shells with different XDG_RUNTIME_DIR have different run directories. */
TEST(a_machine_is_found_where_another_run_directory_is_told)
{
	_cleanup_cli_ struct cli run = {}, kept = {}, said = {}, again = {}, adopted = {}, stop = {};
	char there[600], here[600];
	int monitor;

	(void)cli_home(true);
	snprintf(there, sizeof(there), "SKERRY_RUN_DIR=%s/there", getenv("SKERRY_HOME"));
	snprintf(here, sizeof(here), "SKERRY_RUN_DIR=%s/here", getenv("SKERRY_HOME"));
	cli_setenv(there);
	run = cli("run", "-d", "--name", "m", "tiny", "sleep", "1000", NULL);
	ASSERT_STATUS(run, 0);
	cli_setenv(here);
	expect_status("m", "running");
	kept = cli("delete", "-y", "m", NULL);
	ASSERT_STATUS(kept, 75);
	again = cli("start", "m", NULL);
	ASSERT_STATUS(again, 0);
	ASSERT_CONTAINS(again.err, "runs already");
	said = cli("exec", "m", "echo", "here", NULL);
	ASSERT_STREQ(said.out, "here\n");
	/* Its monitor's place is there: no other one is started here. */
	monitor = cli_inspect_pid("m", "monitor_pid");
	cli_kill(monitor);
	adopted = cli("stop", "m", NULL);
	ASSERT_STATUS(adopted, 75);
	ASSERT_CONTAINS(adopted.err, "/there");
	cli_setenv(there);
	recover("m: its monitor was killed; it runs on under a new one\n");
	cli_setenv(here);
	stop = cli("stop", "--timeout", "0", "m", NULL);
	ASSERT_STATUS(stop, 0);
	expect_status("m", "stopped");
	ASSERT(cli_processes_gone(120));
}

TEST(what_is_to_run_always_is_started_again)
{
	_cleanup_cli_ struct cli run = {}, stop = {};

	(void)cli_home(true);
	run = cli("run", "-d", "--restart", "always", "--name", "m", "tiny", "sleep", "1000", NULL);
	ASSERT_STATUS(run, 0);
	lose_run("m");
	recover("m: its run was cut off; started again, as --restart always wants\n");
	recover("");
	expect_status("m", "running");
	stop = cli("stop", "--timeout", "0", "m", NULL);
	ASSERT_STATUS(stop, 0);
	recover("");
	expect_status("m", "stopped");
	ASSERT(cli_processes_gone(120));
}
