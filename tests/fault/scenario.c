#include "scenario.h"

#include <fcntl.h>
#include <unistd.h>

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
	return cli_argv(argv, NULL, 60);
}

void repeat_step(size_t i, const char *why)
{
	_cleanup_cli_ struct cli r = run_step(i);

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

static bool has_processes(const char *cgroup)
{
	char path[1024], c;
	int fd, n;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? 1 : (int)read(fd, &c, 1);
	if (fd >= 0)
		close(fd);
	return n != 0;
}

/* A machine's cgroup without a process, that stays: other machines of this host come and go. */
static void assert_no_empty_cgroup(const char *why)
{
	static const char thirty_two[] = "skerry-????????????????????????????????";
	char began[300];
	const char *argv[] = { "find", "/sys/fs/cgroup", "-type", "d", "-name", thirty_two, "-newer", began, NULL };

	/* What a test before this one left with its machines is not ours. */
	snprintf(began, sizeof(began), "%s/" CLI_BEGAN, test_tmpdir());
	for (int tries = 0;; tries++) {
		_cleanup_cli_ struct cli found = cli_argv(argv, NULL, 60);
		const char *empty = NULL;
		char *save = found.out, *line;

		while (!empty && (line = strsep(&save, "\n")))
			if (*line && !has_processes(line))
				empty = line;
		if (!empty)
			return;
		if (tries == 20)
			test_fail(__FILE__, __LINE__, "%s: left: %s", why, empty);
		usleep(200000); /* lint: nothing announces this */
	}
}

void assert_nothing_left(const char *why)
{
	_cleanup_cli_ struct cli gone = cli("delete", "--force", "-y", MACHINE, NULL);
	_cleanup_cli_ struct cli create = cli("create", "other", "--image", "tiny", NULL);
	_cleanup_cli_ struct cli gone_too = cli("delete", "--force", "-y", "other", NULL);
	char names[2048];

	if (create.status != 0 || gone_too.status != 0)
		test_fail(__FILE__, __LINE__, "%s: cannot make another machine: %s%s", why, create.err, gone_too.err);
	if (!cli_processes_gone(10)) {
		cli_processes(names, sizeof(names));
		test_fail(__FILE__, __LINE__, "%s: processes are left:\n%s", why, names);
	}
	if (cli_entries("machines", names, sizeof(names)) > 0)
		test_fail(__FILE__, __LINE__, "%s: left below machines: %s", why, names);
	if (cli_entries("run", names, sizeof(names)) > 0)
		test_fail(__FILE__, __LINE__, "%s: left below run: %s", why, names);
	assert_no_empty_cgroup(why);
}
