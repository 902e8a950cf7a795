/* Layers are unpacked while others are still coming, and nothing is an image before the last of them has proved right. The registry keeps the
 * uppermost layer back until it sees the lower ones in a disk that is being made. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "cli.h"
#include "registry.h"
#include "web.h"

enum { NOISE_KIB = 6000, DISK_BYTES = 2 << 20, WAIT_MS = 50, WAITS = 1200 };
static const char manifest_type[] = "application/vnd.oci.image.manifest.v1+json";

static struct shared {
	unsigned top_requests, lower_requests;
	bool seen;            /* the disk, before the uppermost layer was sent */
	bool damages, forget; /* what happens to that layer: other bytes; 404 */
} * shared;
static char manifest_hex[65], top_hex[65], image[128];

static char *read_whole(const char *hex, size_t *ret_n)
{
	char path[400];
	struct stat st;
	char *text;
	int fd;

	snprintf(path, sizeof(path), "%s/layout/blobs/sha256/%s", test_tmpdir(), hex);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT(fd >= 0);
	ASSERT_EQ(fstat(fd, &st), 0);
	text = calloc(1, (size_t)st.st_size + 1);
	ASSERT_EQ(read(fd, text, (size_t)st.st_size), st.st_size);
	close(fd);
	*ret_n = (size_t)st.st_size;
	return text;
}

/* How much of the disk that is being made is there. */
static uint64_t disk_bytes(void)
{
	char path[500];
	uint64_t most = 0;
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/images/disks", getenv("SKERRY_HOME"));
	d = opendir(path);
	while (d && (e = readdir(d))) {
		struct stat st;

		snprintf(path, sizeof(path), "%s/images/disks/%s/disk.raw", getenv("SKERRY_HOME"), e->d_name);
		if (strncmp(e->d_name, ".tmp-", 5) == 0 && stat(path, &st) == 0 && (uint64_t)st.st_blocks * 512 > most)
			most = (uint64_t)st.st_blocks * 512;
	}
	if (d)
		closedir(d);
	return most;
}

/* Every blob but the last layer is in the store. */
static bool others_are_there(void)
{
	size_t n;
	char *text = read_whole(manifest_hex, &n);
	bool there = true;

	for (const char *p = text; (p = strstr(p, "sha256:"));) {
		_cleanup_free_ char *path = NULL;

		p += strlen("sha256:");
		path = xasprintf("%s/images/blobs/sha256/%.64s", getenv("SKERRY_HOME"), p);
		there = there && (strncmp(p, top_hex, 64) == 0 || access(path, F_OK) == 0);
	}
	free(text);
	return there;
}

static void keep_back(void)
{
	for (int i = 0; i < WAITS && (disk_bytes() < DISK_BYTES || !others_are_there()); i++)
		(void)poll(NULL, 0, WAIT_MS); /* lint: nothing announces this */
	shared->seen = disk_bytes() >= DISK_BYTES;
}

static void serve(const struct web_request *q, struct web_answer *a, void *data)
{
	const char *blob = strstr(q->target, "/blobs/sha256:");
	bool top;

	(void)data;
	if (!blob) {
		web_add_header(a, "Content-Type: %s", manifest_type);
		web_add_header(a, "Docker-Content-Digest: sha256:%s", manifest_hex);
		a->body = read_whole(manifest_hex, &a->len);
		return;
	}
	blob += strlen("/blobs/sha256:");
	top = strcmp(blob, top_hex) == 0;
	(void)__atomic_add_fetch(top ? &shared->top_requests : &shared->lower_requests, 1, __ATOMIC_SEQ_CST);
	a->body = read_whole(blob, &a->len);
	if (!top)
		return;
	keep_back();
	if (shared->damages)
		a->body = calloc(1, a->len);
	if (shared->forget)
		a->status = 404;
}

static void start(void)
{
	char host[64], *text, *last = NULL;
	size_t n;

	unsetenv("SKERRY_TEST_STORE");
	setenv("HOME", test_tmpdir(), 1);
	(void)cli_home(false);
	shared = web_shared(sizeof(*shared));
	registry_make_image("one", NOISE_KIB);
	snprintf(manifest_hex, sizeof(manifest_hex), "%s", registry_layout_digest("one") + strlen("sha256:"));
	text = read_whole(manifest_hex, &n);
	for (char *p = text; (p = strstr(p, "sha256:")); p++)
		last = p + strlen("sha256:");
	ASSERT(last != NULL);
	snprintf(top_hex, sizeof(top_hex), "%.64s", last);
	free(text);
	snprintf(host, sizeof(host), "127.0.0.1:%d", web_start(serve, NULL));
	setenv("SKERRY_PLAIN_HTTP", host, 1);
	snprintf(image, sizeof(image), "%s/app:1", host);
}

static void assert_nothing_half(void)
{
	_cleanup_cli_ struct cli list = cli("image", "list", "--quiet", NULL);
	char names[1000];

	ASSERT_STREQ(list.out, "");
	if (cli_entries("images/disks", names, sizeof(names)) > 0)
		test_fail(__FILE__, __LINE__, "left over: %s", names);
	ASSERT_EQ(disk_bytes(), 0);
}

TEST(lower_layers_are_in_the_disk_before_the_last_one_has_come)
{
	_cleanup_cli_ struct cli pull = {}, same = {};

	start();
	pull = cli("image", "pull", "--quiet", image, NULL);
	ASSERT_STATUS(pull, 0);
	ASSERT(shared->seen);
	ASSERT_CONTAINS(pull.out, manifest_hex);
	same = cli("image", "pull", image, NULL);
	ASSERT_CONTAINS(same.err, "up to date");
	ASSERT_EQ(shared->top_requests, 1);
}

TEST(a_last_layer_that_is_another_leaves_no_half_image)
{
	_cleanup_cli_ struct cli bad = {}, good = {};
	unsigned lower;

	start();
	shared->damages = true;
	bad = cli("image", "pull", "--quiet", image, NULL);
	ASSERT_STATUS(bad, 65);
	ASSERT(shared->seen);
	ASSERT_CONTAINS(bad.err, "digest");
	ASSERT(strncmp(bad.err, "skerry: 127.0.0.1", strlen("skerry: 127.0.0.1")) == 0);
	ASSERT_EQ(strchr(bad.err, '\n')[1], '\0');
	assert_nothing_half();
	/* What was right is not fetched again. */
	lower = shared->lower_requests;
	shared->damages = false;
	good = cli("image", "pull", "--quiet", image, NULL);
	ASSERT_STATUS(good, 0);
	ASSERT_EQ(shared->lower_requests, lower);
	ASSERT_EQ(shared->top_requests, 2);
}

TEST(a_last_layer_that_is_gone_leaves_no_half_image)
{
	_cleanup_cli_ struct cli bad = {};

	start();
	shared->forget = true;
	bad = cli("image", "pull", "--quiet", image, NULL);
	ASSERT_STATUS(bad, 1);
	ASSERT(shared->seen);
	assert_nothing_half();
}

/* The lower layer takes up all the room there is: nothing else need come. */
TEST(a_disk_that_is_too_small_ends_the_pull_at_once)
{
	_cleanup_cli_ struct cli r = {};

	start();
	r = cli("image", "pull", "--quiet", "--disk", "1K", image, NULL);
	ASSERT_STATUS(r, 64);
	assert_nothing_half();
}
