/* Every labelled side effect is killed at: kill -9 of whichever process passes it. Afterwards the same command again must do, nothing may be
 * lost and nothing left behind. */
#include <fcntl.h>
#include <unistd.h>

#include "scenario.h"

enum { LABELS_MAX = 128, OCCURRENCES_MAX = 4 };

struct label {
	char name[64];
	unsigned count;
};

static struct label labels[LABELS_MAX];
static size_t n_labels;

/* The labels that an undisturbed life passes, from the log that the points write. */
static void read_labels(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[64];

	ASSERT(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		size_t i = 0;

		line[strcspn(line, "\n")] = '\0';
		while (i < n_labels && strcmp(labels[i].name, line) != 0)
			i++;
		ASSERT(i < LABELS_MAX);
		snprintf(labels[i].name, sizeof(labels[i].name), "%s", line);
		labels[i].count++;
		n_labels += i == n_labels;
	}
	fclose(f);
}

static void discover(void)
{
	char log[300], assignment[400];

	snprintf(log, sizeof(log), "%s/points.log", test_tmpdir());
	snprintf(assignment, sizeof(assignment), "SKERRY_FAULT_LOG=%s", log);
	cli_setenv(assignment);
	for (size_t i = 0; i < life_steps; i++) {
		_cleanup_cli_ struct cli r = run_step(i);

		ASSERT_STATUS(r, 0);
	}
	ASSERT(cli_processes_gone(120));
	cli_setenv("SKERRY_FAULT_LOG=");
	read_labels(log);
	ASSERT(n_labels > 0);
}

/* One life in which the @nth passing of @label is answered by @action. Returns whether it was hit. */
static bool disturbed_life(const char *label, unsigned nth, const char *action)
{
	char assignment[128], why[160];
	bool hit = false;

	snprintf(assignment, sizeof(assignment), "SKERRY_FAULT=%s:%u=%s", label, nth, action);
	snprintf(why, sizeof(why), "%s at passing %u of %s", action, nth, label);
	cli_setenv(assignment);
	for (size_t i = 0; i < life_steps; i++) {
		_cleanup_cli_ struct cli r = run_step(i);

		if (r.status == 0)
			continue;
		hit = true;
		cli_setenv("SKERRY_FAULT=");
		repeat_step(i, why);
	}
	cli_setenv("SKERRY_FAULT=");
	assert_nothing_left(why);
	return hit;
}

static void disturb_all(const char *action)
{
	unsigned runs = 0, hits = 0;

	scenario_home(true);
	discover();
	for (size_t i = 0; i < n_labels; i++) {
		unsigned n = labels[i].count < OCCURRENCES_MAX ? labels[i].count : OCCURRENCES_MAX;

		for (unsigned k = 1; k <= n; k++) {
			runs++;
			hits += disturbed_life(labels[i].name, k, action);
		}
	}
	printf("# %zu labelled points, %u runs with %s, %u of them broke a command off\n", n_labels, runs, action,
	       hits);
	/* A point that is passed but breaks nothing off would mean that the injection does not work. */
	ASSERT(hits >= n_labels / 2);
}

TEST(killed_at_every_labelled_point)
{
	disturb_all("kill");
}

TEST(no_space_at_every_labelled_point)
{
	disturb_all("ENOSPC");
}
