/* Images that boot by themselves: a distribution's disk with cloud-init, and what an installer made (scripts/test-firmware.sh). */
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

/* Emulated, on a busy host: a boot of a whole distribution. */
enum { BOOT_S = 1200, SHORT_S = 600 };

static const char *prepared(const char *file)
{
	static char path[512];
	const char *dir = getenv("SKERRY_TEST_FIRMWARE");

	snprintf(path, sizeof(path), "%s/%s", dir ? dir : "", file);
	if (!dir || access(path, R_OK) < 0)
		test_skip("SKERRY_TEST_FIRMWARE has no %s", file);
	return path;
}

static struct cli skerry(unsigned timeout_s, const char *const *words)
{
	const char *argv[32] = { cli_skerry() };

	for (size_t i = 0; words[i] && i < 30; i++)
		argv[i + 1] = words[i];
	return cli_argv(argv, NULL, timeout_s);
}

static struct cli good(struct cli r)
{
	ASSERT_STATUS(r, 0);
	return r;
}

#define LONG(...)  good(skerry(BOOT_S, (const char *const[]){ __VA_ARGS__, NULL }))
#define SHORT(...) good(skerry(SHORT_S, (const char *const[]){ __VA_ARGS__, NULL }))
#define FAILS(...) skerry(SHORT_S, (const char *const[]){ __VA_ARGS__, NULL })

static const char *write_file(const char *name, const char *text)
{
	static char path[512];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", test_tmpdir(), name);
	f = fopen(path, "we");
	ASSERT(f && fputs(text, f) >= 0 && fclose(f) == 0);
	return path;
}

TEST(a_distributions_disk_takes_its_settings_from_the_seed)
{
	_cleanup_cli_ struct cli told = {}, instance = {}, again = {}, stop = {};
	const char *user_data;

	cli_home(true);
	SHORT("image", "import", prepared("cloud.qcow2"), "--name", "cloud");
	user_data = write_file("user.yaml", "#cloud-config\nlocale: false\nusers:\n  - name: ann\n"
					    "write_files:\n  - path: /etc/from-user\n    content: hello\n");
	SHORT("create", "c1", "--image", "cloud", "--disk", "3G", "--home", "1G", "--user-data", user_data);
	LONG("start", "--wait", "--timeout", "20m", "c1");
	told = LONG(
		"ssh", "--timeout", "20m", "c1", "--",
		"hostname; id -un; sudo -n id -u; cat /etc/from-user; echo; getent passwd ann | cut -d: -f1; "
		"ls /etc/ssh/ssh_host_*_key; df --output=size -k / | tail -1 | awk '$1 > 2500000 { print \"grown\" }'; "
		"findmnt -n -o SOURCE /home; cat /sys/class/net/e*/address");
	ASSERT_CONTAINS(told.out, "c1\ndev\n0\nhello\nann\n/etc/ssh/ssh_host_ed25519_key\ngrown\n/dev/vdb\n02:");
	/* Its ssh checked the host's key: the one that was recorded when the machine was made. */
	instance = LONG("ssh", "c1", "--", "cat /var/lib/cloud/data/instance-id; echo kept > ~/file; sync");
	{
		_cleanup_cli_ struct cli r = FAILS("exec", "c1", "true");

		ASSERT_STATUS(r, 125);
		ASSERT_CONTAINS(r.err, "hint: skerry ssh c1");
	}
	LONG("stop", "--timeout", "10m", "c1");
	stop = SHORT("status", "c1");
	ASSERT_CONTAINS(stop.out, "power button");
	SHORT("start", "c1");
	LONG("wait", "--for", "ssh", "--timeout", "20m", "c1");
	again = LONG("ssh", "c1", "--", "cat /var/lib/cloud/data/instance-id file");
	ASSERT(strncmp(again.out, instance.out, strlen(instance.out)) == 0);
	ASSERT_CONTAINS(again.out, "kept\n");
	SHORT("delete", "--force", "c1");
	ASSERT(cli_processes_gone(120));
}

