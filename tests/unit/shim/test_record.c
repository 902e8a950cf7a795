#include "shim/record.h"

#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/host_cgroup.h"
#include "test.h"

/* A process that is on its way out, as a child of what was ended is: nobody waits for it. */
TEST(a_cgroup_is_removed_when_what_is_in_it_has_gone)
{
	_cleanup_(shim_record_done) struct shim_record r = {};
	_cleanup_free_ char *name = xasprintf("skerry-test-record-%d", (int)getpid());
	pid_t pid;

	host_cgroup_plan_own(name, &r.cgroups);
	if (!r.cgroups.n)
		test_skip("no cgroup of this host is left to us");
	host_cgroup_make(&r.cgroups);
	ASSERT(signal(SIGCHLD, SIG_IGN) != SIG_ERR);
	pid = fork();
	ASSERT(pid >= 0);
	if (pid == 0) {
		alarm(2);
		for (;;)
			pause();
	}
	host_cgroup_add(&r.cgroups, pid);
	shim_record_release(&r, clock_monotonic_ns() + 20 * NS_PER_SEC);
	for (size_t i = 0; i < r.cgroups.n; i++)
		ASSERT(access(r.cgroups.items[i], F_OK) < 0);
}
