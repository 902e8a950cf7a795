/* Disk images, seeds and installations, broken off at each labelled point: the same command again does it, and nothing half is ever an image. */
#include <sys/stat.h>
#include <unistd.h>

#include "scenario.h"

enum { LONG_S = 1800, ENDINGS_S = 20 };

static char disk[300], answers[300], user_data[300], halt[512];

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	ASSERT(f && fputs(text, f) >= 0 && fclose(f) == 0);
}

static void prepare(void)
{
	const char *dir = getenv("SKERRY_TEST_FIRMWARE");
	_cleanup_cli_ struct cli packed = {};
	char plain[300];
	FILE *f;

	scenario_home(true);
	snprintf(halt, sizeof(halt), "%s/halt.iso", dir ? dir : "");
	if (!dir || access(halt, R_OK) < 0)
		test_skip("SKERRY_TEST_FIRMWARE has no halt.iso");
	snprintf(plain, sizeof(plain), "%s/disk.img", test_tmpdir());
	snprintf(disk, sizeof(disk), "%s/disk.img.gz", test_tmpdir());
	snprintf(answers, sizeof(answers), "%s/answers", test_tmpdir());
	snprintf(user_data, sizeof(user_data), "%s/user-data", test_tmpdir());
	write_text(plain, "");
	ASSERT_OK(truncate(plain, 1 << 20));
	f = fopen(plain, "r+e");
	ASSERT(f && fseek(f, 510, SEEK_SET) == 0 && fputs("\x55\xaa", f) >= 0 && fclose(f) == 0);
	packed = cli_argv((const char *const[]){ "gzip", plain, NULL }, NULL, 600);
	ASSERT_STATUS(packed, 0);
	write_text(user_data, "#!/bin/sh\n");
	ASSERT_OK(mkdir(answers, 0700));
}

static struct cli skerry(const char *const *words)
{
	const char *argv[20] = { cli_skerry() };

	for (size_t i = 0; words[i] && i < 18; i++)
		argv[i + 1] = words[i];
	return cli_argv(argv, NULL, LONG_S);
}

#define SKERRY(...) skerry((const char *const[]){ __VA_ARGS__, NULL })

/* The command with a fault at @label, then without: @words must fail cleanly or be killed, and then succeed. */
static void broken_off(const char *label, const char *action, const char *const *words)
{
	_cleanup_cli_ struct cli broken = {}, again = {};
	char assignment[128];

	snprintf(assignment, sizeof(assignment), "SKERRY_FAULT=%s=%s", label, action);
	cli_setenv(assignment);
	broken = skerry(words);
	cli_setenv("SKERRY_FAULT=");
	if (broken.status == 0)
		test_fail(__FILE__, __LINE__, "%s at %s: nothing was broken off", action, label);
	if (strcmp(action, "kill") != 0)
		assert_clean_failure(&broken, label);
	(void)cli_endings_over(ENDINGS_S);
	again = skerry(words);
	if (again.status != 0)
		test_fail(__FILE__, __LINE__, "%s at %s, then again: status %d\n# err: %s", action, label, again.status,
			  again.err);
}

/* Sealed disks: whole directories, never one that is under way. */
static int sealed(void)
{
	char names[4096];

	return cli_entries("images/disks", names, sizeof(names));
}

static void import_broken_off(const char *label, const char *action)
{
	int before = sealed();
	_cleanup_cli_ struct cli gone = {};

	broken_off(label, action, (const char *const[]){ "image", "import", disk, "--name", "d", NULL });
	ASSERT_EQ(sealed(), before + 1);
	gone = SKERRY("image", "delete", "d");
	ASSERT_STATUS(gone, 0);
	ASSERT_EQ(sealed(), before);
}

TEST(an_import_broken_off_is_done_by_the_next)
{
	static const char *const labels[] = { "import-unpack", "disk-convert", "image-workshop", "image-seal",
					      "image-index" };

	prepare();
	for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
		import_broken_off(labels[i], "kill");
		import_broken_off(labels[i], "ENOSPC");
	}
}

TEST(a_machine_of_a_disk_image_is_made_and_started_whole_or_not_at_all)
{
	static const char *const creating[] = { "create.user-data", "create.record" };
	static const char *const starting[] = { "start.nvram.write", "start.nvram.rename", "start.seed.write",
						"seed.write",        "start.seed.rename",  "start.engine.acquire" };
	static const char *const actions[] = { "kill", "ENOSPC" };
	_cleanup_cli_ struct cli import = {};

	prepare();
	import = SKERRY("image", "import", disk, "--name", "d");
	ASSERT_STATUS(import, 0);
	for (size_t k = 0; k < 2; k++) {
		for (size_t i = 0; i < sizeof(creating) / sizeof(creating[0]); i++) {
			_cleanup_cli_ struct cli gone = {};

			broken_off(creating[i], actions[k],
				   (const char *const[]){ "create", MACHINE, "--image", "d", "--user-data", user_data,
							  NULL });
			gone = SKERRY("delete", "-y", MACHINE);
			ASSERT_STATUS(gone, 0);
		}
		for (size_t i = 0; i < sizeof(starting) / sizeof(starting[0]); i++) {
			_cleanup_cli_ struct cli create = SKERRY("create", MACHINE, "--image", "d"), gone = {};

			ASSERT_STATUS(create, 0);
			broken_off(starting[i], actions[k], (const char *const[]){ "start", MACHINE, NULL });
			gone = SKERRY("delete", "--force", MACHINE);
			ASSERT_STATUS(gone, 0);
		}
	}
	ASSERT(cli_processes_gone(120));
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
	ASSERT_EQ(cli_entries("run", NULL, 0), 0);
}

TEST(an_installation_broken_off_is_joined_or_begun_anew)
{
	static const char *const installing[] = { "create.answers", "create.system.qcow2", "create.rename",
						  "start.engine.record", "stop.exit" };
	static const char *const sealing[] = { "disk-convert", "image-seal", "image-index" };
	int before;

	prepare();
	before = sealed();
	for (size_t i = 0; i < sizeof(installing) / sizeof(installing[0]); i++) {
		_cleanup_cli_ struct cli gone = {};

		broken_off(installing[i], "kill",
			   (const char *const[]){ "image", "install", "i", "--iso", halt, "--disk", "16M", "--answers",
						  answers, "--memory", "256M", NULL });
		ASSERT_EQ(sealed(), before);
		gone = SKERRY("delete", "-y", "install-i");
		ASSERT_STATUS(gone, 0);
	}
	for (size_t i = 0; i < sizeof(sealing) / sizeof(sealing[0]); i++) {
		_cleanup_cli_ struct cli install = {}, gone = {};

		install = SKERRY("image", "install", "i", "--iso", halt, "--disk", "16M", "--memory", "256M");
		ASSERT_STATUS(install, 0);
		broken_off(sealing[i], i ? "kill" : "ENOSPC", (const char *const[]){ "image", "seal", "i", NULL });
		ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
		gone = SKERRY("image", "delete", "i");
		ASSERT_STATUS(gone, 0);
		ASSERT_EQ(sealed(), before);
	}
	ASSERT(cli_processes_gone(120));
}
