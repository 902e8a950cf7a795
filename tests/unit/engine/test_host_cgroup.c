#include "engine/host_cgroup.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "test.h"

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && streq(s + n - m, end);
}

/* Each @expected in each hierarchy, in order. */
static void plan(const char *path, const char *const *expected, size_t n)
{
	_cleanup_strv_ struct strv v = {};

	ASSERT_OK(host_cgroup_plan(path, &v, NULL));
	if (!v.n)
		test_skip("no cgroups are mounted");
	ASSERT_EQ(v.n % n, 0u);
	for (size_t i = 0; i < v.n; i++)
		if (!ends_with(v.items[i], expected[i % n]))
			test_fail(__FILE__, __LINE__, "'%s': %s, expected %s", path, v.items[i], expected[i % n]);
}

TEST(both_kinds_of_paths_are_understood)
{
	plan("/skerry-none/c1", (const char *const[]){ "/skerry-none", "/skerry-none/c1" }, 2);
	plan("skerrynone.slice:nerdctl:abc",
	     (const char *const[]){ "/skerrynone.slice", "/skerrynone.slice/nerdctl-abc.scope" }, 2);
}

/* A kubelet's: only the last name is told of what is in others. */
TEST(a_slice_is_below_those_that_its_name_tells)
{
	plan("sknone-burstable-podX.slice:cri-containerd:abc",
	     (const char *const[]){
		     "/sknone.slice", "/sknone.slice/sknone-burstable.slice",
		     "/sknone.slice/sknone-burstable.slice/sknone-burstable-podX.slice",
		     "/sknone.slice/sknone-burstable.slice/sknone-burstable-podX.slice/cri-containerd-abc.scope" },
	     4);
	plan("-.slice:skerry:none", (const char *const[]){ "/skerry-none.scope" }, 1);
}

TEST(what_is_there_already_is_not_ours)
{
	_cleanup_strv_ struct strv before = {}, after = {};
	_cleanup_free_ char *path = xasprintf("/skerry-test-%d/a/b", (int)getpid());

	ASSERT_OK(host_cgroup_plan(path, &before, NULL));
	if (!before.n || mkdir(before.items[0], 0755) < 0)
		test_skip("no cgroup can be made");
	ASSERT_OK(host_cgroup_plan(path, &after, NULL));
	ASSERT_EQ(after.n, before.n - 1);
	ASSERT_STREQ(after.items[0], before.items[1]);
	host_cgroup_make(&after);
	host_cgroup_remove(&after, 0);
	ASSERT(access(after.items[0], F_OK) < 0);
	/* An empty one, and yet it stays. */
	ASSERT_OK(rmdir(before.items[0]));
	/* The innermost one is in any case: what runs is to be put there. */
	host_cgroup_make(&before);
	strv_done(&after);
	ASSERT_OK(host_cgroup_plan(path, &after, NULL));
	host_cgroup_remove(&before, 0);
	ASSERT_EQ(after.n, before.n / 3);
	ASSERT_STREQ(after.items[0], before.items[2]);
}

static void make_file(const char *directory, const char *name)
{
	_cleanup_free_ char *path = xasprintf("%s/%s", directory, name);

	ASSERT(mkdir(directory, 0755) == 0);
	ASSERT_OK(file_write_at(AT_FDCWD, path, "", 0, 0644, 0));
}

/* As of version 2, in plain directories. */
TEST(what_is_below_ours_is_accounted_for)
{
	static const char name[] = "cgroup.subtree_control";
	_cleanup_free_ char *outer = xasprintf("%s/outer", test_tmpdir()), *ours = xasprintf("%s/ours", outer),
			    *leaf = xasprintf("%s/leaf", ours);
	_cleanup_strv_ struct strv v = {};
	static const char *const expected[] = { "", "+memory+cpu+pids+io", "" };
	const char *all[] = { outer, ours, leaf };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		make_file(all[i], name);
	strv_add(&v, ours);
	strv_add(&v, leaf);
	host_cgroup_make(&v);
	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		_cleanup_free_ char *path = xasprintf("%s/%s", all[i], name);
		_cleanup_buf_ struct buf text = {};

		ASSERT_OK(file_read_at(AT_FDCWD, path, 4096, &text));
		ASSERT_STREQ(text.p ? text.p : "", expected[i]);
	}
}

TEST(what_leads_elsewhere_is_refused)
{
	static const char *const bad[] = { "/../x",
					   "/a/../../b",
					   "//",
					   "/",
					   "",
					   "/a//b",
					   "/a/",
					   "..:a:b",
					   "system:a:b",
					   ".slice:a:b",
					   "a--b.slice:c:d",
					   "-a.slice:c:d",
					   "a-.slice:c:d",
					   "--.slice:c:d",
					   "/a.slice:b:c",
					   "a/../b.slice:c:d",
					   "a.slice:/../..:d",
					   "a.slice:b:../c" };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_strv_ struct strv v = {};
		_cleanup_error_ struct error e = {};

		if (host_cgroup_plan(bad[i], &v, &e) != -EINVAL)
			test_fail(__FILE__, __LINE__, "'%s' was taken", bad[i]);
		ASSERT_CONTAINS(e.msg, "cgroup path");
	}
}

static void find(const char *list, const char *controller, const char *expected)
{
	char *path = host_cgroup_find(list, controller);

	if (!expected != !path || (path && strcmp(path, expected) != 0))
		test_fail(__FILE__, __LINE__, "'%s' in '%s': %s, expected %s", controller, list, path ? path : "none",
			  expected ? expected : "none");
	free(path);
}

TEST(a_process_is_found_in_both_versions)
{
	static const char old[] = "9:name=systemd:/\n4:memory:/a/b\n2:cpu,cpuacct:/x:y\n1:cpuset:/../out\n0::/u\n";

	find(old, "memory", "/a/b");
	find(old, "cpu", "/x:y");
	find(old, "cpuacct", "/x:y");
	find(old, "cpuacc", NULL);
	find(old, "pids", NULL);
	find(old, "cpuset", NULL);
	find(old, "", "/u");
	find("0::/\n", "", "");
	find("0::/user.slice/a.scope", "", "/user.slice/a.scope");
	find("0::relative\n", "", NULL);
	find("", "", NULL);
	find("\n:\n::", "", NULL);
	find("0:memory", "memory", NULL);
}

TEST(a_cgroup_of_our_own_is_made_filled_and_removed)
{
	_cleanup_strv_ struct strv own = {};
	_cleanup_free_ char *procs = NULL, *line = NULL, *name = xasprintf("skerry-test-%d", (int)getpid());
	_cleanup_buf_ struct buf text = {};
	pid_t pid;

	host_cgroup_plan_own(name, &own);
	if (!own.n)
		test_skip("no cgroup of this host is left to us");
	host_cgroup_make(&own);
	pid = fork();
	ASSERT(pid >= 0);
	if (pid == 0) {
		for (;;)
			pause();
	}
	host_cgroup_add(&own, pid);
	line = xasprintf("%d\n", (int)pid);
	procs = xasprintf("%s/cgroup.procs", own.items[0]);
	ASSERT_OK(file_read_at(AT_FDCWD, procs, 4096, &text));
	ASSERT_STREQ(text.p, line);
	ASSERT(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	host_cgroup_remove(&own, clock_monotonic_ns() + 100 * NS_PER_SEC);
	for (size_t i = 0; i < own.n; i++)
		ASSERT(access(own.items[i], F_OK) < 0);
	/* Once more is fine. */
	host_cgroup_remove(&own, 0);
}
