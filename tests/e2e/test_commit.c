/* What comes out again: machines become images, images become files, and what nobody needs goes. Real boots. */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "registry.h"

enum { PATH_BYTES = 512 };

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

/* The digest of an image's last layer: "skerry image inspect" names layers from the bottom up. */
static void last_layer(const char *image, char *ret, size_t n)
{
	_cleanup_cli_ struct cli r = cli("image", "inspect", image, NULL);
	const char *p = strstr(r.out, "\"layers\""), *end = strstr(r.out, "\"used_by\""), *found = NULL;

	ASSERT_STATUS(r, 0);
	ASSERT(p && end);
	while ((p = strstr(p, "\"digest\": \"sha256:")) && p < end)
		found = p += 18;
	ASSERT(found);
	snprintf(ret, n, "%.64s", found);
}

/* The names in the last layer's tar, as tar lists them. */
static struct cli layer_names(const char *image)
{
	char hex[80], script[PATH_BYTES];

	last_layer(image, hex, sizeof(hex));
	snprintf(script, sizeof(script), "zcat %s/images/blobs/sha256/%s | tar -tf -", cli_home(true), hex);
	return shell(script);
}

static void prepare(void)
{
	ok(cli("run", "-d", "--name", "dev", "tiny", NULL));
	ok(cli("exec", "dev", CLI_SHELL,
	       "set -e; mkdir -p /srv/a; echo one > /srv/a/file; ln /srv/a/file /srv/a/other; chmod 4711 /srv/a/file; "
	       "ln -s file /srv/a/link; mknod /srv/null c 1 3; mkfifo /srv/pipe; rm /etc/profile; "
	       "dd if=/dev/zero of=/srv/sparse bs=1 count=1 seek=200000000; echo own > /etc/hosts; chown 7:8 /srv/pipe",
	       NULL));
}

TEST(a_running_machine_becomes_an_image_and_goes_on)
{
	_cleanup_cli_ struct cli names = {}, look = {};

	cli_home(true);
	prepare();
	ok(cli("commit", "dev", "made:1", "-m", "the first", "--author", "me", "--change", "CMD cat /srv/a/file",
	       "--change", "ENV KEY=value", NULL));
	/* It runs, and its disk can be written to. */
	says(cli("exec", "dev", CLI_SHELL, "echo later > /srv/later; sync; cat /srv/later", NULL), "later\n");
	says(cli("status", "dev", NULL), "running");
	names = layer_names("made:1");
	ASSERT_STREQ(names.out, "./\n"
				"etc/\n"
				"etc/.wh.profile\n"
				"srv/\n"
				"srv/a/\n"
				"srv/a/file\n"
				"srv/a/link\n"
				"srv/a/other\n"
				"srv/null\n"
				"srv/pipe\n"
				"srv/sparse\n");
	says(cli("run", "--rm", "made:1", NULL), "one\n");
	look = cli("run", "--rm", "made:1", CLI_SHELL,
		   "stat -c '%n %a %u %g %h %F %s' /srv/a/* /srv/*; cat /etc/hosts; ls /etc/profile; echo $KEY", NULL);
	ASSERT_CONTAINS(look.out, "/srv/a/file 4711 0 0 2 regular file 4\n");
	ASSERT_CONTAINS(look.out, "/srv/a/link 777 0 0 1 symbolic link 4\n");
	ASSERT_CONTAINS(look.out, "/srv/a/other 4711 0 0 2 regular file 4\n");
	ASSERT_CONTAINS(look.out, "/srv/null 644 0 0 1 character special file 0\n");
	ASSERT_CONTAINS(look.out, "/srv/pipe 644 7 8 1 fifo 0\n");
	ASSERT_CONTAINS(look.out, "/srv/sparse 644 0 0 1 regular file 200000001\n");
	ASSERT(!strstr(look.out, "own"));
	ASSERT_CONTAINS(look.err, "/etc/profile");
	ASSERT_CONTAINS(look.out, "value\n");
	says(cli("image", "history", "made:1", NULL), "the first");
	says(cli("image", "inspect", "made:1", NULL), "\"author\": \"me\"");
	ok(cli("delete", "--force", "dev", NULL));
}

