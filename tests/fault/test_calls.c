/* Every system call that can fail is failed once: the Nth, for N = 1, 2, … until there is no Nth. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "scenario.h"

enum { CALLS_MAX = 600 };

static char log_path[300];

static bool was_failed(char *what, size_t n)
{
	FILE *f = fopen(log_path, "re");
	bool failed = false;

	snprintf(what, n, "?");
	if (!f)
		return false;
	failed = fgets(what, (int)n, f) != NULL;
	what[strcspn(what, "\n")] = '\0';
	fclose(f);
	unlink(log_path);
	return failed;
}

static void arm(const char *program, unsigned nth)
{
	const char *preload = getenv("SKERRY_TEST_FAILCALL");
	char assignment[400];

	ASSERT(preload != NULL);
	snprintf(assignment, sizeof(assignment), "SKERRY_FAILCALL=%s:%u", program, nth);
	cli_setenv(assignment);
	snprintf(assignment, sizeof(assignment), "SKERRY_FAILCALL_LOG=%s", log_path);
	cli_setenv(assignment);
	snprintf(assignment, sizeof(assignment), "LD_PRELOAD=%s", preload);
	cli_setenv(assignment);
}

static void disarm(void)
{
	cli_setenv("LD_PRELOAD=");
	cli_setenv("SKERRY_FAILCALL=");
	cli_setenv("SKERRY_FAILCALL_LOG=");
}

/* Steps before @step are run undisturbed, @step with the Nth call of @program failing. */
static void fail_each_call(const char *program, size_t step, unsigned stride)
{
	unsigned n, failed = 0, survived = 0;
	char what[96], why[200];

	scenario_home(true);
	snprintf(log_path, sizeof(log_path), "%s/failed-call", test_tmpdir());
	for (n = 1; n < CALLS_MAX; n += stride) {
		struct cli r;
		bool hit;

		for (size_t i = 0; i < step; i++) {
			_cleanup_cli_ struct cli before = run_step(i);

			ASSERT_STATUS(before, 0);
		}
		arm(program, n);
		r = run_step(step);
		disarm();
		hit = was_failed(what, sizeof(what));
		snprintf(why, sizeof(why), "%s: `%s` with call %s failing", program, life[step].name, what);
		assert_clean_failure(&r, why);
		failed += r.status != 0;
		survived += hit && r.status == 0;
		if (r.status != 0)
			repeat_step(step, why);
		cli_done(&r);
		assert_nothing_left(why);
		if (!hit)
			break;
	}
	printf("# %s %s: %u calls failed once each (every %u), %u ended the command cleanly, %u did no harm\n", program,
	       life[step].name, n - 1, stride, failed, survived);
	ASSERT(n > 5 && n < CALLS_MAX);
}

TEST(create_survives_each_failing_call)
{
	fail_each_call("skerry", 0, 1);
}

TEST(start_survives_each_failing_call)
{
	fail_each_call("skerry", 1, 1);
}

TEST(the_monitor_survives_each_failing_call)
{
	fail_each_call("skerry-monitor", 1, 1);
}

TEST(stop_survives_each_failing_call)
{
	fail_each_call("skerry", 3, 1);
}
