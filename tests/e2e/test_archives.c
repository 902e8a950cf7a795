/* Images from files and into files, as other tools write and read them. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "cli.h"
#include "json/json.h"
#include "terminal.h"

enum { COMMAND_S = 120 };

static char *at(const char *name)
{
	return xasprintf("%s/%s", test_tmpdir(), name);
}

/* Runs a script in the test's own directory; fails the test unless it succeeds. */
static void sh(const char *script)
{
	_cleanup_free_ char *text = xasprintf("cd '%s' && %s", test_tmpdir(), script);
	const char *argv[] = { CLI_SHELL, text, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, COMMAND_S);

	ASSERT_STATUS(r, 0);
}

static void need(const char *program)
{
	_cleanup_free_ char *text = xasprintf("command -v %s", program);
	const char *argv[] = { CLI_SHELL, text, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, COMMAND_S);

	if (r.status != 0)
		test_skip("%s is not installed", program);
}

/* root.tar: a root file system with one program. */
static void make_root(void)
{
	sh("mkdir -p root/bin root/etc && cp /bin/busybox root/bin/busybox && ln -s busybox root/bin/sh && ln -s "
	   "busybox root/bin/cat && "
	   "echo hello >root/etc/motd && tar -C root --sort=name --mtime=@1 -cf root.tar .");
}

static void import(const char *source, const char *name)
{
	_cleanup_free_ char *full = strchr(source, ':') ? xstrdup(source) : at(source);
	_cleanup_cli_ struct cli r = cli("image", "import", full, "--name", name, NULL);

	ASSERT_STATUS(r, 0);
}

/* The layers' digests as the image's configuration tells them, which no way of packing changes. */
static char *disk_of(const char *name)
{
	_cleanup_cli_ struct cli r = cli("image", "inspect", name, NULL);
	_cleanup_json_ struct json *j = NULL;

	ASSERT_STATUS(r, 0);
	ASSERT_OK(json_parse(r.out, strlen(r.out), "inspect", &j, NULL));
	return xstrdup(json_string(json_get(j, "disk_digest")));
}

TEST(a_root_file_system_is_imported_and_run)
{
	_cleanup_cli_ struct cli r = {};

	cli_home(true);
	make_root();
	import("root.tar", "app:1");
	r = cli("run", "--rm", "app:1", "/bin/cat", "/etc/motd", NULL);
	ASSERT_STATUS(r, 0);
	ASSERT_STREQ(r.out, "hello\n");
}

TEST(every_packing_of_a_tar_gives_the_same_disk)
{
	static const char *const files[] = { "root.tar.gz", "root.tar.zst", "root.tar.xz", "root.tar.bz2" };
	_cleanup_free_ char *plain = NULL;

	need("zstd");
	cli_home(false);
	make_root();
	sh("gzip -k root.tar && zstd -q root.tar && xz -k root.tar && bzip2 -k root.tar");
	import("root.tar", "plain");
	plain = disk_of("plain");
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *disk = NULL;

		import(files[i], "packed");
		disk = disk_of("packed");
		ASSERT_STREQ(disk, plain);
	}
}

TEST(standard_input_is_an_archive_too)
{
	_cleanup_free_ char *text = NULL;
	_cleanup_cli_ struct cli r = {};

	cli_home(false);
	make_root();
	text = xasprintf("gzip -c '%s/root.tar' | '%s' image import - --name piped", test_tmpdir(), cli_skerry());
	r = cli_argv((const char *const[]){ CLI_SHELL, text, NULL }, NULL, COMMAND_S);
	ASSERT_STATUS(r, 0);
	ASSERT_CONTAINS(r.out, "piped:latest sha256:");
}

