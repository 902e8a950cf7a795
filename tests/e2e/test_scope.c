/* Monitors in scopes of the system's systemd and of a user's, in a host of our own (scripts/test-host.sh): the one that runs the tests may have another init. */
#include <unistd.h>

#include "cli.h"

/* Machines in a machine, emulated both, on a busy host. */
enum { HOST_S = 3000, CANNOT = 77 };

TEST(a_monitor_is_in_a_scope_where_that_stays)
{
	static const char *const said[] = {
		"root: the monitor is in a scope",
		"root: the engine is in a cgroup below",
		"machines go on, in systemd scopes of their own",
		"the monitor is in a scope",
		"the engine is in a cgroup below",
		"the next monitor is in another",
		"no scope is left",
		"loginctl enable-linger",
		"a manager that does not stay is not used",
		"a manager that is gone is done without",
		"status 0",
	};
	const char *argv[] = { SOURCE_DIR "/scripts/test-host.sh", test_tmpdir(), SOURCE_DIR "/tests/e2e/scope.sh",
			       cli_skerry(), NULL };
	_cleanup_cli_ struct cli r = {};

	if (!getenv("SKERRY_TEST_STORE"))
		test_skip("SKERRY_TEST_STORE is not set");
	if (access("/lib/systemd/systemd", X_OK) < 0)
		test_skip("needs systemd");
	r = cli_argv(argv, NULL, HOST_S);
	if (r.status == CANNOT)
		test_skip("%s", r.out);
	ASSERT_STATUS(r, 0);
	for (size_t i = 0; i < sizeof(said) / sizeof(said[0]); i++)
		if (!strstr(r.out, said[i]))
			test_fail(__FILE__, __LINE__, "not said: %s\n# out: %s\n# err: %s", said[i], r.out, r.err);
}
