/* Root file systems that a real containerd makes: many layers, other snapshotters, many mounts. */
#include <fcntl.h>
#include <unistd.h>

#include "base/memory.h"
#include "containerd.h"

#define CTR          "ctr -a $PWD/c.sock "
#define LAYERED      "docker.io/library/layers"
#define SYSTEM_IMAGE "docker.io/library/system:latest"

enum { LAYERS = 100, FEW = 30 };

/* Layer N has a file /layers/N of its own, says so in /top, and hides that of the one before but for every tenth. */
static void make_layers(void)
{
	_cleanup_free_ char *script =
		xasprintf("mkdir -p t/layers && n=2 && while [ $n -le %d ]; do rm -f t/layers/* t/layers/.wh.* && "
			  "echo $n >t/top && echo $n >t/layers/$n && "
			  "{ [ $((n %% 10)) = 1 ] || : >t/layers/.wh.$((n-1)); } && tar -C t -cf t.tar . && "
			  "umoci raw add-layer --image l:bb t.tar || exit 1; "
			  "[ $n != %d ] || umoci tag --image l:bb few || exit 1; n=$((n+1)); done && "
			  "skopeo copy -q oci:l:bb oci-archive:many.tar:" LAYERED ":many && "
			  "skopeo copy -q oci:l:few oci-archive:few.tar:" LAYERED ":few && "
			  "for i in few many; do " CTR "image import $i.tar || exit 1; done",
			  LAYERS, FEW);

	ctd_sh(script);
}

static void check_layers(const char *tag, int n)
{
	_cleanup_free_ char *image = xasprintf(LAYERED ":%s", tag);
	_cleanup_free_ char *files = xasprintf("%d\n%d\n%d\n", n, n, n / 10);
	_cleanup_cli_ struct cli r = ctr_run(NULL, "--rm", image, "c1", CLI_SHELL,
					     "cat /top /layers/$(cat /top); ls /layers | wc -l; echo new >/layers/new; "
					     "rm /top; test ! -e /top && cat /layers/new >/dev/null",
					     NULL);

	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, files);
	/* What one has written is not another's. */
	cli_done(&r);
	r = ctr_run(NULL, "--rm", image, "c2", CLI_SHELL, "test ! -e /layers/new && test -e /top", NULL);
	ASSERT_STATUS(r, 0);
}

TEST(thirty_and_a_hundred_layers)
{
	ctd_start();
	make_layers();
	check_layers("few", FEW);
	check_layers("many", LAYERS);
	ctd_nothing_left();
}

TEST(the_native_snapshotter)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	r = ctr_run(NULL, "--rm", "--snapshotter", "native", CTD_IMAGE, "c1", CLI_SHELL, "echo x >/x; cat /x; id -u",
		    NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "x\n0\n");
	cli_done(&r);
	r = ctr_run(NULL, "--rm", "--read-only", "--snapshotter", "native", CTD_IMAGE, "c1", CLI_SHELL,
		    "test ! -e /x; echo x >/x", NULL);
	ASSERT(r.status != 0);
	ASSERT_CONTAINS(r.err, "Read-only");
	ctd_nothing_left();
}

TEST(a_directory_as_root_file_system)
{
	_cleanup_free_ char *root = xasprintf("%s/r", test_tmpdir());
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	r = ctr_run(NULL, "--rm", "--rootfs", root, "c1", "/bin/sh", "-c", /* lint: the container's */
		    "echo written >/from-inside", NULL);
	ASSERT_STATUS(r, 0);
	ctd_sh("grep -q written r/from-inside");
	ctd_nothing_left();
}

