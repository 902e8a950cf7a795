/* A whole distribution: ssh, sudo, systemd. */
#include <stdlib.h>
#include <unistd.h>

#include "cli.h"

/* How long it may take until it can be logged in to. */
#define UP "600"

static void need_debian(void)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	/* It is emulated, on a host that has other things to do. */
	cli_setenv("CLI_TIMEOUT_S=700");
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
	sudo = good(cli("ssh", "--timeout", UP, "deb", "--", "sudo", "apt-get", "--version", NULL));
	ASSERT_CONTAINS(sudo.out, "apt ");
	good(cli("ssh", "deb", "--", "echo kept > ~/file; sync", NULL));
	good(cli("stop", "deb", NULL));
	status = good(cli("status", "deb", NULL));
	ASSERT_CONTAINS(status.out, "stopped");
	good(cli("start", "deb", NULL));
	again = good(cli("ssh", "--timeout", UP, "deb", "--", "cat", "file", NULL));
	ASSERT_STREQ(again.out, "kept\n");
	{
		/* ssh's own failures and statuses are its own. */
		_cleanup_cli_ struct cli seven = cli("ssh", "deb", "--", "exit 7", NULL);

		ASSERT_STATUS(seven, 7);
	}
	{
		/* Who is wanted by one call is nothing that another one finds in the file that both are given. */
		_cleanup_cli_ struct cli made = {}, root = {}, own = {};
		char script[512], path[1024];

		snprintf(script, sizeof(script), "mkdir -p '%s/bin' && cd '%s/bin' && cat >ssh && chmod 755 ssh",
			 test_tmpdir(), test_tmpdir());
		made = good(cli_argv((const char *[]){ CLI_SHELL, script, NULL },
				     "#!/bin/sh\necho \"$*\"; grep User \"$2\"\n", 120));
		snprintf(path, sizeof(path), "PATH=%s/bin:%s", test_tmpdir(), getenv("PATH"));
		cli_setenv(path);
		root = good(cli("ssh", "-u", "root", "deb", "--", "id", NULL));
		own = good(cli("ssh", "deb", "-l", "ann", NULL));
		snprintf(path, sizeof(path), "PATH=%s", getenv("PATH"));
		cli_setenv(path);
		ASSERT_CONTAINS(root.out, "ssh_config -l root deb -- id\n");
		ASSERT_CONTAINS(root.out, "User \"dev\"");
		ASSERT_CONTAINS(own.out, "ssh_config deb -l ann\n");
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
	ASSERT(cli_processes_gone(120));
}

/* Images and kernels of a user's own, who gets at nothing else but the programs; they are where everybody may look. */
#define AS_NOBODY                                                                                                     \
	"set -e\nhome=$PWD/own\n"                                                                                     \
	"mkdir own && cp -aL --sparse=always \"$SKERRY_TEST_STORE/kernels\" own/ && "                                 \
	"cp -a --sparse=always \"$SKERRY_TEST_STORE/images/.\" own/images\n"                                          \
	"chown -R nobody:nogroup own && chmod 711 .\nmount --bind \"$BUILD\" /mnt\ncat >script && chmod 755 script\n" \
	"exec setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=-all "                                 \
	"env -u SKERRY_TEST_STORE -u XDG_RUNTIME_DIR HOME=\"$home\" SKERRY_HOME=\"$home\" \"$PWD/script\"\n"
#define ITS_LIFE                                                                                           \
	"#!/bin/sh\nset -e\nskerry() { /mnt/src/cli/skerry \"$@\"; }\n"                                    \
	"trap 'skerry delete --force -y m 2>/dev/null || :' EXIT\nid -u\n"                                 \
	"skerry create m --image debian\nskerry start --wait --timeout " UP " m\nskerry ssh --timeout " UP \
	" m -- sudo apt-get --version\n"                                                                   \
	"skerry ssh m -- 'echo kept >file; sync'\nskerry stop m\nskerry start --wait --timeout " UP        \
	" m\nskerry ssh --timeout " UP " m -- cat file\n"                                                  \
	"skerry delete --force -y m\ntrap - EXIT\nskerry list --quiet\necho none\n"

