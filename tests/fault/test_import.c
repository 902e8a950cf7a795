/* Importing an archive broken off at every labelled side effect, into each kind of file system: the same command again must do, and leave one
 * image, the same one as ever, and nothing of the tries before. */
#include <sys/stat.h>
#include <unistd.h>

#include "scenario.h"

enum { LABELS_MAX = 64, OCCURRENCES_MAX = 3 };

static char labels[LABELS_MAX][64];
static unsigned counts[LABELS_MAX];
static size_t n_labels;
static char root[300], disk_digest[200];

static struct cli import(const char *format)
{
	return cli("image", "import", root, "--format", format, "--name", "app", "--quiet", NULL);
}

static void shell(const char *script)
{
	_cleanup_cli_ struct cli r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, 600);

	ASSERT_STATUS(r, 0);
}

static void forget(void)
{
	shell("rm -rf \"$SKERRY_HOME/images\"");
}

static void set_up(void)
{
	unsetenv("SKERRY_TEST_STORE");
	(void)scenario_home(false);
	ASSERT_EQ(chdir(test_tmpdir()), 0);
	shell("mkdir -p r/d r/e; seq 3000 > r/d/f; ln r/d/f r/e/g; truncate -s 1M r/hole; echo x >> r/hole;"
	      "tar --sparse -C r -cf root.tar .");
	snprintf(root, sizeof(root), "%s/root.tar", test_tmpdir());
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

/* "disk_digest" of what `image inspect` tells. */
static void read_disk(char *ret, size_t n)
{
	_cleanup_cli_ struct cli r = cli("image", "inspect", "app", NULL);
	const char *p;

	ASSERT_STATUS(r, 0);
	p = strstr(r.out, "\"disk_digest\": ");
	ASSERT(p);
	snprintf(ret, n, "%.*s", (int)strcspn(p, "\n"), p);
}

static void discover(const char *format)
{
	char path[300], assignment[400];

	snprintf(path, sizeof(path), "%s/points.log", test_tmpdir());
	snprintf(assignment, sizeof(assignment), "SKERRY_FAULT_LOG=%s", path);
	cli_setenv(assignment);
	{
		_cleanup_cli_ struct cli r = import(format);

		ASSERT_STATUS(r, 0);
	}
	cli_setenv("SKERRY_FAULT_LOG=");
	read_labels(path);
	read_disk(disk_digest, sizeof(disk_digest));
	ASSERT(n_labels >= 5);
}

static bool disturb(const char *format, const char *label, unsigned nth, const char *action)
{
	char assignment[128], why[160], names[4096], now[200];
	bool hit;

	forget();
	snprintf(assignment, sizeof(assignment), "SKERRY_FAULT=%s:%u=%s", label, nth, action);
	snprintf(why, sizeof(why), "%s: %s at passing %u of %s", format, action, nth, label);
	cli_setenv(assignment);
	{
		_cleanup_cli_ struct cli r = import(format);

		hit = r.status != 0;
		if (hit)
			assert_clean_failure(&r, why);
	}
	cli_setenv("SKERRY_FAULT=");
	ASSERT(cli_processes_gone(120));
	{
		_cleanup_cli_ struct cli r = import(format);

		if (r.status != 0)
			test_fail(__FILE__, __LINE__, "%s: again: %d %s", why, r.status, r.err);
	}
	read_disk(now, sizeof(now));
	if (strcmp(now, disk_digest) != 0)
		test_fail(__FILE__, __LINE__, "%s: another disk: %s, not %s", why, now, disk_digest);
	if (cli_entries("images/disks", names, sizeof(names)) != 1)
		test_fail(__FILE__, __LINE__, "%s: %s", why, names);
	return hit;
}

static void disturb_all(const char *format, const char *action)
{
	unsigned runs = 0, hits = 0;

	set_up();
	discover(format);
	for (size_t i = 0; i < n_labels; i++)
		for (unsigned k = 1; k <= counts[i] && k <= OCCURRENCES_MAX; k++, runs++)
			hits += disturb(format, labels[i], k, action);
	printf("# %zu labelled points, %u runs with %s, %u of them broke the import off\n", n_labels, runs, action,
	       hits);
	ASSERT(hits >= n_labels / 2);
}

TEST(an_ext4_killed_at_every_point)
{
	disturb_all("ext4", "kill");
}

TEST(an_erofs_killed_at_every_point)
{
	disturb_all("erofs", "kill");
}

TEST(an_erofs_failing_at_every_point)
{
	disturb_all("erofs", "EIO");
}

TEST(an_erofs_on_a_disk_that_is_full)
{
	disturb_all("erofs", "ENOSPC");
}

/* The user's directory holds the whole archive, or nothing. */
TEST(what_is_saved_is_whole_or_not_there)
{
	static const char *const faults[] = { "new-file-open=kill", "new-file-open=ENOSPC", "new-file-finish=kill",
					      "new-file-finish=ENOSPC" };
	char out[320], directory[300];

	set_up();
	snprintf(directory, sizeof(directory), "%s/out", test_tmpdir());
	snprintf(out, sizeof(out), "%s/a.tar", directory);
	ASSERT_EQ(mkdir(directory, 0755), 0);
	{
		_cleanup_cli_ struct cli r = import("ext4");

		ASSERT_STATUS(r, 0);
	}
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++) {
		char assignment[64];

		snprintf(assignment, sizeof(assignment), "SKERRY_FAULT=%s", faults[i]);
		cli_setenv(assignment);
		{
			_cleanup_cli_ struct cli r = cli("image", "save", "app", "-o", out, NULL);

			assert_clean_failure(&r, faults[i]);
		}
		cli_setenv("SKERRY_FAULT=");
		shell("test -z \"$(ls -A out)\"");
	}
	{
		_cleanup_cli_ struct cli r = cli("image", "save", "app", "-o", out, NULL);

		ASSERT_STATUS(r, 0);
	}
	shell("tar -tf out/a.tar >/dev/null; test \"$(ls -A out)\" = a.tar");
}