/* d.tar as docker save writes it; c.tar as crane does, the configuration first and called "sha256:HEX". */
static void make_archives(void)
{
	_cleanup_free_ char *dest = at("d.tar");
	_cleanup_cli_ struct cli r = cli("image", "save", "app:1", "-o", dest, NULL);

	ASSERT_STATUS(r, 0);
	sh("mkdir c && tar -C c -xf d.tar && cd c && config=$(grep -o '[0-9a-f/]*[.]json' manifest.json | head -n 1) "
	   "&& "
	   "id=sha256:$(sha256sum <$config | cut -d ' ' -f 1) && mv $config $id && "
	   "sed -i s,$config,$id, manifest.json && rm -f index.json oci-layout repositories && "
	   "tar -cf ../c.tar $id $(ls -A | grep -v sha256:) && tar -tf ../c.tar | head -n 1 | grep sha256:");
}

TEST(images_are_told_from_root_file_systems_wherever_they_come_from)
{
	static const char *const ways[] = { "i ./$f", "i - <$f", "cat $f | i -", "gzip -c $f | i -" };
	static const char *const files[] = { "d.tar", "c.tar" };
	_cleanup_free_ char *disk = NULL;

	cli_home(false);
	make_root();
	import("root.tar", "app:1");
	disk = disk_of("app:1");
	make_archives();
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		for (size_t k = 0; k < ARRAY_SIZE(files); k++) {
			_cleanup_free_ char *again = NULL, *text = NULL;

			text = xasprintf("i() { '%s' image import --name again \"$@\"; } && f=%s && %s", cli_skerry(),
					 files[k], ways[i]);
			sh(text);
			again = disk_of("again");
			ASSERT_STREQ(again, disk);
		}
}

TEST(what_is_saved_comes_back_the_same)
{
	static const char *const to[][2] = { { "docker-archive", "d.tar" },
					     { "oci-archive", "o.tar" },
					     { "oci", "layout" } };
	_cleanup_free_ char *disk = NULL;

	cli_home(false);
	make_root();
	import("root.tar", "app:1");
	disk = disk_of("app:1");
	for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
		_cleanup_free_ char *dest = xasprintf("%s:%s/%s", to[i][0], test_tmpdir(), to[i][1]), *again = NULL;
		_cleanup_cli_ struct cli r = cli("image", "save", "app:1", "-o", dest, NULL);

		ASSERT_STATUS(r, 0);
		import(dest, "again");
		again = disk_of("again");
		ASSERT_STREQ(again, disk);
	}
}

/* The bar is drawn as it begins, and its last line tells how much was written. */
static void shows_a_bar(const char *const *argv)
{
	struct terminal t;

	terminal_begin(&t, argv);
	terminal_expect(&t, "writing  [", COMMAND_S);
	terminal_expect(&t, "writing: done, ", COMMAND_S);
	terminal_end(&t, 0);
}

TEST(who_sits_at_a_terminal_sees_how_far_it_is_and_nobody_else)
{
	static const char *const to[] = { "docker-archive", "oci-archive", "oci" };
	_cleanup_free_ char *disk = at("a.qcow2"), *piped = NULL;
	_cleanup_cli_ struct cli export = {};
	struct terminal t;

	cli_home(false);
	make_root();
	import("root.tar", "app:1");
	for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
		_cleanup_free_ char *shown = xasprintf("%s:%s/shown-%s", to[i], test_tmpdir(), to[i]),
				    *silent = xasprintf("%s:%s/silent-%s", to[i], test_tmpdir(), to[i]);
		_cleanup_cli_ struct cli r = cli("image", "save", "app:1", "-o", silent, NULL);

		ASSERT_STATUS(r, 0);
		ASSERT_STREQ(r.err, "");
		shows_a_bar((const char *[]){ cli_skerry(), "image", "save", "app:1", "-o", shown, NULL });
	}
	sh("cmp shown-docker-archive silent-docker-archive && cmp shown-oci-archive silent-oci-archive && "
	   "diff -r shown-oci silent-oci");
	shows_a_bar((const char *[]){ cli_skerry(), "image", "export-disk", "app:1", disk, NULL });
	export = cli("image", "export-disk", "--force", "app:1", disk, NULL);
	ASSERT_STATUS(export, 0);
	ASSERT_STREQ(export.err, "");
	/* What reads the pipe may draw on the same terminal. */
	piped = xasprintf("'%s' image save app:1 | cat >'%s/piped'; echo end", cli_skerry(), test_tmpdir());
	terminal_begin(&t, (const char *[]){ "/bin/sh", "-c", piped, NULL }); /* lint: as a user would */
	ASSERT_EQ(cli_wait(t.pid, COMMAND_S), 0);
	while (!strchr(t.text, '\n')) {
		ssize_t n = read(t.master, t.text + t.n, sizeof(t.text) - t.n - 1);

		ASSERT(n > 0);
		t.n += (size_t)n;
	}
	ASSERT_STREQ(t.text, "end\r\n");
	close(t.master);
	close(t.slave);
	/* But for the zeros that fill its last block. */
	sh("cmp -n $(stat -c %s silent-docker-archive) piped silent-docker-archive");
}

