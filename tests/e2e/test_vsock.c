/* The agent over vsock, with a kernel that has vhost: in a host of our own (scripts/test-host.sh), as the one that runs the tests may have none. */
#include <unistd.h>

#include "cli.h"

/* A machine in a machine, both emulated, on a busy host. */
enum { HOST_S = 3000, CANNOT = 77 };

TEST(the_agent_is_reached_over_vsock)
{
	const char *argv[] = { SOURCE_DIR "/scripts/test-host.sh",
			       test_tmpdir(),
			       SOURCE_DIR "/tests/e2e/vsock.sh",
			       cli_skerry(),
			       UNIT_TEST,
			       NULL };
	_cleanup_cli_ struct cli r = {};

	if (!getenv("SKERRY_TEST_STORE"))
		test_skip("SKERRY_TEST_STORE is not set");
	r = cli_argv(argv, NULL, HOST_S);
	if (r.status == CANNOT)
		test_skip("%s", r.out);
	ASSERT_STATUS(r, 0);
	if (!strstr(r.out, "status 0"))
		test_fail(__FILE__, __LINE__, "out: %s\n# err: %s", r.out, r.err);
	ASSERT_CONTAINS(r.out, "only_the_agent_is_let_in");
	ASSERT(!strstr(r.out, "not ok") && !strstr(r.out, "SKIP"));
	ASSERT_CONTAINS(r.out, "vsock           ok");
	ASSERT_CONTAINS(r.out, "reached over vsock");
	ASSERT_CONTAINS(r.out, "hello from the guest");
	ASSERT_CONTAINS(r.out, "4194304");
	ASSERT_CONTAINS(r.out, "in a cgroup of its own");
	ASSERT_CONTAINS(r.out, "another address for the second");
	ASSERT_CONTAINS(r.out, "hello to a new monitor");
	ASSERT_CONTAINS(r.out, "stopped");
}