TEST(a_stopped_one_too_and_layers_are_shared)
{
	_cleanup_cli_ struct cli a = {}, b = {}, again = {};

	cli_home(true);
	prepare();
	ok(cli("stop", "dev", NULL));
	a = cli("commit", "dev", "made:1", NULL);
	ASSERT_STATUS(a, 0);
	/* The same content is the same layer; a later one is another. */
	b = cli("commit", "dev", "made:2", NULL);
	ASSERT_STATUS(b, 0);
	{
		char one[80], two[80];

		last_layer("made:1", one, sizeof(one));
		last_layer("made:2", two, sizeof(two));
		ASSERT_STREQ(one, two);
	}
	/* On top of what was committed: its layers stay below, and the new one has nothing of theirs. */
	ok(cli("run", "-d", "--name", "next", "made:1", CLI_SHELL,
	       "rm -r /srv/a; mkdir /srv/a; echo 2 > /srv/a/two; sync; "
	       "sleep 1000",
	       NULL));
	ok(cli("exec", "next", CLI_SHELL, "until test -e /srv/a/two; do :; done", NULL));
	again = cli("commit", "next", "made:3", NULL);
	ASSERT_STATUS(again, 0);
	{
		_cleanup_cli_ struct cli names = layer_names("made:3");

		ASSERT_STREQ(names.out, "./\nsrv/\nsrv/a/\nsrv/a/.wh..wh..opq\nsrv/a/two\n");
	}
	says(cli("run", "--rm", "made:3", CLI_SHELL, "cd /srv/a; echo *", NULL), "two\n");
	ok(cli("delete", "--force", "dev", "next", NULL));
}

/* Mode, owner, link count, type, size and time of every file, in the machine and as umoci unpacks what was saved. */
TEST(other_tools_see_the_same_tree)
{
	_cleanup_cli_ struct cli guest = {}, host = {};
	char script[4 * PATH_BYTES];

	cli_home(true);
	ok(shell("command -v umoci >/dev/null || exit 1"));
	prepare();
	ok(cli("commit", "dev", "made:1", NULL));
	guest = cli("exec", "dev", CLI_SHELL,
		    "cd / && find . -xdev ! -path . ! -path './proc*' ! -path './sys*' ! -path './dev*' ! -path "
		    "'./run*' ! -path "
		    "'./tmp*' "
		    "! -path './lost+found' ! -path './etc/host*' ! -path './etc/machine-id' ! -path "
		    "'./etc/resolv.conf' | sort | "
		    "xargs stat -c '%n %a %u %g %h %F %Y'",
		    NULL);
	ASSERT_STATUS(guest, 0);
	snprintf(script, sizeof(script),
		 "cd %s && %s image save made:1 oci:o:made && umoci unpack --image o:made b >&2 && cd b/rootfs && "
		 "export LC_ALL=C && "
		 "find . ! -path . ! -path './proc*' ! -path './sys*' ! -path './dev*' ! -path './run*' ! -path "
		 "'./tmp*' ! -path "
		 "'./etc/host*' "
		 "! -path './etc/machine-id' ! -path './etc/resolv.conf' | sort | xargs stat -c '%%n %%a %%u %%g %%h "
		 "%%F %%Y'",
		 test_tmpdir(), cli_skerry());
	host = shell(script);
	ASSERT_STATUS(host, 0);
	/* The times of directories above what is mounted or written at each start are the machine's own. */
	for (char *a = guest.out, *b = host.out; *a || *b;) {
		size_t n = strcspn(a, "\n"), k = strcspn(b, "\n");
		bool directory = memmem(a, n, " directory ", 11) != NULL;
		const char *time_a = memrchr(a, ' ', n), *time_b = memrchr(b, ' ', k);
		size_t cmp_a = directory && time_a ? (size_t)(time_a - a) : n;
		size_t cmp_b = directory && time_b ? (size_t)(time_b - b) : k;

		if (cmp_a != cmp_b || memcmp(a, b, cmp_a) != 0)
			test_fail(__FILE__, __LINE__, "in the machine '%.*s', unpacked '%.*s'", (int)n, a, (int)k, b);
		a += n + (a[n] != '\0');
		b += k + (b[k] != '\0');
	}
	ok(cli("delete", "--force", "dev", NULL));
}