TEST(other_tools_read_what_is_saved_and_the_store_itself)
{
	_cleanup_free_ char *archive = NULL, *oci = NULL, *script = NULL;
	const char *home = cli_home(false);

	need("skopeo");
	need("umoci");
	make_root();
	import("root.tar", "app:1");
	archive = xasprintf("docker-archive:%s/d.tar", test_tmpdir());
	oci = xasprintf("oci-archive:%s/o.tar", test_tmpdir());
	for (size_t i = 0; i < 2; i++) {
		_cleanup_cli_ struct cli r = cli("image", "save", "app:1", i ? oci : archive, NULL);

		ASSERT_STATUS(r, 0);
	}
	sh("skopeo copy -q docker-archive:d.tar oci:from-docker:app && skopeo copy -q oci-archive:o.tar "
	   "oci:from-oci:app");
	script = xasprintf("skopeo copy -q 'oci:%s/images:app:1' oci:from-store:app", home);
	sh(script);
	sh("for l in from-docker from-oci from-store; do umoci unpack --rootless --image $l:app $l-tree && "
	   "diff -r root $l-tree/rootfs || exit 1; done");
}

TEST(what_other_tools_write_is_read)
{
	_cleanup_free_ char *plain = NULL;

	need("skopeo");
	need("umoci");
	cli_home(false);
	make_root();
	import("root.tar", "plain");
	plain = disk_of("plain");
	sh("umoci init --layout l && umoci new --image l:app && umoci raw add-layer --image l:app root.tar && "
	   "umoci config --image l:app --config.entrypoint /bin/cat --config.cmd /etc/motd --config.env A=1 && "
	   "skopeo copy -q oci:l:app docker-archive:d.tar:app:1 && skopeo copy -q oci:l:app oci-archive:o.tar:app && "
	   "gzip -k d.tar");
	for (size_t i = 0; i < 4; i++) {
		static const char *const files[] = { "d.tar", "d.tar.gz", "o.tar", "l" };
		_cleanup_free_ char *disk = NULL;
		_cleanup_cli_ struct cli r = {};

		import(files[i], "read");
		disk = disk_of("read");
		ASSERT_STREQ(disk, plain);
		r = cli("image", "inspect", "read", NULL);
		ASSERT_CONTAINS(r.out, "/etc/motd");
		ASSERT_CONTAINS(r.out, "A=1");
	}
}

TEST(an_imported_image_runs_as_its_configuration_says)
{
	static const struct {
		const char *args[6], *out;
	} runs[] = {
		{ { "read" }, "hello\n" },
		{ { "read", "/proc/sys/kernel/ostype" }, "Linux\n" },
		{ { "--entrypoint", "/bin/sh", "read", "-c", "echo $A; pwd; id -u" }, "1\n/srv/x\n65534\n" },
		{ { "--entrypoint", "", "read", "/bin/busybox", "echo", "x" }, "x\n" },
	};

	need("umoci");
	cli_home(true);
	make_root();
	sh("umoci init --layout l && umoci new --image l:app && umoci raw add-layer --image l:app root.tar && "
	   "umoci config --image l:app --config.entrypoint /bin/cat --config.cmd /etc/motd --config.env A=1 "
	   "--config.workingdir /srv/x --config.user 65534 --config.volume /data --config.stopsignal SIGQUIT");
	import("l", "read");
	for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
		const char *argv[12] = { cli_skerry(), "run", "--rm" };
		_cleanup_cli_ struct cli r = {};

		for (size_t k = 0; k < 6; k++)
			argv[3 + k] = runs[i].args[k];
		r = cli_argv(argv, NULL, COMMAND_S);
		ASSERT_STATUS(r, 0);
		ASSERT_STREQ(r.out, runs[i].out);
	}
}

