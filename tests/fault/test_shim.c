/* Every labelled side effect of the containerd shim, killed at and failed once: the container's end is told, nothing is left, and the next one
 * runs. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "containerd.h"

enum { LABELS_MAX = 64, PASSINGS_MAX = 4 };

struct label {
	char *name;
	unsigned count;
};

static size_t read_labels(struct label *labels)
{
	_cleanup_free_ char *path = xasprintf("%s/points.log", test_tmpdir());
	_cleanup_buf_ struct buf text = {};
	char *save = NULL;
	size_t n = 0;

	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &text));
	for (char *line = strtok_r(text.p, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		size_t i = 0;

		while (i < n && !streq(labels[i].name, line))
			i++;
		ASSERT(i < LABELS_MAX);
		if (i == n)
			labels[n++] = (struct label){ .name = xstrdup(line) };
		labels[i].count++;
	}
	return n;
}

/* The environment reaches shims through the containerd that starts them. */
static void restart_with(const char *assignment)
{
	ctd_stop(SIGKILL);
	cli_setenv(assignment);
	ctd_restart();
}

/* containerd tidies up behind the client's back, and now and then leaves the bundle of a shim that died early for its next start to remove. It
 * renames a bundle before it removes it, and killed between the two it can never remove one of that name again. */
static void wait_bundle_gone(void)
{
	_cleanup_free_ char *tasks =
		xasprintf("%s/ctd-state/io.containerd.runtime.v2.task/%s", test_tmpdir(), ctd_namespace());
	_cleanup_free_ char *bundle = xasprintf("%s/c1", tasks), *renamed = xasprintf("%s/.c1", tasks);
	uint64_t begun = clock_monotonic_ns();

	for (;;) {
		bool removing = access(renamed, F_OK) == 0;

		if ((!removing && access(bundle, F_OK) < 0) ||
		    clock_monotonic_ns() - begun > (removing ? 60 : 5) * NS_PER_SEC)
			return;
		(void)usleep(20000); /* lint: it is removed by another process */
	}
}

static void disturb_all(const char *action)
{
	struct label labels[LABELS_MAX] = {};
	_cleanup_free_ char *log = xasprintf("SKERRY_FAULT_LOG=%s/points.log", test_tmpdir());
	_cleanup_cli_ struct cli first = {};
	unsigned runs = 0, broken_off = 0;
	size_t n;

	cli_setenv(log);
	ctd_start_with_network();
	first = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", "true", NULL);
	ASSERT_STATUS(first, 0);
	ctd_nothing_left();
	n = read_labels(labels);
	ASSERT(n >= 6);
	cli_setenv("SKERRY_FAULT_LOG=");
	for (size_t i = 0; i < n; i++)
		for (unsigned k = 1; k <= labels[i].count && k <= PASSINGS_MAX; k++) {
			_cleanup_free_ char *fault = xasprintf("SKERRY_FAULT=%s:%u=%s", labels[i].name, k, action);
			_cleanup_cli_ struct cli r = {}, d = {}, again = {};

			/* Every process that would give the lease back is killed at it: there is nobody left to do so. */
			if (streq(labels[i].name, "cni.del") ||
			    (streq(labels[i].name, "shim.lease") && streq(action, "kill")))
				continue;
			restart_with(fault);
			r = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", "true", NULL);
			if (r.status < 0)
				test_fail(__FILE__, __LINE__, "%s: no end", fault);
			broken_off += r.status != 0;
			runs++;
			wait_bundle_gone();
			restart_with("SKERRY_FAULT=");
			d = ctr("container", "rm", "c1", NULL);
			ASSERT(d.status >= 0);
			ctd_nothing_left();
			again = ctr_run(NULL, "--rm", CTD_IMAGE, "c1", "true", NULL);
			if (again.status != 0)
				test_fail(__FILE__, __LINE__, "after %s: %s", fault, again.err);
			ctd_nothing_left();
		}
	printf("# %zu labels, %u runs with %s, %u broken off\n", n, runs, action, broken_off);
	ASSERT(broken_off > 0);
	ctd_sh("test -z \"$(ls ipam/t | grep '^10[.]')\"");
}

TEST(killed_at_every_point)
{
	disturb_all("kill");
}

TEST(failed_at_every_point)
{
	disturb_all("ENOSPC");
}