TEST(pushing_a_commit_sends_its_layer_and_nothing_of_what_is_below)
{
	static struct registry_server server;
	static const char path[] = "\"PUT /v2/me/app/blobs/uploads/";
	char base[PATH_BYTES], made[PATH_BYTES];

	cli_home(true);
	registry_server_start(&server, false);
	setenv("SKERRY_PLAIN_HTTP", server.host, 1);
	snprintf(base, sizeof(base), "%s/me/app:base", server.host);
	snprintf(made, sizeof(made), "%s/me/app:1", server.host);
	prepare();
	ok(cli("commit", "dev", "made:1", NULL));
	/* What was built here has no layers of its own; its tree is one. And a configuration. */
	ok(cli("image", "push", "tiny", base, NULL));
	ASSERT_EQ(registry_server_await(&server, path, " 201 ", 2), 2);
	ok(cli("image", "push", "made:1", made, NULL));
	ASSERT_EQ(registry_server_await(&server, path, " 201 ", 4), 4);
	ok(cli("delete", "--force", "dev", NULL));
}

TEST(what_a_commit_stands_on_is_taken_over_from_where_it_was_pulled)
{
	static struct registry_server server;
	char base[PATH_BYTES], made[PATH_BYTES];

	cli_home(true);
	registry_server_start(&server, false);
	setenv("SKERRY_PLAIN_HTTP", server.host, 1);
	snprintf(base, sizeof(base), "%s/me/app:base", server.host);
	snprintf(made, sizeof(made), "%s/you/made:", server.host);
	ok(cli("image", "push", "tiny", base, NULL));
	ok(cli("image", "pull", base, NULL));
	for (char tag = '1'; tag <= '2'; tag++) {
		const char *image = tag == '1' ? base : made;

		ok(cli("run", "-d", "--name", "dev", image, NULL));
		ok(cli("exec", "dev", CLI_SHELL, tag == '1' ? "echo 1 > /srv/x" : "echo 2 > /srv/y", NULL));
		snprintf(made, sizeof(made), "%s/you/made%c:1", server.host, tag);
		ok(cli("commit", "dev", made, NULL));
		ok(cli("delete", "--force", "dev", NULL));
	}
	snprintf(made, sizeof(made), "%s/you/made1:1", server.host);
	ok(cli("image", "push", made, NULL));
	ASSERT_EQ(registry_server_await(&server, "\"PUT /v2/you/made1/blobs/uploads/", " 201 ", 2), 2);
	/* A commit of a commit has the same base; the layer between them the registry has elsewhere. */
	snprintf(made, sizeof(made), "%s/you/made2:1", server.host);
	ok(cli("image", "push", made, NULL));
	ASSERT_EQ(registry_server_await(&server, "\"PUT /v2/you/made2/blobs/uploads/", " 201 ", 3), 3);
}

TEST(a_layer_is_packed_as_asked_and_its_ports_are_published)
{
	cli_home(true);
	prepare();
	ok(cli("stop", "dev", NULL));
	ok(cli("commit", "dev", "made:1", "--compression", "zstd", "--change", "EXPOSE 80/tcp 53/udp", NULL));
	says(cli("image", "inspect", "made:1", NULL), "tar+zstd");
	ok(cli("create", "all", "--image", "made:1", "-P", NULL));
	says(cli("inspect", "all", NULL), "\"0:80\"");
	says(cli("inspect", "all", NULL), "\"0:53/udp\"");
	says(cli("system", "df", "--verbose", NULL), "made:1");
	says(cli("system", "df", "--verbose", NULL), "all");
	ok(cli("delete", "-y", "dev", "all", NULL));
}

