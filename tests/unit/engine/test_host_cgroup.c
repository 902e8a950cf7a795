#include "engine/host_cgroup.h"
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
