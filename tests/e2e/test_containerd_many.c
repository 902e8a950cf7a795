/* Containers one after another: what a host has of them afterwards. */
#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"
#include "containerd.h"

/* Containers in a row; SKERRY_TEST_CONTAINERS says otherwise. */
enum { WARM_UP = 5, CONTAINERS = 25, CONTAINERS_MAX = 100000, COLLECTED_S = 120, GROWTH_KIB_MAX = 24 << 10 };

struct host {
	unsigned descriptors, mounts, threads, entries, cgroups;
	uint64_t rss_kib;
};

static unsigned entries_of(const char *path)
{
	DIR *d = opendir(path);
	unsigned n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

/* What a script prints. */
static unsigned number_from(const char *script)
{
	_cleanup_free_ char *text = xasprintf("cd '%s' && %s", test_tmpdir(), script);
	const char *argv[] = { CLI_SHELL, text, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, 120);
	uint64_t n;

	r.out[strcspn(r.out, "\n")] = '\0';
	ASSERT_OK(parse_u64(r.out, 0, UINT32_MAX, &n));
	return (unsigned)n;
}

static uint64_t status_kib(int pid, const char *field)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/status", pid);
	_cleanup_buf_ struct buf text = {};
	uint64_t n;
	char *line;

	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &text));
	line = strstr(text.p, field);
	ASSERT(line);
	line += strlen(field) + strspn(line + strlen(field), ": \t");
	line[strspn(line, "0123456789")] = '\0';
	ASSERT_OK(parse_u64(line, 0, UINT64_MAX, &n));
	return n;
}

/* containerd collects the snapshots that nothing names any more in its own time. */
static void wait_collected(void)
{
	uint64_t deadline_ns = clock_monotonic_ns() + COLLECTED_S * NS_PER_SEC;

	while (number_from("ls ctd-root/io.containerd.snapshotter.v1.overlayfs/snapshots | wc -l") !=
	       number_from("ctr -a $PWD/c.sock snapshots ls | tail -n +2 | wc -l")) {
		if (clock_monotonic_ns() > deadline_ns)
			test_fail(__FILE__, __LINE__, "snapshots are not collected");
		(void)usleep(50000); /* lint: it tells nobody */
	}
}

static void look(const char *when, struct host *h)
{
	_cleanup_free_ char *fds = xasprintf("/proc/%d/fd", ctd_pid());
	_cleanup_free_ char *mounts = xasprintf("grep -c \"$PWD\" /proc/%d/mountinfo; true", ctd_pid());

	_cleanup_free_ char *cgroups = xasprintf("find /sys/fs/cgroup -type d -path '*/%s/*' | wc -l", ctd_namespace());

	h->descriptors = entries_of(fds);
	h->mounts = number_from(mounts);
	h->threads = (unsigned)status_kib(ctd_pid(), "\nThreads");
	h->rss_kib = status_kib(ctd_pid(), "\nVmRSS");
	h->entries = number_from("find ctd-state ctd-root/io.containerd.snapshotter.v1.overlayfs home/run "
				 "2>/dev/null | wc -l");
	h->cgroups = number_from(cgroups);
	printf("# %s: %u descriptors, %u mounts, %u threads, %u files, %u cgroups, %llu KiB\n", when, h->descriptors,
	       h->mounts, h->threads, h->entries, h->cgroups, (unsigned long long)h->rss_kib);
}

static void run(uint64_t n)
{
	for (uint64_t i = 0; i < n; i++) {
		_cleanup_free_ char *id = xasprintf("seq%llu", (unsigned long long)i),
				    *word = xasprintf("word %s\n", id);
		_cleanup_cli_ struct cli r = ctr_run(NULL, "--rm", CTD_IMAGE, id, "echo", "word", id, NULL);

		ASSERT_STATUS(r, 0);
		ASSERT_STREQ(r.out, word);
	}
	ctd_nothing_left();
	wait_collected();
}

TEST(containers_in_a_row_leave_the_host_as_it_was)
{
	const char *want = getenv("SKERRY_TEST_CONTAINERS");
	struct host before, after;
	uint64_t n = CONTAINERS, begun_ns;

	if (want && *want)
		ASSERT_OK(parse_u64(want, 1, CONTAINERS_MAX, &n));
	ctd_start();
	run(WARM_UP);
	look("before", &before);
	begun_ns = clock_monotonic_ns();
	run(n);
	printf("# %llu containers, %llu ms each\n", (unsigned long long)n,
	       (unsigned long long)((clock_monotonic_ns() - begun_ns) / NS_PER_MS / n));
	look("after", &after);
	ASSERT_EQ(after.mounts, before.mounts);
	ASSERT_EQ(after.cgroups, before.cgroups);
	ASSERT_EQ(after.entries, before.entries);
	/* Those of a Go program come and go by a few. */
	ASSERT(after.descriptors <= before.descriptors + 4);
	ASSERT(after.threads <= before.threads + 16);
	ASSERT(after.rss_kib <= before.rss_kib + GROWTH_KIB_MAX);
}