TEST(bad_archives_end_with_one_line_and_leave_nothing)
{
	static const struct {
		const char *source;
		int status;
	} bad[] = { { "nosuch.tar", 1 }, { "text", 65 }, { "cut.tar.gz", 65 }, { "empty", 65 }, { "dir", 65 } };
	int before;

	cli_home(false);
	before = cli_entries("images/disks", NULL, 0);
	make_root();
	sh("echo text >text && gzip -c root.tar | head -c 5000 >cut.tar.gz && : >empty && mkdir dir");
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_free_ char *path = at(bad[i].source);
		_cleanup_cli_ struct cli r = cli("image", "import", path, "--name", "bad", NULL);

		ASSERT_STATUS(r, bad[i].status);
		ASSERT(after_prefix(r.err, "skerry: ") && strchr(r.err, '\n') == r.err + strlen(r.err) - 1);
	}
	ASSERT(cli_entries("images/partial", NULL, 0) <= 0);
	ASSERT_EQ(cli_entries("images/disks", NULL, 0), before);
}

/* Killed in the midst of it, and a moment later each time: the user's directory is as it was. */
TEST(what_is_killed_leaves_no_file_behind)
{
	_cleanup_free_ char *archive = at("out/a.tar"), *disk = at("out/a.qcow2");
	const char *save[] = { cli_skerry(), "image", "save", "big:1", "-o", archive, NULL };
	const char *export[] = { cli_skerry(), "image", "export-disk", "big:1", disk, NULL };
	char names[1000];

	(void)cli_home(false);
	sh("mkdir -p out root && head -c 60M /dev/urandom >root/noise && tar -C root -cf big.tar .");
	import("big.tar", "big:1");
	for (int ms = 20; ms < 100; ms += 20)
		for (int i = 0; i < 2; i++) {
			int pid = cli_spawn(i ? export : save);

			(void)usleep((useconds_t)ms * 1000); /* lint: any moment will do */
			cli_processes(names, sizeof(names));
			for (char *p = names; *p; p = strchr(p, '\n') + 1)
				kill((pid_t)strtol(p, NULL, 10), SIGKILL); /* lint: a digit string of ours */
			(void)kill(pid, SIGKILL);
			(void)cli_wait(pid, COMMAND_S);
			ASSERT(cli_processes_gone(120));
			/* Whole, when it was faster than that. */
			sh("ls -A out | grep -v '^a[.]tar$' | grep -v '^a[.]qcow2$' >left || true; test ! -s left; rm "
			   "-f out/*");
		}
}

TEST(nothing_but_a_file_is_replaced)
{
	_cleanup_cli_ struct cli device = {}, directory = {}, there = {}, nowhere = {}, layout = {};

	(void)cli_home(false);
	make_root();
	import("root.tar", "app:1");
	device = cli("image", "save", "app:1", "-o", "/dev/full", NULL);
	ASSERT_STATUS(device, 73);
	ASSERT_CONTAINS(device.err, "hint: it writes files, or - for standard output");
	directory = cli("image", "save", "app:1", "-o", test_tmpdir(), NULL);
	ASSERT_STATUS(directory, 73);
	ASSERT_CONTAINS(directory.err, "Is a directory");
	nowhere = cli("image", "save", "app:1", "-o", "nowhere/at/all.tar", NULL);
	ASSERT_STATUS(nowhere, 73);
	ASSERT_STREQ(nowhere.err, "skerry: cannot create 'nowhere/at/all.tar': No such file or directory\n");
	layout = cli("image", "save", "app:1", "oci:/dev/full/layout", NULL);
	ASSERT_STATUS(layout, 73);
	there = cli("image", "export-disk", "--force", "app:1", "/dev/full", NULL);
	ASSERT_STATUS(there, 73);
	sh("test -c /dev/full");
}