TEST(what_cannot_be_committed_says_why)
{
	cli_home(true);
	fails(cli("commit", "nobody", NULL), 1, "no machine named 'nobody'");
	prepare();
	fails(cli("commit", "dev", "Bad Name", NULL), 64, "skerry: image 'Bad Name': the");
	fails(cli("commit", "dev", "sha256:1234", NULL), 64, "a digest cannot be given as a name");
	fails(cli("commit", "dev", "made:1", "--change", "FROM scratch", NULL), 64, "FROM scratch");
	fails(cli("commit", "dev", "made:1", "--pause", "false", NULL), 64, "stand still");
	ok(cli("pause", "dev", NULL));
	fails(cli("commit", "dev", "made:1", NULL), 75, "is paused");
	ok(cli("resume", "dev", NULL));
	ok(cli("exec", "dev", "touch", "/srv/.wh.it", NULL));
	fails(cli("commit", "dev", "made:1", NULL), 65, "srv/.wh.it");
	/* And goes on after each of them. */
	ok(cli("exec", "dev", CLI_SHELL, "rm /srv/.wh.it; sync", NULL));
	ok(cli("kill", "dev", NULL));
	fails(cli("commit", "dev", "made:1", NULL), 75, "not unmounted cleanly");
	ok(cli("start", "dev", NULL));
	ok(cli("stop", "dev", NULL));
	ok(cli("commit", "dev", "made:1", NULL));
	ok(cli("delete", "-y", "dev", NULL));
}

/* Killed with -9 at any moment: the machine goes on, and the next prune leaves nothing of it. */
TEST(a_killed_commit_leaves_the_machine_running)
{
	cli_home(true);
	prepare();
	ok(cli("commit", "dev", "warm:1", NULL));
	for (int i = 0; i < 12; i++) {
		const char *argv[] = { cli_skerry(), "commit", "dev", "made:1", NULL };
		int pid = cli_spawn(argv);

		(void)poll(NULL, 0, 20 + i * 40); /* lint: any moment will do */
		(void)kill(pid, SIGKILL);
		(void)cli_wait(pid, 120);
		says(cli("exec", "dev", CLI_SHELL, "echo x > /srv/x; sync; echo alive", NULL), "alive\n");
	}
	says(cli("status", "dev", NULL), "running");
	/* The last one that was killed may take a moment to let go of what it held. */
	for (int tries = 0;; tries++) {
		_cleanup_cli_ struct cli pruned = cli("image", "prune", "--yes", NULL), left = {};

		ASSERT_STATUS(pruned, 0);
		left = shell("find $SKERRY_HOME/images -name '.tmp-*'");
		if (!*left.out)
			break;
		if (tries == 1200)
			test_fail(__FILE__, __LINE__, "left: %s", left.out);
		(void)poll(NULL, 0, 100); /* lint: it is nobody's child any more */
	}
	ok(cli("commit", "dev", "made:1", NULL));
	ok(cli("delete", "--force", "dev", NULL));
}

/* A machine made from a whole disk gives another whole disk; saved, it is one layer with the disk's file in it. Nothing boots here: what the guest
 * would have written is written by qemu-io. */
