/* The snapshotters of containerd 2.2 that give file systems in files: EROFS, a file for each layer, and blockfile. Their mounts are left to the guest. */
#include <signal.h>
#include <unistd.h>

#include "base/memory.h"
#include "containerd.h"

#define CTR   "ctr -a $PWD/c.sock "
#define IMAGE "docker.io/library/layers:latest"
/* Debian 12's mkfs.erofs reads no archives. */
#define CONFIG "[plugins.'io.containerd.service.v1.diff-service']\ndefault = ['walking']\n"

static void need_second(void)
{
	if (!getenv("SKERRY_TEST_SECOND"))
		test_skip("containerd 2.2 and later have these snapshotters");
}

/* The image of the tests, and four layers: each hides something of those below it. */
static void make_image(void)
{
	ctd_sh("mkdir -p t1/d t1/hidden t2/d t3/hidden t4 && for i in 1 2 3 4; do echo $i >t$i/top; echo of $i "
	       ">t$i/of$i; done && "
	       "echo a >t1/d/a && echo x >t1/gone && echo old >t1/hidden/old && echo b >t2/d/b && : >t2/d/.wh.a && : "
	       ">t2/.wh.gone && "
	       "echo new >t3/hidden/new && : >t3/hidden/.wh..wh..opq && echo back >t4/gone && for i in 1 2 3 4; do "
	       "tar -C t$i -cf t$i.tar . && umoci raw add-layer --image l:bb t$i.tar || exit 1; done && "
	       "skopeo copy -q oci:l:bb oci-archive:t.tar:" IMAGE " && " CTR "image import --no-unpack t.tar");
}

#define LOOK "cat /of* /top /gone; ls /d; ls /hidden; "
#define SAID "of 1\nof 2\nof 3\nof 4\n4\nback\nb\nnew\n"

/* Nothing of it is mounted or a device on the host while it runs, and nothing afterwards. */
static void nothing_on_the_host(void)
{
	ctd_sh("! losetup -a | grep $PWD && ! grep $PWD /proc/self/mounts | grep -e erofs -e ext4 -e overlay");
}

static void run_one(const char *snapshotter)
{
	_cleanup_cli_ struct cli r = ctr_run(NULL, "-d", "--snapshotter", snapshotter, IMAGE, "c1", CLI_SHELL,
					     LOOK "echo new >/new; rm /of1; echo more >>/of2; exec sleep 1000", NULL),
				 in = {};

	ASSERT_STATUS(r, 0);
	in = ctr("task", "exec", "--exec-id", "e1", "c1", CLI_SHELL,
		 "until test -s /of2 && grep -q more /of2; do :; done; cat /new /of*; grep ' / ' /proc/mounts; sync",
		 NULL);
	ASSERT_STATUS(in, 0);
	ASSERT(after_prefix(in.out, "new\nof 2\nmore\nof 3\nof 4\n"));
	nothing_on_the_host();
	ctd_remove("c1");
	ctd_nothing_left();
	nothing_on_the_host();
}

TEST(layers_and_block_files)
{
	_cleanup_free_ char *with_files = xasprintf(
		CONFIG "[plugins.'io.containerd.snapshotter.v1.erofs']\ndefault_size = '64MiB'\n"
		       "[plugins.'io.containerd.snapshotter.v1.blockfile']\nscratch_file = '%s/scratch'\nfs_type = "
		       "'ext4'\n",
		test_tmpdir());

	_cleanup_cli_ struct cli again = {};

	need_second();
	ctd_configure(CONFIG);
	ctd_start();
	make_image();
	run_one("erofs");
	/* The next one has the image again. */
	again = ctr_run(NULL, "--rm", "--snapshotter", "erofs", IMAGE, "c1", CLI_SHELL, LOOK, NULL);
	ASSERT_STATUS(again, 0);
	ASSERT_STREQ(again.out, SAID);
	/* What is written is in a file system of its own, which containerd makes. */
	ctd_sh("truncate -s 64M scratch && mke2fs -q -t ext4 -E root_owner=0:0 scratch");
	ctd_configure(with_files);
	ctd_stop(SIGTERM);
	ctd_restart();
	run_one("erofs");
	/* A copy of the whole of it for each. */
	run_one("blockfile");
	ctd_configure("");
}
