/* The download of a disk (BOOT=address) killed, and without space, at every labelled side effect of skerry-image: the same command again must do, with
 * what came before, and leave the one file that was asked for. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "scenario.h"
#include "web.h"

enum { LABELS_MAX = 64, BODY_BYTES = 300 << 10 };

static char body[BODY_BYTES];
static struct shared {
	unsigned wholes, parts; /* answers */
} * shared;
static char address[100];
static struct label {
	char name[64];
	unsigned count;
} labels[LABELS_MAX];
static size_t n_labels;

/* RFC 9110: the rest, to whom it is the rest of the same. */
static void serve(const struct web_request *q, struct web_answer *a, void *data)
{
	const char *from = after_prefix(web_header(q, "Range"), "bytes=");
	uint64_t at = 0;

	(void)data;
	web_add_header(a, "ETag: \"one\"");
	a->body = body;
	a->len = sizeof(body);
	if (from && streq(web_header(q, "If-Range"), "\"one\"")) {
		_cleanup_free_ char *number = xstrndup(from, strcspn(from, "-"));

		ASSERT_OK(parse_u64(number, 1, sizeof(body) - 1, &at));
		a->status = 206;
		a->body = body + at;
		a->len = sizeof(body) - at;
		web_add_header(a, "Content-Range: bytes %llu-%zu/%zu", (unsigned long long)at, sizeof(body) - 1,
			       sizeof(body));
	}
	(void)__atomic_add_fetch(at ? &shared->parts : &shared->wholes, 1, __ATOMIC_SEQ_CST);
}

static struct cli fetch(void)
{
	return cli_argv((const char *[]){ IMAGE_PROGRAM, "fetch-disk", address, NULL }, NULL, 600);
}

static void set_up(void)
{
	unsetenv("SKERRY_TEST_STORE");
	(void)scenario_home(false);
	shared = web_shared(sizeof(*shared));
	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (char)(i * 7 >> 3);
	snprintf(address, sizeof(address), "http://127.0.0.1:%d/disk.img", web_start(serve, NULL));
}

static void forget(void)
{
	_cleanup_free_ char *script = xasprintf("rm -rf '%s/downloads'", getenv("SKERRY_HOME"));
	_cleanup_cli_ struct cli r = cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, 600);

	ASSERT_STATUS(r, 0);
}

static void discover(void)
{
	_cleanup_free_ char *path = xasprintf("%s/points.log", test_tmpdir()),
			    *assignment = xasprintf("SKERRY_FAULT_LOG=%s", path);
	_cleanup_cli_ struct cli r = {};
	char line[64];
	FILE *f;

	cli_setenv(assignment);
	r = fetch();
	ASSERT_STATUS(r, 0);
	cli_setenv("SKERRY_FAULT_LOG=");
	f = fopen(path, "re");
	ASSERT(f != NULL);
	while (fgets(line, sizeof(line), f)) {
		size_t i = 0;

		line[strcspn(line, "\n")] = '\0';
		while (i < n_labels && !streq(labels[i].name, line))
			i++;
		ASSERT(i < LABELS_MAX);
		snprintf(labels[i].name, sizeof(labels[i].name), "%s", line);
		labels[i].count++;
		n_labels += i == n_labels;
	}
	fclose(f);
}

/* The file itself, its record, the lock. */
static void assert_whole(const struct cli *r, const char *why)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_buf_ struct buf got = {};
	const char *from = strstr(r->out, "\"path\":\"");
	char names[1000];

	if (r->status != 0 || !from)
		test_fail(__FILE__, __LINE__, "%s: again: %d %s%s", why, r->status, r->out, r->err);
	from += strlen("\"path\":\"");
	path = xstrndup(from, strcspn(from, "\""));
	ASSERT_OK(file_read_at(AT_FDCWD, path, sizeof(body), &got));
	ASSERT_EQ(got.len, sizeof(body));
	ASSERT_MEMEQ(got.p, body, sizeof(body));
	if (cli_entries("downloads", names, sizeof(names)) != 2)
		test_fail(__FILE__, __LINE__, "%s: left: %s", why, names);
}

static bool disturb(const char *label, unsigned nth, const char *action)
{
	_cleanup_free_ char *assignment = xasprintf("SKERRY_FAULT=%s:%u=%s", label, nth, action),
			    *why = xasprintf("%s at passing %u of %s", action, nth, label);
	_cleanup_cli_ struct cli broken = {}, again = {};

	forget();
	cli_setenv(assignment);
	broken = fetch();
	cli_setenv("SKERRY_FAULT=");
	if (broken.status != 128 + 9)
		assert_clean_failure(&broken, why);
	ASSERT(cli_processes_gone(120));
	again = fetch();
	assert_whole(&again, why);
	return broken.status != 0;
}

static void disturb_all(const char *action)
{
	unsigned runs = 0, hits = 0;

	set_up();
	discover();
	ASSERT(n_labels >= 6);
	for (size_t i = 0; i < n_labels; i++)
		/* Of the many pieces of the file the first ones, one in the middle, and the last. */
		for (unsigned k = 1; k <= labels[i].count;
		     k += k > 2 && k < labels[i].count - 1 ? (labels[i].count - k) / 2 : 1) {
			runs++;
			hits += disturb(labels[i].name, k, action);
		}
	printf("# %zu labelled points, %u runs with %s, %u of them broke a download off, %u were gone on with\n",
	       n_labels, runs, action, hits, shared->parts);
	ASSERT(hits >= n_labels / 2);
	ASSERT(shared->parts > 0);
}

TEST(a_download_killed_at_every_labelled_point)
{
	disturb_all("kill");
}

TEST(a_download_without_space_at_every_labelled_point)
{
	disturb_all("ENOSPC");
}
