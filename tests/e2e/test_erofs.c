/* Images that nobody can write to: what a machine changes goes into a file system above them. Real boots. */
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

static void ok(struct cli r)
{
	ASSERT_STATUS(r, 0);
	cli_done(&r);
}

static void says(struct cli r, const char *text)
{
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, text);
	cli_done(&r);
}

static void fails(struct cli r, int status, const char *text)
{
	ASSERT_STATUS(r, status);
	ASSERT_CONTAINS(r.err, text);
	cli_done(&r);
}

static struct cli shell(const char *script)
{
	return cli_argv((const char *const[]){ CLI_SHELL, script, NULL }, NULL, 120);
}

/* The tiny image's files with some of every kind beside them, as a tar: root.tar in the test's directory. */
static void make_root(void)
{
	if (geteuid() != 0)
		test_skip("not root: nobody else can make device nodes");
	cli_home(true);
	ASSERT_EQ(chdir(test_tmpdir()), 0);
	ok(cli("image", "save", "tiny", "oci:layout:t", NULL));
	ok(shell("set -e; mkdir root; for b in layout/blobs/sha256/*; do tar -C root -xf $b 2>/dev/null || :; done;"
		 "test -e root/bin/busybox; mkdir -p root/srv/deep/er root/srv/many; cd root/srv;"
		 "echo content > file; ln file deep/linked; chmod 4755 file; chown 7:70000 file; ln -s ../file "
		 "deep/link;"
		 "mknod null c 1 3; mkfifo pipe; truncate -s 30M sparse; echo end >> sparse; seq 100000 > long;"
		 "head -c 5000 long > tail; for i in $(seq 1000); do echo $i > many/name-of-$i; done;"
		 "touch -d '2001-02-03 04:05:06.789' file deep/er; cd ..; tar --sparse -cf ../root.tar ."));
}

static void import(const char *format)
{
	ok(cli("image", "import", "root.tar", "--format", format, "--name", format, NULL));
}

TEST(a_guest_sees_the_same_tree_as_on_an_ext4)
{
	static const char look[] =
		"cd /; find bin sbin usr srv -xdev ! -type d -exec stat -c '%n %f %u %g %h %s %Y %t %T' {} + | sort;"
		"find bin sbin usr srv -xdev -type d -exec stat -c '%n %f %u %g %Y' {} + | sort;"
		"find bin sbin usr srv -xdev -type f -exec md5sum {} + | sort; readlink srv/deep/link";
	_cleanup_cli_ struct cli a = {}, b = {};

	make_root();
	import("ext4");
	a = cli("run", "--rm", "ext4", CLI_SHELL, look, NULL);
	ASSERT_STATUS(a, 0);
	ASSERT_CONTAINS(a.out, "srv/many/name-of-1000");
	/* Its layers give the disk that the image has when it is one. */
	ok(cli("image", "export-disk", "ext4", "one.erofs", "--format", "erofs", NULL));
	fails(cli("image", "export-disk", "ext4", "one.erofs", "--format", "erofs", NULL), 73, "is there already");
	ok(shell("fsck.erofs one.erofs"));
	import("erofs");
	says(cli("image", "inspect", "erofs", NULL), "\"fstype\": \"erofs\"");
	ok(cli("image", "export-disk", "erofs", "two.erofs", "--format", "erofs", NULL));
	ok(shell("cmp one.erofs two.erofs || exit 1; for d in \"$SKERRY_HOME\"/images/disks/*/disk.raw; do cmp -s "
		 "two.erofs $d && exit 0; done; exit 1"));
	/* What a recipe made has no layers of its own. */
	ok(cli("image", "export-disk", "tiny", "tiny.erofs", "--format", "erofs", NULL));
	ok(shell("fsck.erofs tiny.erofs; test -z \"$(ls | grep tmp-)\""));
	b = cli("run", "--rm", "erofs", CLI_SHELL, look, NULL);
	ASSERT_STATUS(b, 0);
	ASSERT_STREQ(b.out, a.out);
}

