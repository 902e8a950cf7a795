/* Snapshots of a machine, with who makes, removes or goes back to one killed, or without space, at every labelled side effect: the same again must do, and
 * nothing of a half one stays, neither on record nor in the disk. */
#include "machine/snapshot.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "scenario.h"
#include "store/store.h"

enum { LABELS_MAX = 64, STATUS_FAILED = 1 };

static struct label {
	char name[64];
	unsigned count;
} labels[LABELS_MAX];
static size_t n_labels;
static struct name machine;

typedef int (*operation)(const struct store *s, const char *name, struct error *err);

static int save(const struct store *s, const char *name, struct error *err)
{
	struct name n;
	int r = name_parse(name, "snapshot", &n, err);

	return r < 0 ? r : snapshot_save(s, &machine, &n, NULL, err);
}

static int restore(const struct store *s, const char *name, struct error *err)
{
	struct name n;
	int r = name_parse(name, "snapshot", &n, err);

	return r < 0 ? r : snapshot_restore(s, &machine, &n, err);
}

static int delete (const struct store *s, const char *name, struct error *err)
{
	struct name n;
	int r = name_parse(name, "snapshot", &n, err);

	return r < 0 ? r : snapshot_delete(s, &machine, &n, err);
}

/* In a process of its own, which may meet its fault: its wait status. @tolerated: what the broken-off try may have made of it. */
static int run(operation op, const char *name, int tolerated)
{
	int status;
	pid_t pid = fork();

	ASSERT_OK(pid);
	if (pid == 0) {
		_cleanup_error_ struct error e = {};
		_cleanup_store_ struct store s = {};
		int r = store_open(&s, &e);

		if (r >= 0)
			r = op(&s, name, &e);
		if (r < 0 && r != tolerated) {
			printf("# %s\n", e.msg ? e.msg : "no reason");
			fflush(stdout);
		}
		_exit(r < 0 && r != tolerated ? STATUS_FAILED : 0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return status;
}

static void shell(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void shell(const char *fmt, ...)
{
	_cleanup_buf_ struct buf script = {};
	_cleanup_cli_ struct cli r = {};
	va_list ap;

	buf_addf(&script, "d=%s/machines/" MACHINE "; ", getenv("SKERRY_HOME"));
	va_start(ap, fmt);
	buf_vaddf(&script, fmt, ap);
	va_end(ap);
	r = cli_argv((const char *[]){ CLI_SHELL, script.p, NULL }, NULL, 600);
	if (r.status != 0)
		test_fail(__FILE__, __LINE__, "%s: status %d\n# out: %s\n# err: %s", script.p, r.status, r.out, r.err);
}

/* What the machine writes, and its firmware. */
static void change(int pattern)
{
	shell("qemu-io -c 'write -P %d 1M 64k' $d/system.qcow2 >&2 && echo %d >$d/nvram", pattern, pattern);
}

static void assert_as(int pattern)
{
	shell("qemu-io -c 'read -P %d 1M 64k' $d/system.qcow2 | grep -v verification && test $(cat $d/nvram) = %d",
	      pattern, pattern);
}

static void assert_list(const char *expected, const char *why)
{
	_cleanup_error_ struct error e = {};
	_cleanup_store_ struct store s = {};
	_cleanup_buf_ struct buf names = {};
	struct snapshot *list = NULL;
	size_t n = 0;

	ASSERT_OK(store_open(&s, &e));
	ASSERT_OK(snapshot_list(&s, &machine, &list, &n, &e));
	for (size_t i = 0; i < n; i++)
		buf_addf(&names, "%s ", list[i].name);
	snapshot_list_free(list, n);
	if (!streq(names.p ? names.p : "", expected))
		test_fail(__FILE__, __LINE__, "%s: there are: %s", why, names.p);
}

enum { STEPS = 4 };

/* Two are made, the first is gone back to, both go. The step @at (-1 = none) is broken off and repeated. Returns whether it was. */
static bool life_with(int at, const char *fault, const char *why)
{
	static const struct {
		operation op;
		const char *name;
		int tolerated;
	} steps[STEPS] = {
		{ save, "a", -EEXIST }, { save, "b", -EEXIST }, { restore, "a", 0 }, { delete, "a", -ENOENT }
	};
	bool hit = false;

	for (int i = 0; i < STEPS; i++) {
		if (i < 2)
			change(i + 1);
		if (i == at) {
			setenv("SKERRY_FAULT", fault, 1);
			hit = run(steps[i].op, steps[i].name, 0) != 0;
			unsetenv("SKERRY_FAULT");
		}
		if (i != at || hit)
			if (run(steps[i].op, steps[i].name, i == at ? steps[i].tolerated : 0) != 0)
				test_fail(__FILE__, __LINE__, "%s: step %d", why, i);
		assert_list(i == 0 ? "a " : i < 3 ? "a b " : "b ", why);
	}
	assert_as(1);
	if (run(delete, "b", 0) != 0)
		test_fail(__FILE__, __LINE__, "%s: the other one cannot be deleted", why);
	shell("qemu-img snapshot -U -l $d/system.qcow2 | grep skerry- && exit 1; qemu-img check -U -q $d/system.qcow2 "
	      "|| test $? = 3; "
	      "test \"$(ls -A $d/snapshots)\" = lock && ! test -e $d/revert.json");
	return hit;
}

static void set_up(void)
{
	_cleanup_cli_ struct cli create = {};

	(void)scenario_home(true);
	ASSERT_OK(name_parse(MACHINE, "machine", &machine, NULL));
	create = cli("create", MACHINE, "--image", "tiny", NULL);
	ASSERT_STATUS(create, 0);
}

/* The labels that the step passes. */
static void discover(int at)
{
	_cleanup_free_ char *path = xasprintf("%s/points.log", test_tmpdir());
	_cleanup_buf_ struct buf text = {};
	operation ops[STEPS] = { save, save, restore, delete };
	const char *names[STEPS] = { "a", "b", "a", "a" };

	n_labels = 0;
	memset(labels, 0, sizeof(labels));
	for (int i = 0; i < STEPS; i++) {
		if (i < 2)
			change(i + 1);
		if (i == at)
			setenv("SKERRY_FAULT_LOG", path, 1);
		ASSERT_EQ(run(ops[i], names[i], 0), 0);
		unsetenv("SKERRY_FAULT_LOG");
	}
	ASSERT_EQ(run(delete, "b", 0), 0);
	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &text));
	ASSERT_OK(unlink(path));
	for (const char *line = text.p; *line; line += strcspn(line, "\n") + 1) {
		_cleanup_free_ char *label = xstrndup(line, strcspn(line, "\n"));
		size_t i = 0;

		while (i < n_labels && !streq(labels[i].name, label))
			i++;
		ASSERT(i < LABELS_MAX);
		snprintf(labels[i].name, sizeof(labels[i].name), "%s", label);
		labels[i].count++;
		n_labels += i == n_labels;
	}
}

static void disturb_all(int at, const char *action, unsigned passings_max)
{
	unsigned runs = 0, hits = 0;

	set_up();
	discover(at);
	for (size_t i = 0; i < n_labels; i++)
		for (unsigned k = 1; k <= labels[i].count && k <= passings_max; k++) {
			_cleanup_free_ char *fault = xasprintf("%s:%u=%s", labels[i].name, k, action),
					    *why = xasprintf("%s at passing %u of %s", action, k, labels[i].name);

			runs++;
			hits += life_with(at, fault, why);
		}
	printf("# %zu labelled points, %u runs with %s, %u of them broke it off\n", n_labels, runs, action, hits);
	ASSERT(hits >= n_labels / 2);
}

TEST(a_snapshot_killed_at_every_labelled_point)
{
	disturb_all(0, "kill", UINT_MAX);
}

TEST(going_back_killed_at_every_labelled_point)
{
	disturb_all(2, "kill", UINT_MAX);
}

TEST(deleting_killed_at_every_labelled_point)
{
	disturb_all(3, "kill", UINT_MAX);
}

TEST(a_snapshot_without_space_at_every_labelled_point)
{
	disturb_all(0, "ENOSPC", 1);
}

TEST(going_back_without_space_at_every_labelled_point)
{
	disturb_all(2, "ENOSPC", 1);
}

/* Whoever wanted to go back was killed, and the next one deletes what was to be gone back to. */
TEST(a_wish_for_what_is_deleted_does_not_keep_the_machine_from_starting)
{
	static const char *const points[] = { "file.renamed=kill", "revert.variables=kill" };

	set_up();
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		ASSERT_EQ(run(save, "a", 0), 0);
		setenv("SKERRY_FAULT", points[i], 1);
		ASSERT(WIFSIGNALED(run(restore, "a", 0)));
		unsetenv("SKERRY_FAULT");
		ASSERT_EQ(run(delete, "a", 0), 0);
		assert_usable(points[i]);
	}
	assert_nothing_left("after the wishes");
}