TEST(what_an_installer_made_becomes_an_image)
{
	_cleanup_cli_ struct cli install = {}, sealed = {}, log = {}, list = {};
	char answers[300];

	cli_home(true);
	prepared("installer.iso");
	snprintf(answers, sizeof(answers), "%s/answers", test_tmpdir());
	ASSERT_OK(mkdir(answers, 0700));
	write_file("answers/answer.txt", "forty-two");
	install = LONG("image", "install", "mine", "--iso", prepared("installer.iso"), "--disk", "64M", "--home", "32M",
		       "--answers", answers, "--memory", "512M");
	ASSERT_CONTAINS(install.out, "SKERRY-INSTALLER: done");
	ASSERT_CONTAINS(install.err, "skerry image seal mine");
	{
		/* Nothing is an image before it is sealed; and what is done is not done again by accident. */
		_cleanup_cli_ struct cli create = FAILS("create", "m1", "--image", "mine");
		_cleanup_cli_ struct cli twice = FAILS("image", "install", "mine", "--iso", prepared("installer.iso"));

		ASSERT_STATUS(create, 1);
		ASSERT_STATUS(twice, 73);
		ASSERT_CONTAINS(twice.err, "waits to be sealed");
	}
	sealed = LONG("image", "seal", "mine");
	ASSERT_CONTAINS(sealed.out, "sha256:");
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
	SHORT("create", "m1", "--image", "mine", "--disk", "128M");
	SHORT("start", "m1");
	LONG("wait", "m1");
	log = SHORT("logs", "m1");
	ASSERT_CONTAINS(log.out, "SKERRY-INSTALLED: disk system of 262144 sectors");
	ASSERT_CONTAINS(log.out, "SKERRY-ANSWER: forty-two");
	list = SHORT("path", "m1", "home");
	list.out[strcspn(list.out, "\n")] = '\0';
	ASSERT_OK(access(list.out, R_OK));
	SHORT("delete", "-y", "m1");
	SHORT("image", "delete", "mine");
}

TEST(an_interrupted_installation_is_joined_again_or_begins_anew)
{
	const char *iso, *argv[] = { cli_skerry(), "image", "install", "mine", "--iso", NULL, "--disk", "16M", NULL };
	_cleanup_cli_ struct cli joined = {}, anew = {}, seal = {};
	int pid;

	cli_home(true);
	iso = prepared("installer.iso");
	argv[5] = iso;
	pid = cli_spawn(argv);
	/* Killed when the machine runs: the installation goes on without it. */
	for (int i = 0; i < 1200; i++) {
		_cleanup_cli_ struct cli r = cli("wait", "--for", "running", "install-mine", NULL);

		if (r.status == 0)
			break;
		nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL); /* lint: it is not there yet */
	}
	kill(pid, SIGKILL);
	(void)cli_wait(pid, 120);
	{
		_cleanup_cli_ struct cli busy = FAILS("image", "seal", "mine");

		/* 16 MiB are too few for what it writes: it says so and powers off, and may have done so before we looked. */
		if (busy.status == 0) {
			SHORT("image", "delete", "mine");
		} else {
			ASSERT_STATUS(busy, 75);
			joined =
				skerry(BOOT_S, (const char *const[]){ "image", "install", "mine", "--iso", iso, NULL });
			/* Or it has come to its end since. */
			ASSERT_CONTAINS(joined.err, joined.status == 73 ? "waits to be sealed" : "goes on");
		}
	}
	LONG("image", "install", "mine", "--iso", prepared("halt.iso"), "--again", "--disk", "16M");
	SHORT("start", "install-mine");
	SHORT("kill", "install-mine");
	seal = FAILS("image", "seal", "mine");
	ASSERT_STATUS(seal, 65);
	anew = LONG("image", "install", "mine", "--iso", prepared("halt.iso"), "--disk", "16M");
	ASSERT_CONTAINS(anew.err, "begins anew");
	LONG("image", "seal", "mine");
	SHORT("image", "delete", "mine");
}