TEST(what_takes_an_images_place_is_of_its_kind)
{
	make_root();
	import("erofs");
	/* The same layers under another name: they have their disk already. */
	ok(cli("image", "import", "root.tar", "--name", "other", NULL));
	says(cli("image", "inspect", "other", NULL), "\"fstype\": \"erofs\"");
	ok(shell("echo more > root/srv/more; tar -C root -cf root.tar ."));
	ok(cli("image", "import", "root.tar", "--name", "erofs", NULL));
	says(cli("image", "inspect", "erofs", NULL), "\"fstype\": \"erofs\"");
	says(cli("run", "--rm", "erofs", "cat", "/srv/more", NULL), "more");
	ok(shell("echo most > root/srv/more; tar -C root -cf root.tar ."));
	ok(cli("image", "import", "root.tar", "--name", "erofs", "--format", "ext4", NULL));
	says(cli("image", "inspect", "erofs", NULL), "\"fstype\": \"ext4\"");
	ok(shell("echo new > root/srv/more; tar -C root -cf root.tar ."));
	ok(cli("image", "import", "root.tar", "--name", "fresh", NULL));
	says(cli("image", "inspect", "fresh", NULL), "\"fstype\": \"ext4\"");
}

TEST(an_image_has_both_kinds_and_machines_keep_theirs)
{
	_cleanup_cli_ struct cli both = {};

	make_root();
	ok(cli("image", "import", "root.tar", "--name", "both", NULL));
	ok(cli("create", "old", "--image", "both", NULL));
	ok(cli("image", "import", "root.tar", "--name", "both", "--format", "erofs", NULL));
	both = cli("image", "inspect", "both", NULL);
	ASSERT_STATUS(both, 0);
	ASSERT_CONTAINS(both.out, "\"fstype\": \"erofs\"");
	ASSERT_CONTAINS(both.out, "\"fstype\": \"ext4\"");
	says(cli("image", "list", NULL), "erofs");
	ok(cli("create", "new", "--image", "both", NULL));
	ok(cli("image", "prune", "--all", "--yes", NULL));
	ok(cli("start", "--wait", "old", NULL));
	says(cli("exec", "old", CLI_SHELL, "echo changed > /srv/file; cat /srv/file", NULL), "changed");
	ok(cli("start", "--wait", "new", NULL));
	says(cli("exec", "new", "cat", "/srv/file", NULL), "content");
	ok(cli("commit", "old", "from-ext4:1", NULL));
	says(cli("run", "--rm", "from-ext4:1", "cat", "/srv/file", NULL), "changed");
	ok(cli("delete", "--force", "-y", "old", NULL));
	ok(cli("delete", "--force", "-y", "new", NULL));
}

TEST(what_is_changed_stays_with_the_machine)
{
	make_root();
	import("erofs");
	ok(cli("create", "m", "--image", "erofs", "--disk", "2G", NULL));
	ok(cli("start", "m", NULL));
	says(cli("exec", "m", CLI_SHELL,
		 "set -e; echo mine > /srv/file; rm /srv/long; mv /srv/tail /srv/moved; mkdir /srv/new; ln /srv/file "
		 "/srv/new/l;"
		 "rm -r /srv/many; mkdir /srv/many; touch /srv/many/one; df -m / | tail -n 1 | awk '{print ($2 > "
		 "1500)}'",
		 NULL),
	     "1");
	/* Its disks are trimmed and end clean: what the file system above is on is one of them. */
	ok(cli("stop", "m", NULL));
	ok(shell("qemu-img convert -O raw \"$SKERRY_HOME\"/machines/m/system.qcow2 m.raw; e2fsck -fn m.raw;"
		 "! dumpe2fs -h m.raw 2>/dev/null | grep -q needs_recovery"));
	ok(cli("start", "m", NULL));
	says(cli("exec", "m", CLI_SHELL,
		 "cat /srv/new/l; ls /srv /srv/many; test ! -e /srv/long; test -e /srv/moved; stat -c %h /srv/file",
		 NULL),
	     "mine\n");
	fails(cli("image", "delete", "erofs", NULL), 75, "machine 'm'");
	fails(cli("image", "delete", "skerry-blank", NULL), 75, "machine 'm'");
	/* Killed, it comes back with what was written out. */
	ok(cli("exec", "m", CLI_SHELL, "echo later > /srv/later; sync", NULL));
	ok(cli("stop", "--timeout", "0", "m", NULL));
	ok(cli("start", "m", NULL));
	says(cli("exec", "m", "cat", "/srv/later", NULL), "later");
	ok(cli("delete", "--force", "m", NULL));
	ok(cli("image", "delete", "erofs", NULL));
}

