#include "engine/host_cgroup.h"

#include <fcntl.h>
#include <signal.h>
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

TEST(both_kinds_of_paths_are_understood)
{
	_cleanup_strv_ struct strv plain = {}, systemd = {};

	ASSERT_OK(host_cgroup_plan("/default/c1", &plain, NULL));
	ASSERT_OK(host_cgroup_plan("system.slice:nerdctl:abc", &systemd, NULL));
	if (!plain.n)
		test_skip("no cgroups are mounted");
	ASSERT_EQ(plain.n % 2, 0);
	ASSERT(ends_with(plain.items[0], "/default"));
	ASSERT(ends_with(plain.items[1], "/default/c1"));
	ASSERT(ends_with(systemd.items[0], "/system.slice"));
	ASSERT(ends_with(systemd.items[1], "/system.slice/nerdctl-abc.scope"));
}

TEST(what_leads_elsewhere_is_refused)
{
	static const char *const bad[] = { "/../x", "/a/../../b", "//", "/", "", "/a//b", "/a/", "..:a:b" };

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
	host_cgroup_remove(&own, clock_monotonic_ns() + 5 * NS_PER_SEC);
	for (size_t i = 0; i < own.n; i++)
		ASSERT(access(own.items[i], F_OK) < 0);
	/* Once more is fine. */
	host_cgroup_remove(&own, 0);
}
