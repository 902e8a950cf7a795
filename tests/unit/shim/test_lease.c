/* What a network gave goes back by its plugin, here a script in a place for plugins that this process alone sees. */
#include "shim/lease.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "test.h"

#define PLUGINS "/opt/cni/bin"

/* It tells what it was called with, and fails while there is a file "broken"; "slow" makes it wait for ever. */
static void set_up(void)
{
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir()), *script = NULL;
	_cleanup_close_ int plugins = -EBADF;

	if (geteuid() != 0 || unshare(CLONE_NEWNS) < 0)
		test_skip("no mount namespace of its own");
	ASSERT(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	ASSERT(mount("test", "/opt", "tmpfs", 0, "mode=755") == 0);
	ASSERT_OK(mkdir_parents_at(AT_FDCWD, PLUGINS, 0755));
	plugins = open(PLUGINS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	script = xasprintf("#!/bin/sh\ncd '%s'\ncat >/dev/null\necho \"$CNI_COMMAND <$CNI_NETNS>\" >>calls\n"
			   "[ -e slow ] && exec sleep 1000\n! [ -e broken ]\n",
			   test_tmpdir());
	ASSERT_OK(file_write_at(plugins, "skerry-test", script, strlen(script), 0755, 0));
	ASSERT_OK(setenv("SKERRY_HOME", home, 1));
	ASSERT_OK(unsetenv("SKERRY_RUN_DIR"));
	ASSERT(chdir(test_tmpdir()) == 0);
}

static void expect_calls(const char *expected)
{
	_cleanup_buf_ struct buf text = {};

	ASSERT_OK(file_read_at(AT_FDCWD, "calls", 4096, &text));
	ASSERT_STREQ(text.p ? text.p : "", expected);
}

static struct shim_record record(void)
{
	return (struct shim_record){
		.cni_network =
			xstrdup("{\"cniVersion\":\"0.4.0\",\"name\":\"t\",\"plugins\":[{\"type\":\"skerry-test\"}]}"),
		.cni_id = xstrdup("c1"),
	};
}

static uint64_t soon(void)
{
	return clock_monotonic_ns() + 100 * NS_PER_SEC;
}

TEST(what_cannot_be_given_back_is_tried_again)
{
	_cleanup_(shim_record_done) struct shim_record r = {};
	_cleanup_error_ struct error e = {};

	set_up();
	r = record();
	ASSERT_OK(file_write_at(AT_FDCWD, "broken", "", 0, 0644, 0));
	ASSERT(lease_release(&r, "/proc/self/ns/net", soon(), &e) < 0);
	ASSERT_CONTAINS(e.msg, "skerry-test");
	expect_calls("DEL </proc/self/ns/net>\n");
	ASSERT(lease_recover(false, soon()) < 0);
	expect_calls("DEL </proc/self/ns/net>\nDEL <>\n");
	ASSERT(unlink("broken") == 0);
	ASSERT_OK(lease_recover(false, soon()));
	expect_calls("DEL </proc/self/ns/net>\nDEL <>\nDEL <>\n");
	/* Nothing is left to be tried. */
	ASSERT_OK(lease_recover(false, soon()));
	ASSERT_OK(lease_release(&r, NULL, soon(), NULL));
	ASSERT_OK(lease_recover(false, soon()));
	expect_calls("DEL </proc/self/ns/net>\nDEL <>\nDEL <>\nDEL <>\n");
}

TEST(a_slow_network_is_not_waited_for_beyond_the_time)
{
	_cleanup_(shim_record_done) struct shim_record r = {};

	set_up();
	r = record();
	ASSERT_OK(file_write_at(AT_FDCWD, "slow", "", 0, 0644, 0));
	ASSERT_EQ(lease_release(&r, NULL, clock_monotonic_ns() + NS_PER_SEC, NULL), -ETIMEDOUT);
	/* It belongs to another record by now. */
	lease_forget("c1");
	ASSERT_OK(lease_recover(false, soon()));
}

/* A path by pid may be another process's, whose interfaces are none of ours. */
TEST(a_recorded_namespace_is_not_named_to_plugins)
{
	static const char text[] = "{\"cni_network\":\"{\\\"cniVersion\\\":\\\"0.4.0\\\",\\\"name\\\":\\\"t\\\","
				   "\\\"plugins\\\":[{\\\"type\\\":\\\"skerry-test\\\"}]}\",\"cni_id\":\"c1\","
				   "\"cni_netns\":\"/proc/1/ns/net\"}";
	_cleanup_(shim_record_done) struct shim_record r = {};

	set_up();
	ASSERT_OK(file_write_at(AT_FDCWD, SHIM_RECORD, text, strlen(text), 0600, 0));
	ASSERT_OK(shim_record_read(AT_FDCWD, &r, NULL));
	shim_record_release(&r, soon());
	expect_calls("DEL <>\n");
}