TEST(a_whole_disk_becomes_another_one)
{
	char script[4 * PATH_BYTES];
	_cleanup_cli_ struct cli made = {}, commit = {};

	cli_home(true);
	snprintf(script, sizeof(script),
		 "set -e; cd %s; truncate -s 64M d.raw; printf 'label: dos\\n2048,65536,83\\n' | sfdisk -q d.raw; "
		 "dd if=/dev/urandom of=d.raw bs=1M seek=10 count=8 conv=notrunc status=none; %s image import "
		 "disk:d.raw "
		 "--name whole; %s create vm --image whole; qemu-io -f qcow2 -c 'write -P 7 20M 1M' -c 'write -z 12M "
		 "1M' "
		 "$SKERRY_HOME/machines/vm/system.qcow2",
		 test_tmpdir(), cli_skerry(), cli_skerry());
	made = shell(script);
	ASSERT_STATUS(made, 0);
	commit = cli("commit", "vm", "whole:2", NULL);
	ASSERT_STATUS(commit, 0);
	snprintf(script, sizeof(script),
		 "set -e; cd %s; %s image export-disk whole:2 a.raw --format raw; qemu-img convert -O raw "
		 "$SKERRY_HOME/machines/vm/system.qcow2 b.raw; cmp a.raw b.raw; %s image save whole:2 oci:o; "
		 "zcat $(ls -S o/blobs/sha256/* | head -1) | tar -tf -",
		 test_tmpdir(), cli_skerry(), cli_skerry());
	says(shell(script), "disk/disk.qcow2\n");
	fails(cli("commit", "vm", "whole:3", "--change", "USER x", NULL), 64, "whole disk");
	ok(cli("delete", "-y", "vm", NULL));
}

/* As an installation leaves them: the second disk and the firmware's variables go where the disk goes. */
TEST(what_is_beside_a_whole_disk_is_saved_with_it)
{
	char script[6 * PATH_BYTES];
	_cleanup_cli_ struct cli made = {}, back = {};

	cli_home(true);
	snprintf(script, sizeof(script),
		 "set -e; cd %s; truncate -s 64M d.raw; printf 'label: dos\\n2048,65536,83\\n' | sfdisk -q d.raw; "
		 "qemu-img create -q -f qcow2 h.qcow2 32M; qemu-io -f qcow2 -c 'write -P 9 3M 1M' h.qcow2 >/dev/null; "
		 "head -c 540672 /dev/urandom >nv; "
		 "$(dirname %s)/skerry-image seal-image d.raw --name sealed --source 'installer x' --home h.qcow2 "
		 "--nvram nv; "
		 "%s image save sealed oci:o; "
		 "zcat $(ls -S o/blobs/sha256/* | head -1) | tar -tf -; %s image delete sealed; %s image prune --yes",
		 test_tmpdir(), cli_skerry(), cli_skerry(), cli_skerry(), cli_skerry());
	made = shell(script);
	ASSERT_STATUS(made, 0);
	ASSERT_CONTAINS(made.out, "disk/disk.qcow2\ndisk/home.qcow2\ndisk/nvram\n");
	snprintf(
		script, sizeof(script),
		"set -e; cd %s; disks=$SKERRY_HOME/images/disks; %s image import oci:o --name back; "
		"d=$(dirname $(ls $disks/*/nvram)); cmp nv $d/nvram; qemu-img compare h.qcow2 $d/home.qcow2; "
		"qemu-img compare d.raw $d/disk.qcow2; echo modes $(stat -c %%a $d/disk.qcow2 $d/home.qcow2 $d/nvram); "
		"%s create vm --image back; qemu-img info $SKERRY_HOME/machines/vm/home.qcow2 | grep backing; "
		"%s delete -y vm",
		test_tmpdir(), cli_skerry(), cli_skerry(), cli_skerry());
	back = shell(script);
	ASSERT_STATUS(back, 0);
	ASSERT_CONTAINS(back.out, "\nmodes 444 444 444\n");
	ASSERT_CONTAINS(back.out, "/home.qcow2");
	ok(cli("image", "delete", "back", NULL));
}

