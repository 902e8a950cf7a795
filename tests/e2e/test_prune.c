/* Cleaning up beside those who bring images in, from Debian's docker-registry: nothing that somebody wants goes, and in the end nothing is left. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cli.h"
#include "registry.h"

enum { DIFFERENT = 4, IMAGES = DIFFERENT + 1, ROUNDS = 3, PULL_TIMEOUT_S = 200, COMMAND_S = 120 };
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
	check = cli_argv((const char *[]){ "e2fsck", "-fn", "out.raw", NULL }, NULL, COMMAND_S);
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

TEST(what_would_be_given_back_is_what_is)
{
	static const char make[] =
		"cd \"$SKERRY_HOME/cache\" && mkdir -p packages other && "
		"dd if=/dev/urandom of=packages/old bs=64k count=1 && dd if=/dev/urandom of=packages/new bs=64k "
		"count=2 && "
		"dd if=/dev/urandom of=other/file bs=64k count=4 && touch -d '2 hours ago' packages/old";
	_cleanup_cli_ struct cli before = {}, prune = {};
	char own[256];

	cli_home(false);
	snprintf(own, sizeof(own), "SKERRY_HOME=%s/own", test_tmpdir());
	cli_setenv(own);
	ok(cli("list", NULL));
	ok(cli_argv((const char *[]){ CLI_SHELL, make, NULL }, NULL, COMMAND_S));
	before = cli("system", "df", "--format", "json", NULL);
	ASSERT_CONTAINS(before.out, "\"reclaimable_bytes\": 65536");
	prune = cli("system", "prune", "--all", "--yes", NULL);
	ASSERT_CONTAINS(prune.err, "64 KiB freed");
}

/* Disks that were fetched are what images may be links to. */
TEST(what_was_fetched_goes_when_nothing_is_made_from_it)
{
	static const char make[] =
		"set -e; mkdir -p \"$SKERRY_HOME/downloads\"; cd \"$SKERRY_HOME/downloads\"; "
		"for f in 1-used 2-loose 3-new; do truncate -s 64M $f; printf 'label: dos\n2048,65536,83\n' | sfdisk "
		"-q "
		"$f; dd if=/dev/urandom of=$f bs=64k seek=32 count=4 conv=notrunc status=none; echo '{}' >$f.json; "
		"done; "
		"touch lock; touch 2-loose.part 2-loose.part.json; "
		"$(dirname \"$0\")/skerry-image adopt-disk \"$PWD/1-used\"; touch -d '2 hours ago' [12]*; "
		"h=$(basename $(dirname $(echo $SKERRY_HOME/images/disks/*/disk.raw))); \"$0\" create vm --image "
		"sha256:$h",
			  see[] = "cd \"$SKERRY_HOME/downloads\" && ls -m -w 200";
	_cleanup_cli_ struct cli df = {}, prune = {}, left = {}, gone = {}, none = {};
	char own[256];

	cli_home(false);
	snprintf(own, sizeof(own), "SKERRY_HOME=%s/own", test_tmpdir());
	cli_setenv(own);
	ok(cli("list", NULL));
	ok(cli_argv((const char *[]){ CLI_SHELL, make, cli_skerry(), NULL }, NULL, COMMAND_S));
	df = cli("system", "df", "--format", "json", NULL);
	ASSERT_STATUS(df, 0);
	ASSERT_CONTAINS(df.out, "\"downloads\"");
	ASSERT_EQ(cli_number(strstr(df.out, "\"downloads\""), "count"), 4);
	ASSERT_EQ(cli_number(strstr(df.out, "\"downloads\""), "active"), 1);
	ASSERT(cli_number(strstr(df.out, "\"downloads\""), "reclaimable_bytes") >= 262144);
	ok(cli("system", "prune", "--yes", NULL));
	prune = cli("system", "prune", "--all", "--yes", NULL);
	ASSERT_STATUS(prune, 0);
	left = cli_argv((const char *[]){ CLI_SHELL, see, NULL }, NULL, COMMAND_S);
	ASSERT_STREQ(left.out, "1-used, 1-used.json, 3-new, 3-new.json, lock\n");
	/* The image goes with its machine, and then nothing leads there. */
	ok(cli("delete", "-y", "vm", NULL));
	gone = cli("system", "prune", "--all", "--yes", NULL);
	ASSERT_STATUS(gone, 0);
	none = cli_argv((const char *[]){ CLI_SHELL, see, NULL }, NULL, COMMAND_S);
	ASSERT_STREQ(none.out, "3-new, 3-new.json, lock\n");
}

/* The reclaimable bytes of the layers, as `system df` says. */
static uint64_t layers_gain(uint64_t *ret_size)
{
	_cleanup_cli_ struct cli df = cli("system", "df", "--format", "json", NULL);
	const char *layers = strstr(df.out, "\"layers\"");

	ASSERT_STATUS(df, 0);
	ASSERT(layers);
	*ret_size = cli_number(layers, "size_bytes");
	return cli_number(layers, "reclaimable_bytes");
}

TEST(layers_of_an_image_that_no_machine_uses_can_be_given_back)
{
	static const char import[] = "cd \"$SKERRY_HOME\" && head -c 300000 /dev/urandom >f && tar -cf f.tar f && "
				     "\"$0\" image import f.tar --name app";
	_cleanup_cli_ struct cli names = {};
	uint64_t size;
	char own[256];

	cli_home(false);
	snprintf(own, sizeof(own), "SKERRY_HOME=%s/own", test_tmpdir());
	cli_setenv(own);
	ok(cli("list", NULL));
	ok(cli_argv((const char *[]){ CLI_SHELL, import, cli_skerry(), NULL }, NULL, COMMAND_S));
	ASSERT_EQ(layers_gain(&size), size);
	ASSERT(size > 300000);
	ok(cli("image", "tag", "app", "app:latest-dev", NULL));
	names = cli("__complete", "image", NULL);
	ASSERT_STREQ(names.out, "app\napp:latest-dev\n");
	ok(cli("create", "user", "--image", "app", NULL));
	ASSERT_EQ(layers_gain(&size), 0);
	ok(cli("delete", "-y", "user", NULL));
	ok(cli("system", "prune", "--all", "--yes", NULL));
	ASSERT_EQ(layers_gain(&size), 0);
	ASSERT_EQ(size, 0);
}
