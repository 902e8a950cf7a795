#include "scenario.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "engine/host_cgroup.h"

/* Servers of the test itself are in its cgroups and end after it: then the cgroups stay, which is nobody's fault. */
enum { GONE_S = 5, STEP_S = 600, ENDINGS_S = 20 };

const struct step life[] = {
	{ "create", { "create", MACHINE, "--image", "tiny", NULL }, 73 },
	{ "start", { "start", MACHINE, NULL }, 0 },
	{ "exec", { "exec", MACHINE, "true", NULL }, 0 },
	{ "stop", { "stop", MACHINE, NULL }, 1 },
	{ "start again", { "start", MACHINE, NULL }, 0 },
	/* The monitor that a broken commit left behind was started under its faults, and may die of them once more. */
	{ "commit running", { "commit", MACHINE, "made:1", NULL }, 1 },
	{ "write after it", { "exec", MACHINE, "touch", "/root/written", NULL }, 0 },
	{ "delete", { "delete", "--force", "-y", MACHINE, NULL }, 1 },
	{ "delete image", { "image", "delete", "made:1", NULL }, 1 },
	{ "prune", { "image", "prune", "--yes", NULL }, 0 },
};
const size_t life_steps = sizeof(life) / sizeof(life[0]);

struct cli run_step(size_t i)
{
	const char *argv[10] = { cli_skerry() };

	for (size_t k = 0; life[i].argv[k]; k++)
		argv[k + 1] = life[i].argv[k];
	return cli_argv(argv, NULL, STEP_S);
}

void repeat_step(size_t i, const char *why)
{
	_cleanup_cli_ struct cli r = {};

	/* What was killed is heard of before its sockets and locks have gone with it. */
	(void)cli_endings_over(ENDINGS_S);
	r = run_step(i);
	if (r.status != 0 && r.status != life[i].tolerated)
		test_fail(__FILE__, __LINE__, "%s: `%s` again: status %d\n# err: %s", why, life[i].name, r.status,
			  r.err);
}

void assert_clean_failure(const struct cli *r, const char *why)
{
	if (r->status < 0 || r->status >= 126)
		test_fail(__FILE__, __LINE__, "%s: status %d\n# err: %s", why, r->status, r->err);
	if (r->status != 0 && strncmp(r->err, "skerry: ", 8) != 0)
		test_fail(__FILE__, __LINE__, "%s: status %d without a reason\n# err: %s", why, r->status, r->err);
}

void assert_usable(const char *why)
{
	_cleanup_cli_ struct cli start = cli("start", MACHINE, NULL), exec = {}, stop = {};

	if (start.status != 0)
		test_fail(__FILE__, __LINE__, "%s: cannot start: %s", why, start.err);
	exec = cli("exec", MACHINE, "echo", "alive", NULL);
	if (exec.status != 0 || strcmp(exec.out, "alive\n") != 0)
		test_fail(__FILE__, __LINE__, "%s: cannot exec: status %d, out %s, err %s", why, exec.status, exec.out,
			  exec.err);
	stop = cli("stop", MACHINE, NULL);
	if (stop.status != 0)
		test_fail(__FILE__, __LINE__, "%s: cannot stop: %s", why, stop.err);
}

/* Of the test's process and what it starts: machines' own are made below it, and other tests' are not seen. */
static struct strv cgroups;

/* Out again, where the process came from, so that they can be removed. */
static void leave_cgroups(void)
{
	struct strv before = {};

	for (size_t i = 0; i < cgroups.n; i++) {
		char *path = xstrdup(cgroups.items[i]);

		*strrchr(path, '/') = '\0';
		strv_add(&before, path);
		free(path);
	}
	host_cgroup_add(&before, getpid());
	host_cgroup_remove(&cgroups, clock_monotonic_ns() + GONE_S * NS_PER_SEC);
	strv_done(&before);
}

const char *scenario_home(bool needs_store)
{
	_cleanup_free_ char *name = xasprintf("skerry-test-%d", (int)getpid());

	/* Before what ends the processes at the exit is registered: it comes after it. */
	atexit(leave_cgroups);
	host_cgroup_plan_own(name, &cgroups);
	host_cgroup_make(&cgroups);
	host_cgroup_add(&cgroups, getpid());
	return cli_home(needs_store);
}

static void assert_no_cgroup(const char *why)
{
	for (size_t i = 0; i < cgroups.n; i++) {
		const char *argv[] = { "find", cgroups.items[i], "-mindepth", "1", "-type", "d", NULL };

		for (int tries = 0;; tries++) {
			_cleanup_cli_ struct cli found = cli_argv(argv, NULL, STEP_S);

			if (!*found.out)
				break;
			if (tries == 600)
				test_fail(__FILE__, __LINE__, "%s: left: %s", why, found.out);
			usleep(200000); /* lint: nothing announces this */
		}
	}
}

void assert_nothing_left(const char *why)
{
	_cleanup_cli_ struct cli gone = {}, create = {}, gone_too = {};
	char names[2048];

	(void)cli_endings_over(ENDINGS_S);
	gone = cli("delete", "--force", "-y", MACHINE, NULL);
	create = cli("create", "other", "--image", "tiny", NULL);
	gone_too = cli("delete", "--force", "-y", "other", NULL);
	if (create.status != 0 || gone_too.status != 0)
		test_fail(__FILE__, __LINE__, "%s: cannot make another machine: %s%s", why, create.err, gone_too.err);
	if (!cli_processes_gone(120)) {
		cli_processes(names, sizeof(names));
		test_fail(__FILE__, __LINE__, "%s: processes are left:\n%s", why, names);
	}
	if (cli_entries("machines", names, sizeof(names)) > 0)
		test_fail(__FILE__, __LINE__, "%s: left below machines: %s", why, names);
	if (cli_entries("run", names, sizeof(names)) > 0)
		test_fail(__FILE__, __LINE__, "%s: left below run: %s", why, names);
	assert_no_cgroup(why);
}