/* Debian's systemd, with the services that it has there. */
TEST(a_whole_system_with_systemd_as_the_containers_init)
{
	_cleanup_free_ char *archive = xasprintf("%s/system.tar", test_tmpdir());
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	r = cli("image", "inspect", "debian", NULL);
	if (r.status != 0)
		test_skip("the store has no image 'debian'");
	cli_done(&r);
	cli_setenv("CLI_TIMEOUT_S=600");
	r = cli("image", "save", "debian", archive, NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	/* Whoever runs an init runs it as root; the image is for a user's commands. */
	ctd_sh("skopeo copy -q docker-archive:system.tar oci:sys:system && rm system.tar && "
	       "umoci config --image sys:system --config.user 0:0 && "
	       "skopeo copy -q oci:sys:system oci-archive:named.tar:" SYSTEM_IMAGE " && rm -r sys && " CTR
	       "image import named.tar && rm named.tar");
	r = ctr_run(NULL, "-d", "--privileged", SYSTEM_IMAGE, "c1", "/sbin/init", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	r = ctr("task", "exec", "--exec-id", "e1", "c1", CLI_SHELL,
		"until s=$(systemctl is-system-running --wait 2>/dev/null); [ \"$s\" = running ] || [ \"$s\" = "
		"degraded ]; "
		"do sleep 0.1; done; cat /proc/1/comm; echo $s; systemctl is-active systemd-journald",
		NULL);
	if (!streq(r.out, "systemd\nrunning\nactive\n"))
		ASSERT_STREQ(r.out, "systemd\ndegraded\nactive\n");
	cli_done(&r);
	/* SIGRTMIN+3: it stops what it runs, and ends. */
	r = ctr("task", "kill", "-s", "37", "c1", NULL);
	ASSERT_STATUS(r, 0);
	ctd_wait_status("c1", "STOPPED");
	cli_done(&r);
	r = ctr("task", "rm", "c1", NULL);
	ASSERT_STATUS(r, 0);
	cli_done(&r);
	r = ctr("container", "rm", "c1", NULL);
	ASSERT_STATUS(r, 0);
	ctd_nothing_left();
}

TEST(locks_hold_on_what_is_shared)
{
	_cleanup_cli_ struct cli r = {};

	ctd_start();
	ctd_sh("mkdir v");
	{
		_cleanup_free_ char *volume = xasprintf("type=bind,src=%s/v,dst=/v,options=bind:rw", test_tmpdir());

		r = ctr_run(NULL, "--rm", "--snapshotter", "native", "--mount",
			    "type=bind,src=" LOCK_CLIENT ",dst=/client,options=bind:ro", "--mount", volume, CTD_IMAGE,
			    "c1", CLI_SHELL, "/client /here && /client /v/there", NULL);
	}
	ASSERT_STREQ(r.err, "");
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "locked\nlocked\n");
	ctd_nothing_left();
}

TEST(ten_mounts_of_directories_and_files)
{
	enum { DIRS = 5, FILES = 5 };
	_cleanup_free_ char *mounts[DIRS + FILES] = {};
	const char *argv[64] = { "ctr", "-a", NULL, "run", "--rm", "--runtime", "io.containerd.skerry.v1" };
	_cleanup_free_ char *socket = xasprintf("%s/c.sock", test_tmpdir());
	_cleanup_cli_ struct cli r = {};
	size_t n = 7;

	ctd_start();
	argv[2] = socket;
	ctd_sh("mkdir b && for i in 0 1 2 3 4; do mkdir b/d$i && echo dir $i >b/d$i/name && echo file $i >b/f$i; done");
	for (int i = 0; i < DIRS + FILES; i++) {
		const char *mode =
			(const char *const[]){ "rw", "rw", "ro", "rw", "ro", "ro", "ro", "rw", "ro", "rw" }[i];

		/* One inside another, files where the image has none and where it has one, odd names. */
		mounts[i] =
			i < DIRS ? xasprintf("type=bind,src=%s/b/d%d,dst=/mnt%s,options=rbind:%s", test_tmpdir(), i,
					     (const char *const[]){ "", "/in", "/in/deeper", "/a b", "/ü" }[i], mode)
				 : xasprintf("type=bind,src=%s/b/f%d,dst=%s,options=bind:%s", test_tmpdir(), i - DIRS,
					     (const char *const[]){ "/etc/passwd", "/etc/resolv.conf", "/new/file",
								    "/mnt/name", "/file" }[i - DIRS],
					     mode);
		argv[n++] = "--mount";
		argv[n++] = mounts[i];
	}
	argv[n++] = CTD_IMAGE;
	argv[n++] = "c1";
	argv[n++] = "sh";
	argv[n++] = "-c"; /* lint: the container's shell */
	argv[n++] = "cat /mnt/in/name /mnt/in/deeper/name '/mnt/a b/name' /mnt/ü/name /etc/passwd /etc/resolv.conf "
		    "/new/file /mnt/name /file; for f in /mnt/in /mnt/in/deeper '/mnt/a b' /mnt/ü; do "
		    "touch \"$f/x\" 2>/dev/null && echo rw || echo ro; done; echo changed >/new/file && cat /new/file; "
		    "echo changed 2>/dev/null >/etc/passwd || echo ro";
	r = cli_argv(argv, NULL, 300);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "dir 1\ndir 2\ndir 3\ndir 4\nfile 0\nfile 1\nfile 2\nfile 3\nfile 4\n"
			    "rw\nro\nrw\nro\nchanged\nro\n");
	ctd_nothing_left();
}

/* Who is root of the machine has the share whole, and could change what the host's root is about to mount, unmount and remove there. */
TEST(whoever_is_root_of_the_machine_stays_in_what_is_shared)
{
	_cleanup_free_ char *mount = xasprintf("type=bind,src=%s/b,dst=/b,options=rbind:ro", test_tmpdir());
	_cleanup_free_ char *attack = xasprintf(
		"mkdir /w && mount -t virtiofs share /w && cd /w && ls && touch c1/rootfs/mine && for c in "
		"'mv c1 c2' 'ln -s %s/other c2' 'mkdir c2' 'rmdir c1/m1' 'ln -s /etc c1/m9' 'touch c1/f' "
		"'touch c1/m0/f' 'touch c1/m0/sub/f'; do $c 2>/dev/null && echo \"$c\"; done; cat /mine c1/m0/sub/g",
		test_tmpdir());
	_cleanup_cli_ struct cli r = {};

	ctd_start_with_network();
	/* In the mount namespace of this test. */
	ctd_sh("mkdir -p b/sub other/rootfs && mount -t tmpfs sub b/sub && echo below >b/sub/g && touch "
	       "other/rootfs/f");
	r = ctr_run(NULL, "--rm", "--privileged", "--mount", mount, CTD_IMAGE, "c1", CLI_SHELL, attack, NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "c1\nbelow\n");
	ctd_sh("test -e other/rootfs/f && test ! -e b/f && test ! -e b/sub/f && umount b/sub");
	ctd_nothing_left();
}