/* The machine goes on, whoever dies beside it. */
TEST(a_running_machine_outlives_who_snapshots_it)
{
	static const char *const points[] = { "snapshot.saving=kill", "snapshot.saved=kill", "file.renamed=kill",
					      "file.renamed:2=kill" };
	_cleanup_cli_ struct cli start = {}, exec = {}, stop = {};

	set_up();
	start = cli("start", "--wait", MACHINE, NULL);
	ASSERT_STATUS(start, 0);
	for (size_t i = 0; i < ARRAY_SIZE(points); i++) {
		setenv("SKERRY_FAULT", points[i], 1);
		ASSERT(WIFSIGNALED(run(save, "a", 0)));
		unsetenv("SKERRY_FAULT");
		ASSERT_EQ(run(save, "a", -EEXIST), 0);
		assert_list("a ", points[i]);
		setenv("SKERRY_FAULT", "snapshot.deleting=kill", 1);
		ASSERT(WIFSIGNALED(run(delete, "a", 0)));
		unsetenv("SKERRY_FAULT");
		ASSERT_EQ(run(delete, "a", 0), 0);
		assert_list("", points[i]);
	}
	/* The wish is on record, and the monitor was not told of it. */
	ASSERT_EQ(run(save, "a", 0), 0);
	setenv("SKERRY_FAULT", "file.renamed=kill", 1);
	ASSERT(WIFSIGNALED(run(restore, "a", 0)));
	unsetenv("SKERRY_FAULT");
	ASSERT_EQ(run(delete, "a", 0), 0);
	exec = cli("exec", MACHINE, "true", NULL);
	ASSERT_STATUS(exec, 0);
	stop = cli("stop", MACHINE, NULL);
	ASSERT_STATUS(stop, 0);
	assert_usable("after a wish that nobody was told of");
	assert_nothing_left("after a running machine's snapshots");
}
