/* A whole distribution: ssh, sudo, systemd. */
#include <unistd.h>

#include "cli.h"

static void need_debian(void)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	r = cli("image", "inspect", "debian", NULL);
	if (r.status != 0)
		test_skip("the store has no image 'debian'");
}

static struct cli good(struct cli r)
{
	ASSERT_STATUS(r, 0);
	return r;
}

TEST(a_debian_machine_from_creation_to_deletion)
{
	_cleanup_cli_ struct cli sudo = {}, again = {}, status = {};

	need_debian();
	good(cli("create", "deb", "--image", "debian", "--cpus", "2", NULL));
	good(cli("start", "deb", NULL));
	sudo = good(cli("ssh", "deb", "--", "sudo", "apt-get", "--version", NULL));
	ASSERT_CONTAINS(sudo.out, "apt ");
	good(cli("ssh", "deb", "--", "echo kept > ~/file; sync", NULL));
	good(cli("stop", "deb", NULL));
	status = good(cli("status", "deb", NULL));
	ASSERT_CONTAINS(status.out, "stopped");
	good(cli("start", "deb", NULL));
	again = good(cli("ssh", "deb", "--", "cat", "file", NULL));
	ASSERT_STREQ(again.out, "kept\n");
	{
		/* ssh's own failures and statuses are its own. */
		_cleanup_cli_ struct cli seven = cli("ssh", "deb", "--", "exit 7", NULL);

		ASSERT_STATUS(seven, 7);
	}
	{
		_cleanup_cli_ struct cli who = good(cli("exec", "deb", "id", "-un", NULL));

		ASSERT_STREQ(who.out, "dev\n");
	}
	{
		_cleanup_cli_ struct cli init = good(cli("exec", "-u", "root", "deb", "cat", "/proc/1/comm", NULL));

		ASSERT_STREQ(init.out, "systemd\n");
	}
	good(cli("delete", "--force", "deb", NULL));
	ASSERT(cli_processes_gone(20));
}

TEST(run_executes_a_command_in_a_whole_distribution)
{
	_cleanup_cli_ struct cli r = {};

	need_debian();
	r = cli("run", "--rm", "debian", CLI_SHELL, "readlink -f /sbin/init; exit 5", NULL);
	ASSERT_STATUS(r, 5);
	ASSERT_CONTAINS(r.out, "systemd");
	ASSERT(cli_processes_gone(20));
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}
