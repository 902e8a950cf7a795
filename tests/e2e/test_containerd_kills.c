/* A containerd that is killed in the middle of what it does: after its next start the container goes on or is removed, and nothing is left. */
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "containerd.h"

#define CTR  "ctr -a $PWD/c.sock "
#define TASK "ctd-state/io.containerd.runtime.v2.task/*/c1/"
#define RUN                                                                                                 \
	CTR "run -d --mount type=bind,src=$PWD/on,dst=/on,options=rbind:rw --fifo-dir $PWD/fifo --runtime " \
	    "io.containerd.skerry.v1 " CTD_IMAGE " c1 sh -c "

enum { STAGE_S = 120 };

struct stage {
	const char *name;
	const char *before;  /* done first; NULL = nothing */
	const char *command; /* runs while it is killed */
	const char *file;    /* that it is killed at: a pattern; or */
	const char *process; /* the process that must be there, */
	const char *gone;    /* or must not be any more */
	bool running;        /* the container must go on */
};

static const struct stage stages[] = {
	{ .name = "create: the bundle", .command = RUN "'exec sleep 1000'", .file = TASK "config.json" },
	{ .name = "create: the shim", .command = RUN "'exec sleep 1000'", .file = TASK "address" },
	{ .name = "create: the streams", .command = RUN "'exec sleep 1000'", .file = "fifo/*/c1-stdout" },
	{ .name = "create: the machine", .command = RUN "'exec sleep 1000'", .process = "qemu-system-x86" },
	{ .name = "start", .command = RUN "'echo >/on/started; exec sleep 1000'", .file = "on/started" },
	{ .name = "running",
	  .before = RUN "'exec sleep 1000'",
	  .command = CTR "task ls >listed",
	  .file = "listed",
	  .running = true },
	{ .name = "exec: its streams",
	  .before = RUN "'exec sleep 1000'",
	  .command = CTR "task exec --fifo-dir $PWD/execfifo --exec-id e1 c1 sleep 1000",
	  .file = "execfifo/*/e1-stdout",
	  .running = true },
	{ .name = "exec: running",
	  .before = RUN "'exec sleep 1000'",
	  .command = CTR
	  "task exec --exec-id e1 c1 sh -c 'echo begun; sleep 1000' | { read line && echo $line >begun; cat; }",
	  .file = "begun",
	  .running = true },
	{ .name = "kill",
	  .before = RUN "'exec sleep 1000'",
	  .command = CTR "task kill -s KILL c1 && echo >killed; exec sleep 60",
	  .file = "killed" },
	{ .name = "delete",
	  .before = RUN "'exec sleep 1000'",
	  .command = CTR "task rm -f c1",
	  .gone = "qemu-system-x86" },
};

/* Whether the stage has come. */
static bool has_come(const struct stage *s)
{
	_cleanup_free_ char *pattern = s->file ? xasprintf("%s/%s", test_tmpdir(), s->file) : NULL;
	glob_t g = {};
	bool found;

	if (s->process)
		return ctd_process(s->process) > 0;
	if (s->gone)
		return ctd_process(s->gone) == 0;
	found = glob(pattern, GLOB_NOSORT, NULL, &g) == 0;
	globfree(&g);
	return found;
}

static void wait_stage(const struct stage *s)
{
	uint64_t deadline_ns = clock_monotonic_ns() + STAGE_S * NS_PER_SEC;

	while (!has_come(s)) {
		if (clock_monotonic_ns() > deadline_ns)
			test_fail(__FILE__, __LINE__, "%s does not come", s->name);
		(void)usleep(2000); /* lint: other programs' steps, none of which is announced */
	}
}

static void check_goes_on(const char *stage)
{
	_cleanup_cli_ struct cli r = {};

	ctd_wait_status("c1", "RUNNING");
	r = ctr("task", "exec", "--exec-id", "after", "c1", "echo", "still here", NULL);
	if (r.status != 0 || !streq(r.out, "still here\n"))
		test_fail(__FILE__, __LINE__, "%s: %s", stage, r.err);
}

static void kill_at(const struct stage *s)
{
	_cleanup_free_ char *script = xasprintf("cd '%s' && %s", test_tmpdir(), s->command);
	const char *argv[] = { "setsid", CLI_SHELL, script, NULL };
	_cleanup_cli_ struct cli removed = {}, gone = {}, again = {};
	int client;

	ctd_sh("rm -rf fifo execfifo listed begun killed on && mkdir fifo execfifo on");
	if (s->before)
		ctd_sh(s->before);
	client = cli_spawn(argv);
	wait_stage(s);
	ctd_stop(SIGKILL);
	/* Its children as well: none of them may go on with the next containerd. */
	(void)kill(-client, SIGKILL);
	(void)cli_wait(client, 120);
	ctd_restart();
	if (s->running)
		check_goes_on(s->name);
	/* As somebody does who finds a container that he did not get: each may say that there is none. */
	removed = ctr("task", "rm", "-f", "c1", NULL);
	ASSERT(removed.status >= 0);
	gone = ctr("container", "rm", "c1", NULL);
	ASSERT(gone.status >= 0);
	ctd_nothing_left();
	again = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", "echo", "again", NULL);
	if (again.status != 0 || !streq(again.out, "again\n"))
		test_fail(__FILE__, __LINE__, "after %s: %s", s->name, again.err);
	ctd_nothing_left();
}

static void kill_at_all(size_t first, size_t n)
{
	ctd_start();
	for (size_t i = first; i < n; i++) {
		printf("# %s\n", stages[i].name);
		fflush(stdout);
		kill_at(&stages[i]);
	}
}

enum { FIRST_RUNNING = 5 };

TEST(killed_while_it_creates_and_starts)
{
	kill_at_all(0, FIRST_RUNNING);
}

TEST(killed_while_it_runs_joins_kills_and_deletes)
{
	kill_at_all(FIRST_RUNNING, ARRAY_SIZE(stages));
}