TEST(what_is_changed_becomes_a_layer)
{
	static const char change[] =
		"set -e; mkdir /srv/a; echo one > /srv/a/f; ln /srv/a/f /srv/a/g; chmod 4711 /srv/a/f; rm /srv/long;"
		"rm -r /srv/many; mkdir /srv/many; echo x > /srv/many/new; echo own > /etc/hosts; mv /srv/tail "
		"/srv/moved";
	static const char look[] =
		"cd /srv; cat a/g after moved many/new | md5sum; stat -c '%n %f %h' a/f file; ls many; ls";
	_cleanup_cli_ struct cli a = {}, b = {};

	make_root();
	import("erofs");
	ok(cli("run", "-d", "--name", "m", "erofs", NULL));
	ok(cli("exec", "m", CLI_SHELL, change, NULL));
	/* Running: it stands still meanwhile, and goes on. */
	ok(cli("commit", "m", "made:1", NULL));
	ok(cli("exec", "m", CLI_SHELL, "echo after > /srv/after", NULL));
	a = cli("exec", "m", CLI_SHELL, look, NULL);
	ok(cli("stop", "m", NULL));
	ok(cli("commit", "m", "made:2", NULL));
	says(cli("image", "inspect", "made:2", NULL), "\"fstype\": \"erofs\"");
	b = cli("run", "--rm", "made:2", CLI_SHELL, look, NULL);
	ASSERT_STATUS(b, 0);
	ASSERT_STREQ(b.out, a.out);
	fails(cli("run", "--rm", "made:1", "cat", "/srv/after", NULL), 1, "No such file");
	ok(cli("delete", "--force", "m", NULL));
	says(cli("image", "history", "made:2", NULL), "skerry commit machine 'm'");
}

TEST(a_distributions_kernel_has_what_it_takes)
{
	make_root();
	import("erofs");
	says(cli("run", "--rm", "--kernel", "debian", "erofs", CLI_SHELL,
		 "echo x > /etc/x; cat /etc/x; grep ^overlay /proc/mounts", NULL),
	     "overlay / overlay rw");
}

/* Its last program makes read-only what the root stands on; nothing is left for a journal to say. */
static void ends_clean(const char *kernel)
{
	ok(cli("create", "d", "--image", "system", "--kernel", kernel, NULL));
	ok(cli("start", "d", NULL));
	says(cli("exec", "--user", "root", "d", CLI_SHELL,
		 "until s=$(systemctl is-system-running --wait 2>/dev/null); [ \"$s\" = running ] || [ \"$s\" = "
		 "degraded ];"
		 "do sleep 1; done; echo $s; systemctl --failed --no-legend; echo changed > /etc/motd",
		 NULL),
	     "running");
	ok(cli("stop", "--timeout", "300", "d", NULL));
	ok(shell("qemu-img convert -O raw \"$SKERRY_HOME\"/machines/d/system.qcow2 d.raw; e2fsck -fn d.raw;"
		 "! dumpe2fs -h d.raw 2>/dev/null | grep -q needs_recovery; rm d.raw"));
	ok(cli("commit", "d", "committed:1", NULL));
	ok(cli("delete", "--force", "d", NULL));
}

TEST(what_is_built_here)
{
	cli_home(true);
	ok(cli("image", "build", "tiny", "--format", "erofs", "--name", "small", NULL));
	says(cli("image", "inspect", "small", NULL), "\"fstype\": \"erofs\"");
	says(cli("image", "inspect", "tiny", NULL), "\"fstype\": \"ext4\"");
	says(cli("run", "--rm", "small", CLI_SHELL, "echo new > /new; cat /new", NULL), "new");
	/* Built again it stays what it is, until somebody asks for the other. */
	ok(cli("image", "build", "tiny", "--name", "small", NULL));
	says(cli("image", "inspect", "small", NULL), "\"fstype\": \"erofs\"");
	ok(cli("image", "build", "tiny", "--name", "small", "--format", "ext4", NULL));
	says(cli("image", "inspect", "small", NULL), "\"fstype\": \"ext4\"");
	fails(cli("image", "build", "tiny", "--name", "small", "--format", "xfs", NULL), 64, "auto|ext4|erofs");
}

TEST(a_whole_system_ends_clean)
{
	cli_home(true);
	/* As long as a whole distribution may take, emulated beside others. */
	cli_setenv("CLI_TIMEOUT_S=600");
	ASSERT_EQ(chdir(test_tmpdir()), 0);
	ok(cli("image", "save", "debian", "system.tar", NULL));
	ok(cli("image", "import", "system.tar", "--format", "erofs", "--name", "system", NULL));
	ends_clean("built");
	ends_clean("debian");
	says(cli("run", "--rm", "committed:1", "cat", "/etc/motd", NULL), "changed");
}

TEST(a_format_that_there_is_not)
{
	cli_home(true);
	fails(cli("image", "import", "whatever.tar", "--format", "squashfs", NULL), 64, "auto|ext4|erofs");
}