TEST(a_draft_stays_until_another_one_can_take_its_place)
{
	static const struct {
		const char *words[12];
		int status;
	} cases[] = {
		{ { "image", "install", "mine", "--again" }, 64 },
		{ { "image", "install", "mine", "--again", "--iso", "/nonexistent" }, 1 },
		{ { "image", "install", "mine", "--again", "--iso", "/dev/null" }, 65 },
		{ { "image", "install", "mine", "--again", "--iso", NULL, "--memory", "1M" }, 64 },
		{ { "image", "install", "mine", "--again", "--iso", NULL, "--answers", "/nonexistent" }, 1 },
	};
	_cleanup_cli_ struct cli broken = {}, sealed = {};
	const char *iso;

	cli_home(true);
	iso = prepared("halt.iso");
	LONG("image", "install", "mine", "--iso", iso, "--disk", "16M");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *words[13] = {};
		_cleanup_cli_ struct cli r = {};

		memcpy(words, cases[i].words, sizeof(cases[i].words));
		for (size_t k = 1; k < 12; k++)
			if (!words[k] && strcmp(words[k - 1] ? words[k - 1] : "", "--iso") == 0)
				words[k] = iso;
		r = skerry(SHORT_S, words);
		ASSERT_STATUS(r, cases[i].status);
		ASSERT_EQ(cli_entries("machines", NULL, 0), 1);
	}
	SHORT("start", "install-mine");
	SHORT("kill", "install-mine");
	broken = FAILS("image", "install", "mine");
	ASSERT_STATUS(broken, 73);
	ASSERT_CONTAINS(broken.err, "skerry start install-mine");
	ASSERT_CONTAINS(broken.err, "--again --iso");
	SHORT("start", "install-mine");
	LONG("wait", "install-mine");
	sealed = LONG("image", "seal", "mine");
	ASSERT_CONTAINS(sealed.out, "sha256:");
	SHORT("image", "delete", "mine");
}

TEST(what_makes_no_sense_for_such_an_image_is_refused)
{
	static const struct {
		const char *words[12];
		int status;
		const char *part;
	} cases[] = {
		{ { "create", "x", "--image", "disk", "--shape", "micro" }, 64, "--shape micro" },
		{ { "create", "x", "--image", "disk", "--kernel", "built" }, 64, "--kernel" },
		{ { "create", "x", "--image", "disk", "--user-data", "/dev/null" }, 65, "--user-data" },
		{ { "create", "x", "--image", "tiny", "--user-data", NULL }, 64, "--user-data" },
		{ { "run", "--rm", "disk", "true" }, 125, "no command can be run" },
		{ { "image", "import", "/dev/null" }, 65, "" },
		{ { "image", "install", "x" }, 64, "--iso" },
		{ { "image", "install", "x", "--iso", "/nonexistent" }, 1, "--iso" },
		{ { "image", "seal", "x" }, 1, "nothing was installed" },
		{ { "image", "seal", "../x" }, 64, "" },
	};
	char raw[300], user_data[512];
	FILE *f;

	cli_home(true);
	snprintf(user_data, sizeof(user_data), "%s", write_file("u", "#!/bin/sh\n"));
	snprintf(raw, sizeof(raw), "%s", write_file("raw", ""));
	ASSERT_OK(truncate(raw, 1 << 20));
	f = fopen(raw, "r+e");
	ASSERT(f && fseek(f, 510, SEEK_SET) == 0 && fputs("\x55\xaa", f) >= 0 && fclose(f) == 0);
	SHORT("image", "import", raw, "--name", "disk", "--user", "ann");
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *words[13] = {};
		_cleanup_cli_ struct cli r = {};
		size_t n = 0;

		for (; cases[i].words[n]; n++)
			words[n] = cases[i].words[n];
		if (n && strcmp(words[n - 1], "--user-data") == 0)
			words[n] = user_data;
		r = skerry(SHORT_S, words);
		ASSERT_STATUS(r, cases[i].status);
		ASSERT_CONTAINS(r.err, cases[i].part);
	}
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}
