/* Pulling and pushing broken off at every labelled side effect: the same command again must do, and leave one image and no half ones. */
#include <unistd.h>

#include "registry.h"
#include "scenario.h"

enum { LABELS_MAX = 64, OCCURRENCES_MAX = 3 };

static struct registry_server server;
static char source[128], target[128], digest[90];
static char labels[LABELS_MAX][64];
static unsigned counts[LABELS_MAX];
static size_t n_labels;

static struct cli pull(void)
{
	return cli("image", "pull", "--quiet", source, NULL);
}

static struct cli push(void)
{
	return cli("image", "push", "--quiet", source, target, NULL);
}

/* As if nothing had ever been pulled, or pushed. */
static void forget(void)
{
	char script[1024];
	_cleanup_cli_ struct cli r = {};

	/* The registry may not have heard yet that a push was broken off, and put its next piece there. */
	snprintf(script, sizeof(script),
		 "rm -rf '%s/images'; until rm -rf '%s/registry/docker/registry/v2/repositories/copy'; do sleep 0.2; "
		 "done",
		 getenv("SKERRY_HOME"), test_tmpdir());
	r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, 120);
	ASSERT_STATUS(r, 0);
}

static void set_up(void)
{
	unsetenv("SKERRY_TEST_STORE");
	setenv("HOME", test_tmpdir(), 1);
	(void)scenario_home(false);
	registry_server_start(&server, false);
	setenv("SKERRY_PLAIN_HTTP", server.host, 1);
	registry_make_image("one", 600);
	snprintf(digest, sizeof(digest), "%s\n", registry_layout_digest("one"));
	registry_put(&server, "one", "app:1", false);
	snprintf(source, sizeof(source), "%s/app:1", server.host);
	snprintf(target, sizeof(target), "%s/copy:1", server.host);
}

static void read_labels(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[64];

	ASSERT(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		size_t i = 0;

		line[strcspn(line, "\n")] = '\0';
		while (i < n_labels && strcmp(labels[i], line) != 0)
			i++;
		ASSERT(i < LABELS_MAX);
		snprintf(labels[i], sizeof(labels[i]), "%s", line);
		counts[i]++;
		n_labels += i == n_labels;
	}
	fclose(f);
}

static void discover(void)
{
	char path[300], assignment[400];

	snprintf(path, sizeof(path), "%s/points.log", test_tmpdir());
	snprintf(assignment, sizeof(assignment), "SKERRY_FAULT_LOG=%s", path);
	cli_setenv(assignment);
	{
		_cleanup_cli_ struct cli in = pull(), out = push();

		ASSERT_STATUS(in, 0);
		ASSERT_STATUS(out, 0);
	}
	cli_setenv("SKERRY_FAULT_LOG=");
	read_labels(path);
	ASSERT(n_labels >= 8);
}

static void assert_one_image(const char *why)
{
	_cleanup_cli_ struct cli list = cli("image", "list", "--format", "json", NULL);
	char names[4096];

	ASSERT_STATUS(list, 0);
	if (!strstr(list.out, source) || !strstr(list.out, "\"generation\": 1"))
		test_fail(__FILE__, __LINE__, "%s: %s", why, list.out);
	if (cli_entries("images/disks", names, sizeof(names)) != 1)
		test_fail(__FILE__, __LINE__, "%s: %s", why, names);
}

/* Returns whether a command was broken off. */
static bool disturb(const char *label, unsigned nth, const char *action)
{
	char assignment[128], why[160];
	bool hit;

	forget();
	snprintf(assignment, sizeof(assignment), "SKERRY_FAULT=%s:%u=%s", label, nth, action);
	snprintf(why, sizeof(why), "%s at passing %u of %s", action, nth, label);
	cli_setenv(assignment);
	{
		_cleanup_cli_ struct cli in = pull(), out = push();

		hit = in.status != 0 || out.status != 0;
		if (in.status != 0)
			assert_clean_failure(&in, why);
		else if (out.status != 0)
			assert_clean_failure(&out, why);
	}
	cli_setenv("SKERRY_FAULT=");
	ASSERT(cli_processes_gone(120));
	{
		_cleanup_cli_ struct cli in = pull(), out = push();

		if (in.status != 0 || out.status != 0 || strcmp(in.out, digest) != 0)
			test_fail(__FILE__, __LINE__, "%s: again: %d %d %s%s", why, in.status, out.status, in.err,
				  out.err);
	}
	assert_one_image(why);
	registry_get(&server, "copy:1", "back", false);
	return hit;
}

static void disturb_all(const char *action)
{
	unsigned runs = 0, hits = 0;

	set_up();
	discover();
	for (size_t i = 0; i < n_labels; i++)
		for (unsigned k = 1; k <= counts[i] && k <= OCCURRENCES_MAX; k++) {
			runs++;
			hits += disturb(labels[i], k, action);
		}
	printf("# %zu labelled points, %u runs with %s, %u of them broke a command off\n", n_labels, runs, action,
	       hits);
	ASSERT(hits >= n_labels / 2);
}

TEST(a_pull_and_a_push_killed_at_every_labelled_point)
{
	disturb_all("kill");
}

TEST(a_pull_and_a_push_without_space_at_every_labelled_point)
{
	disturb_all("ENOSPC");
}