TEST(a_disk_goes_out_as_a_file)
{
	char file[PATH_BYTES], script[2 * PATH_BYTES];

	cli_home(true);
	snprintf(file, sizeof(file), "%s/out.raw", test_tmpdir());
	ok(cli("image", "export-disk", "tiny", file, "--format", "raw", NULL));
	fails(cli("image", "export-disk", "tiny", file, NULL), 73, "is there already");
	ok(cli("image", "export-disk", "tiny", file, "--force", NULL));
	snprintf(script, sizeof(script), "qemu-img info %s", file);
	says(shell(script), "file format: qcow2");
	fails(cli("image", "export-disk", "nosuch", file, "--force", NULL), 1, "no image named");
}

TEST(images_are_named_deleted_and_pruned)
{
	_cleanup_cli_ struct cli df = {};

	cli_home(true);
	prepare();
	ok(cli("stop", "dev", NULL));
	ok(cli("commit", "dev", "made:1", NULL));
	ok(cli("image", "tag", "made:1", "localhost:5000/me/made:2", NULL));
	says(cli("image", "list", NULL), "localhost:5000/me/made:2");
	ok(cli("create", "user", "--image", "made:1", NULL));
	ok(cli("image", "delete", "made:1", NULL));
	/* Now its last name is wanted by a machine. */
	fails(cli("image", "delete", "localhost:5000/me/made:2", NULL), 75, "machine 'user'");
	ok(cli("image", "prune", "--all", "--yes", NULL));
	says(cli("image", "list", NULL), "localhost:5000/me/made:2");
	says(cli("run", "--rm", "localhost:5000/me/made:2", "cat", "/srv/a/file", NULL), "one\n");
	ok(cli("delete", "-y", "user", NULL));
	/* Young ones stay when it is said so. */
	ok(cli("image", "prune", "--all", "--yes", "--filter", "until=24h", NULL));
	says(cli("image", "list", NULL), "made");
	fails(cli("image", "prune", "--yes", "--filter", "label=x", NULL), 64, "label=x");
	ok(cli("image", "prune", "--all", "--yes", NULL));
	{
		_cleanup_cli_ struct cli list = cli("image", "list", NULL);

		ASSERT(!strstr(list.out, "made"));
		ASSERT_CONTAINS(list.out, "tiny"); /* machine dev's */
	}
	df = cli("system", "df", NULL);
	ASSERT_STATUS(df, 0);
	ASSERT_CONTAINS(df.out, "images");
	ASSERT_CONTAINS(df.out, "kernels");
	ok(cli("system", "prune", "--yes", NULL));
	ok(cli("start", "dev", NULL));
	ok(cli("delete", "--force", "dev", NULL));
}

/* Everything at once: nothing that is needed goes, nothing ends in more than "busy". */
TEST(pruning_beside_commits_creations_and_runs)
{
	enum { ROUNDS = 6 };

	cli_home(true);
	prepare();
	for (int i = 0; i < ROUNDS; i++) {
		const char *prune[] = { cli_skerry(), "image", "prune", "--all", "--yes", NULL };
		const char *commit[] = { cli_skerry(), "commit", "dev", "made:1", NULL };
		const char *create[] = { cli_skerry(), "create", "other", "--image", "tiny", NULL };
		const char *system_prune[] = { cli_skerry(), "system", "prune", "--yes", NULL };
		int pids[] = { cli_spawn(prune), cli_spawn(commit), cli_spawn(create), cli_spawn(system_prune),
			       cli_spawn(prune) };

		for (size_t k = 0; k < sizeof(pids) / sizeof(pids[0]); k++)
			ASSERT_EQ(cli_wait(pids[k], 120), 0);
		ok(cli("start", "other", NULL));
		ok(cli("exec", "other", "true", NULL));
		ok(cli("delete", "--force", "other", NULL));
		says(cli("exec", "dev", "cat", "/srv/a/file", NULL), "one\n");
	}
	ok(cli("commit", "dev", "made:1", NULL));
	says(cli("run", "--rm", "made:1", "cat", "/srv/a/file", NULL), "one\n");
	ok(cli("delete", "--force", "dev", NULL));
}