TEST(a_debian_machine_of_a_user_who_is_not_root)
{
	char script[4096], build[1024];
	const char *argv[] = { "unshare", "--mount", "--propagation", "private", CLI_SHELL, script, NULL };
	_cleanup_cli_ struct cli r = {};

	if (geteuid() != 0)
		test_skip("needs root, to be another");
	need_debian();
	snprintf(build, sizeof(build), "BUILD=%.*s", (int)(strlen(cli_skerry()) - strlen("/src/cli/skerry")),
		 cli_skerry());
	cli_setenv(build);
	snprintf(script, sizeof(script), "cd '%s'\n" AS_NOBODY, test_tmpdir());
	r = good(cli_argv(argv, ITS_LIFE, 850));
	ASSERT_CONTAINS(r.out, "65534\n");
	ASSERT_CONTAINS(r.out, "apt ");
	ASSERT_CONTAINS(r.out, "kept\nm\nnone\n");
}

TEST(run_executes_a_command_in_a_whole_distribution)
{
	_cleanup_cli_ struct cli r = {};

	need_debian();
	r = cli("run", "--rm", "--timeout", UP, "debian", CLI_SHELL, "readlink -f /sbin/init; exit 5", NULL);
	ASSERT_STATUS(r, 5);
	ASSERT_CONTAINS(r.out, "systemd");
	ASSERT(cli_processes_gone(120));
	ASSERT_EQ(cli_entries("machines", NULL, 0), 0);
}

/* mmdebstrap's own rule for hooks, in front of a system that is nothing but what the hook wants to find: it is run by somebody who gets into none of the
 * caller's directories, as in a user namespace. */
#define NOT_MMDEBSTRAP                                                                                                 \
	"#!/bin/sh\nset -e\nprintf '%s\\n' \"$@\" >\"$0.words\"\n"                                                     \
	"for a; do case $a in --customize-hook=*) hook=${a#*=} ;; esac; done\n"                                        \
	"there=$(mktemp -d /tmp/not-mmdebstrap-XXXXXX)\ntrap 'rm -rf \"$there\"' EXIT\n"                               \
	"root=$there/root system=$there/root/etc/systemd\n"                                                            \
	"mkdir -p \"$root/etc/sudoers.d\" \"$root/etc/ssh/sshd_config.d\" \"$root/etc/default\" "                      \
	"\"$system/system/getty.target.wants\" \"$system/network\" \"$root/var\"\n"                                    \
	"printf '#!/bin/sh\\n' >\"$there/chroot\"\nchmod 755 \"$there/chroot\"\nchown -R nobody \"$there\"\n"          \
	"as_other() { setpriv --reuid=nobody --regid=nogroup --clear-groups env PATH=\"$there:$PATH\" \"$@\" >&2; }\n" \
	"case $hook in\n*[!a-zA-Z0-9_@%+=:,./-]*) as_other sh -c \"$hook\" exec \"$root\" ;;\n"                        \
	"*) as_other \"$hook\" \"$root\" ;;\nesac\ntar -C \"$root\" -c .\n"

TEST(what_is_done_to_a_new_system_need_not_be_readable_to_others)
{
	_cleanup_cli_ struct cli made = {}, build = {}, words = {};
	char script[512], path[1024];

	if (geteuid() != 0)
		test_skip("needs root, to be another");
	cli_home(false);
	snprintf(script, sizeof(script),
		 "cd '%s' && mkdir -p -m 700 data/images/debian bin && chmod 700 data && "
		 "cp " SOURCE_DIR "/images/debian/customize data/images/debian/ && cat >bin/mmdebstrap && "
		 "chmod 755 bin/mmdebstrap",
		 test_tmpdir());
	made = good(cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NOT_MMDEBSTRAP, 120));
	snprintf(path, sizeof(path), "PATH=%s/bin:%s", test_tmpdir(), getenv("PATH"));
	cli_setenv(path);
	snprintf(path, sizeof(path), "SKERRY_DATA_DIR=%s/data", test_tmpdir());
	cli_setenv(path);
	build = good(cli("image", "build", "debian", "--packages", "less,git", "--name", "dev", NULL));
	snprintf(script, sizeof(script), "grep -E '^--include=(.*,)?less,git(,|$)' '%s/bin/mmdebstrap.words'",
		 test_tmpdir());
	words = good(cli_argv((const char *[]){ CLI_SHELL, script, NULL }, NULL, 120));
}

