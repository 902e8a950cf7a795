/* Cleaning up beside those who bring images in, from Debian's docker-registry: nothing that somebody wants goes, and in the end nothing is left. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli.h"
#include "registry.h"

enum { DIFFERENT = 4, IMAGES = DIFFERENT + 1, ROUNDS = 3, PULL_TIMEOUT_S = 200 };
/* A manifest, a configuration and two layers. */
enum { BLOBS = 4 };

static struct registry_server server;

static void ok(struct cli r)
{
	ASSERT_STATUS(r, 0);
	cli_done(&r);
}

static const char *name(unsigned i)
{
	static char text[IMAGES][64];

	snprintf(text[i], sizeof(text[i]), "%s/app%u:1", server.host, i);
	return text[i];
}

/* The last is the first by another name: they have all in common. */
static void start(void)
{
	unsetenv("SKERRY_TEST_STORE");
	setenv("HOME", test_tmpdir(), 1);
	(void)cli_home(false);
	registry_server_start(&server, false);
	setenv("SKERRY_PLAIN_HTTP", server.host, 1);
	for (unsigned i = 0; i < IMAGES; i++) {
		char tag[16], to[32];

		snprintf(tag, sizeof(tag), "t%u", i % DIFFERENT);
		snprintf(to, sizeof(to), "app%u:1", i);
		if (i < DIFFERENT)
			registry_make_image(tag, 4000 + 1000 * i);
		registry_put(&server, tag, to, false);
	}
}

/* How many entries there are whose names begin with @prefix, or do not. */
static unsigned entries(const char *below, const char *prefix, bool begins)
{
	char path[400];
	const struct dirent *e;
	unsigned n = 0;
	DIR *d;

	snprintf(path, sizeof(path), "%s/images/%s", getenv("SKERRY_HOME"), below);
	d = opendir(path);
	while (d && (e = readdir(d)))
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
		     (strncmp(e->d_name, prefix, strlen(prefix)) == 0) == begins;
	if (d)
		(void)closedir(d);
	return n;
}

static bool has_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) > 0;
}

/* All of them at once; until the last one has ended, one prune after the other. Returns how many there were. */
static unsigned pull_all(void)
{
	int pids[IMAGES], pidfds[IMAGES];
	unsigned prunes = 0;
	bool left = true;

	for (unsigned i = 0; i < IMAGES; i++) {
		pids[i] = cli_spawn((const char *[]){ cli_skerry(), "image", "pull", name(i), NULL });
		pidfds[i] = (int)syscall(SYS_pidfd_open, pids[i], 0);
		ASSERT(pidfds[i] >= 0);
	}
	while (left) {
		left = false;
		for (unsigned i = 0; i < IMAGES; i++)
			left |= !has_ended(pidfds[i]);
		ok(cli("image", "prune", "-y", NULL));
		prunes++;
	}
	for (unsigned i = 0; i < IMAGES; i++) {
		ASSERT_EQ(cli_wait(pids[i], PULL_TIMEOUT_S), 0);
		(void)close(pidfds[i]);
	}
	return prunes;
}

/* Every blob of it is read and compared with its digest on the way out, and its disk is a sound file system. */
static void is_whole(unsigned i)
{
	_cleanup_cli_ struct cli check = {};
	char to[32];

	snprintf(to, sizeof(to), "docker-archive:out%u", i);
	ok(cli("image", "save", name(i), to, NULL));
	ok(cli("image", "export-disk", "--force", "--format", "raw", name(i), "out.raw", NULL));
	check = cli_argv((const char *[]){ "e2fsck", "-fn", "out.raw", NULL }, NULL, 60);
	ASSERT_STATUS(check, 0);
	(void)unlink(to + strlen("docker-archive:"));
}

TEST(pruning_beside_pulls_takes_nothing_that_is_wanted)
{
	unsigned prunes = 0;

	start();
	for (unsigned round = 0; round < ROUNDS; round++) {
		/* Some are there and stay, the others come again. */
		for (unsigned i = round; round && i < IMAGES; i += 2)
			ok(cli("image", "delete", name(i), NULL));
		prunes += pull_all();
		ok(cli("image", "prune", "-y", NULL));
		for (unsigned i = 0; i < IMAGES; i++)
			is_whole(i);
		ASSERT_EQ(entries("disks", ".", false), DIFFERENT);
		ASSERT_EQ(entries("disks", ".tmp-", true), 0);
		ASSERT_EQ(entries("partial", "", true), 0);
		ASSERT_EQ(entries("blobs/sha256", "", true), BLOBS * DIFFERENT);
	}
	printf("# %u times\n", prunes);
	ok(cli("image", "prune", "--all", "-y", NULL));
	ASSERT_EQ(entries("disks", ".", false), 0);
	ASSERT_EQ(entries("blobs/sha256", "", true), 0);
	ASSERT_EQ(entries("partial", "", true), 0);
	(void)unlink("out.raw");
}