/* Says where it is told to unpack. What it is tried with is mounted, as another user without rights but to read the programs under test. */
#define WHERE                                                                                                          \
	"set -e\nmkdir -p bin data/images/debian user own closed/own\n"                                                \
	"chmod 755 . bin && chmod 1777 own closed/own && chmod 700 closed && chown nobody user closed\n"               \
	"cp \"$CUSTOMIZE\" data/images/debian/ && chmod -R a+rX data\n"                                                \
	"printf '#!/bin/sh\\necho \"E: it is $TMPDIR\" >&2\\nexit 1\\n' >bin/mmdebstrap\n"                             \
	"printf '#!/bin/sh\\n' >bin/fakechroot && cp bin/fakechroot bin/fakeroot && cp bin/fakechroot bin/newuidmap\n" \
	"chmod 755 bin/* && echo \"$USERS\" >users\n"                                                                  \
	"mount --bind . /mnt && mount -t tmpfs -o mode=1777,size=3g t /var/tmp\n"                                      \
	"mount --bind users /etc/subuid && mount -t tmpfs -o \"mode=1777,$OPTIONS\" t /tmp && cd /mnt\n"               \
	"cap=+dac_read_search\n"                                                                                       \
	"setpriv --reuid=nobody --regid=nogroup --clear-groups --inh-caps=$cap --ambient-caps=$cap env "               \
	"PATH=\"/mnt/bin:$PATH\" HOME=/mnt/user SKERRY_HOME=/mnt/user/home SKERRY_DATA_DIR=/mnt/data "                 \
	"${OWN:+TMPDIR=$OWN} "                                                                                         \
	"\"$SKERRY\" image build debian\n"

static void unpacks(const char *options, const char *users, const char *own, const char *where)
{
	char script[8192], expected[128];
	_cleanup_cli_ struct cli r = {};

	snprintf(script, sizeof(script),
		 "cd '%s'\nSKERRY='%s' CUSTOMIZE='" SOURCE_DIR
		 "/images/debian/customize' OPTIONS='%s' USERS='%s' OWN='%s'\n"
		 "unset TMPDIR XDG_RUNTIME_DIR\n" WHERE,
		 test_tmpdir(), cli_skerry(), options, users, own);
	snprintf(expected, sizeof(expected), "in %s: it is %s\n", where, where);
	r = cli_argv((const char *[]){ "unshare", "-m", CLI_SHELL, script, NULL }, NULL, 120);
	ASSERT_CONTAINS(r.err, expected);
}

TEST(a_system_is_unpacked_where_there_is_room_for_it)
{
	if (geteuid() != 0 || access("/etc/subuid", F_OK) < 0)
		test_skip("needs root, to be another, and /etc/subuid, to say who that is");
	unpacks("size=3g", "", "", "/tmp");
	unpacks("size=1g", "", "", "/var/tmp");
	unpacks("size=3g,noexec", "", "", "/var/tmp");
	unpacks("size=3g", "", "/mnt/own", "/mnt/own");
	/* Who has user ids of a namespace gets into no directory that is closed to others. */
	unpacks("size=3g", "nobody:100000:65536", "/mnt/own", "/mnt/own");
	unpacks("size=3g", "nobody:100000:65536", "/mnt/closed/own", "/tmp");
	unpacks("size=3g", "", "/mnt/closed/own", "/mnt/closed/own");
}
