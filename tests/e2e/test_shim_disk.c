/* Root file systems that a snapshotter gives as block devices or as files that hold one: asked of a shim directly, as containerd does for its devmapper,
 * blockfile and EROFS snapshotters. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "containerd.h"
#include "containerd.pb-c.h"
#include "shim_peer.h"
#include "wire/message.h"

#define SHIM "containerd-shim-skerry-v1 -namespace default -address $PWD/c.sock -publish-binary containerd "

enum { MOUNTS_MAX = 128 };

static char container_id[] = "k1", none[] = "";

static char *output(const char *script)
{
	_cleanup_free_ char *text = xasprintf("cd '%s' && %s", test_tmpdir(), script);
	const char *argv[] = { CLI_SHELL, text, NULL };
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, 120);

	ASSERT_STATUS(r, 0);
	r.out[strcspn(r.out, "\n")] = '\0';
	return xstrdup(r.out);
}

/* A bundle as containerd makes one. @more: of the configuration, with a comma in front. */
static void make_bundle(const char *command, const char *more)
{
	_cleanup_free_ char *script = xasprintf(
		"mkdir -p k1/rootfs && printf '%%s' "
		"'{\"ociVersion\":\"1.0.2\",\"process\":{\"args\":[\"/bin/sh\",\"-c\",\"%s\"],\"cwd\":\"/\",\"env\":["
		"\"PATH=/bin\"],\"user\":{\"uid\":0,\"gid\":0}},\"root\":{\"path\":\"rootfs\"},"
		"\"mounts\":[{\"destination\":\"/proc\",\"type\":\"proc\",\"source\":\"proc\"},{\"destination\":\"/"
		"sys\",\"type\":\"sysfs\",\"source\":\"sysfs\"},{\"destination\":\"/dev\",\"type\":\"tmpfs\","
		"\"source\":\"tmpfs\"}],\"linux\":{\"namespaces\":[{\"type\":\"pid\"},{\"type\":\"mount\"},{\"type\":"
		"\"ipc\"},{\"type\":\"uts\"},{\"type\":\"network\"}]}%s}' >k1/config.json",
		command, more);

	ctd_sh(script);
}

static void start_shim(struct shim_peer *p)
{
	_cleanup_free_ char *script = xasprintf("cd '%s' && shim=\"" SHIM "\" && TTRPC_ADDRESS=$PWD/c.sock.ttrpc && "
						"export TTRPC_ADDRESS && cd k1 && eval \"$shim\" -id k1 start",
						test_tmpdir());
	const char *argv[] = { CLI_SHELL, script, NULL }, *path;
	_cleanup_cli_ struct cli r = cli_argv(argv, NULL, 120);

	ASSERT_STATUS(r, 0);
	path = after_prefix(r.out, "unix://");
	ASSERT(path);
	shim_peer_open(p, path);
}

static uint32_t ask_task(struct shim_peer *p, const char *method)
{
	Containerd__TaskRequest q = CONTAINERD__TASK_REQUEST__INIT;

	q.id = container_id;
	q.exec_id = none;
	return shim_ask(p, TASK_SERVICE, method, &q.base);
}

static void expect_ok(struct shim_peer *p, uint32_t stream, const char *what)
{
	_cleanup_answer_ struct shim_answer a = shim_answer(p, stream, NULL);

	if (a.code)
		test_fail(__FILE__, __LINE__, "%s: %d: %s", what, a.code, a.text);
}

/* Mounts as containerd sends them. */
struct rootfs {
	Containerd__Mount mounts[MOUNTS_MAX], *pointers[MOUNTS_MAX];
	struct strv options[MOUNTS_MAX];
	size_t n;
};

/* @options: with spaces between, none in "{{mount 0}}" but that one. */
static void add_mount(struct rootfs *r, const char *type, const char *source, const char *options)
{
	Containerd__Mount *m = &r->mounts[r->n];
	struct strv *o = &r->options[r->n];

	ASSERT(r->n < MOUNTS_MAX);
	r->pointers[r->n++] = m;
	containerd__mount__init(m);
	m->type = xstrdup(type);
	m->source = xstrdup(source);
	for (const char *p = options; *p;) {
		const char *name = strstr(p, "{{"), *end = strchr(p, ' ');

		if (end && name && name < end)
			end = strchr(strstr(name, "}}"), ' ');
		strv_take(o, end ? xstrndup(p, (size_t)(end - p)) : xstrdup(p));
		p = end ? end + 1 : "";
	}
	m->options = o->items;
	m->n_options = o->n;
}

static void rootfs_done(struct rootfs *r)
{
	for (size_t i = 0; i < r->n; i++) {
		free(r->mounts[i].type);
		free(r->mounts[i].source);
		strv_done(&r->options[i]);
	}
	r->n = 0;
}

static uint32_t ask_create(struct shim_peer *p, struct rootfs *r)
{
	_cleanup_free_ char *bundle = xasprintf("%s/k1", test_tmpdir()),
			    *out = xasprintf("file://%s/k1.log", test_tmpdir());
	Containerd__CreateTaskRequest q = CONTAINERD__CREATE_TASK_REQUEST__INIT;

	q.id = container_id;
	q.bundle = bundle;
	q.rootfs = r->pointers;
	q.n_rootfs = r->n;
	q.stdout = q.stderr = out;
	return shim_ask(p, TASK_SERVICE, "Create", &q.base);
}

static struct shim_answer create_of(struct shim_peer *p, struct rootfs *r)
{
	return shim_answer(p, ask_create(p, r), NULL);
}

static void shut_down(struct shim_peer *p)
{
	Containerd__ShutdownRequest q = CONTAINERD__SHUTDOWN_REQUEST__INIT;

	q.id = container_id;
	(void)shim_ask(p, TASK_SERVICE, "Shutdown", &q.base);
	shim_expect_end(p);
	ctd_nothing_left();
}

/* From its creation to its end: what it wrote. Owned by the caller. */
static char *run_of(struct rootfs *rootfs)
{
	_cleanup_free_ char *path = xasprintf("%s/k1.log", test_tmpdir());
	_cleanup_peer_ struct shim_peer p = {};
	_cleanup_answer_ struct shim_answer created = {};
	struct buf log = {};
	uint32_t waiting;

	(void)unlink(path);
	start_shim(&p);
	created = create_of(&p, rootfs);
	if (created.code)
		test_fail(__FILE__, __LINE__, "Create: %s", created.text);
	waiting = ask_task(&p, "Wait");
	expect_ok(&p, ask_task(&p, "Start"), "Start");
	expect_ok(&p, waiting, "Wait");
	expect_ok(&p, ask_task(&p, "Delete"), "Delete");
	shut_down(&p);
	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, &log));
	return buf_take(&log);
}

static char *run(const char *type, const char *source, const char *options)
{
	struct rootfs r = {};
	char *said;

	add_mount(&r, type, source, options);
	said = run_of(&r);
	rootfs_done(&r);
	return said;
}

static void make_ext4(void)
{
	ctd_sh("mkdir -p r/proc r/sys r/dev && : >r/etc/resolv.conf && truncate -s 64M fs && mke2fs -q -t ext4 -d r -E "
	       "root_owner=0:0 fs");
}

static void need_loop(void)
{
	if (access("/dev/loop-control", F_OK) < 0)
		test_skip("this host's kernel has no loop devices");
}

/* In one stream: of two, the order is not that of the writing. */
#define LOOK "exec 2>&1; grep ' / ' /proc/mounts; cat /sys/block/vda/ro; echo new >/new && cat /new"

TEST(a_block_device_is_the_guests_disk)
{
	_cleanup_free_ char *node = NULL, *said = NULL, *detach = NULL, *written = NULL;

	need_loop();
	ctd_start();
	make_ext4();
	node = output("losetup -f --show fs");
	make_bundle(LOOK, "");
	said = run("ext4", node, "discard");
	detach = xasprintf("losetup -d %s", node);
	ctd_sh(detach);
	ASSERT_CONTAINS(said, "/dev/vda / ext4 rw");
	ASSERT_CONTAINS(said, "\n0\nnew\n");
	/* Unmounted in the guest before its machine ended. */
	ctd_sh("e2fsck -fn fs");
	written = output("debugfs -R 'cat /new' fs 2>/dev/null");
	ASSERT_STREQ(written, "new");
}

TEST(a_shim_that_is_terminated_has_its_disks_written_back)
{
	_cleanup_free_ char *path = xasprintf("%s/fs", test_tmpdir()), *written = NULL;
	_cleanup_peer_ struct shim_peer p = {};
	struct rootfs r = {};
	int shim;

	ctd_start();
	make_ext4();
	/* It does not end by itself. */
	make_bundle("trap true TERM; echo new >/new; echo ready; while :; do sleep 1; done", "");
	add_mount(&r, "ext4", path, "loop");
	start_shim(&p);
	expect_ok(&p, ask_create(&p, &r), "Create");
	expect_ok(&p, ask_task(&p, "Start"), "Start");
	ctd_sh("until grep -q ready k1.log; do sleep 0.1; done");
	shim = ctd_process("skerry-shim");
	ASSERT(shim > 0);
	ASSERT_OK(kill(shim, SIGTERM));
	shim_expect_end(&p);
	ctd_nothing_left();
	ctd_sh("e2fsck -fn fs");
	written = output("debugfs -R 'cat /new' fs 2>/dev/null");
	ASSERT_STREQ(written, "new");
	rootfs_done(&r);
}

static void check_score(const char *name, const char *expected)
{
	_cleanup_free_ char *path = xasprintf("/proc/%d/oom_score_adj", ctd_process(name));
	_cleanup_buf_ struct buf text = {};

	ASSERT_OK(file_read_at(AT_FDCWD, path, 64, &text));
	text.p[strcspn(text.p, "\n")] = '\0';
	ASSERT_STREQ(text.p, expected);
}

TEST(the_hosts_kernel_ends_a_machine_as_it_would_its_container)
{
	static const char *const scores[] = { "0", "300" };
	_cleanup_free_ char *path = xasprintf("%s/fs", test_tmpdir());
	_cleanup_close_ int fd = -EBADF;
	struct rootfs r = {};
	bool precious;

	/* As containerd has it, more or less; where that is not permitted, another one that is not for its machines. */
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	ASSERT(fd >= 0);
	precious = write(fd, "-500", 4) == 4;
	ASSERT(precious || write(fd, "100", 3) == 3);
	ctd_start();
	make_ext4();
	add_mount(&r, "ext4", path, "loop");
	for (size_t i = 0; i < ARRAY_SIZE(scores); i++) {
		_cleanup_free_ char *edit =
			xasprintf("sed -i 's/\"process\":{/&\"oomScoreAdj\":%s,/' k1/config.json", scores[i]);
		_cleanup_peer_ struct shim_peer p = {};
		int shim;

		make_bundle("sleep 1000", "");
		if (i > 0)
			ctd_sh(edit);
		start_shim(&p);
		expect_ok(&p, ask_create(&p, &r), "Create");
		expect_ok(&p, ask_task(&p, "Start"), "Start");
		check_score("skerry-shim", precious ? "-499" : "101");
		check_score("qemu-system-x86", scores[i]);
		check_score("virtiofsd", scores[i]);
		/* Who says it twice does not wait for the container. */
		shim = ctd_process("skerry-shim");
		ASSERT(shim > 0);
		ASSERT_OK(kill(shim, SIGTERM));
		(void)usleep(200000); /* lint: two signals that are not heard as one */
		(void)kill(shim, SIGTERM);
		shim_expect_end(&p);
		ctd_nothing_left();
	}
	rootfs_done(&r);
}

TEST(what_is_being_created_is_no_task_yet)
{
	enum { NOT_FOUND = 5 };
	_cleanup_free_ char *path = xasprintf("%s/fs", test_tmpdir());
	_cleanup_peer_ struct shim_peer p = {};
	_cleanup_answer_ struct shim_answer before = {}, state = {};
	struct rootfs r = {};
	uint32_t creating, stating, waiting;
	int shim;

	ctd_start();
	make_ext4();
	/* Without a network that may come there is a machine before there is a container. */
	make_bundle("true", ",\"annotations\":{\"io.skerry.network\":\"none\"}");
	add_mount(&r, "ext4", path, "loop");
	start_shim(&p);
	/* By the time that it answers it has its name. */
	before = shim_answer(&p, ask_task(&p, "State"), NULL);
	ASSERT_EQ(before.code, NOT_FOUND);
	shim = ctd_process("skerry-shim");
	ASSERT(shim > 0);
	/* It finds both at once, however late the second is sent. */
	ASSERT_OK(kill(shim, SIGSTOP));
	creating = ask_create(&p, &r);
	stating = ask_task(&p, "State");
	ASSERT_OK(kill(shim, SIGCONT));
	state = shim_answer(&p, stating, NULL);
	ASSERT_EQ(state.code, NOT_FOUND);
	expect_ok(&p, creating, "Create");
	expect_ok(&p, ask_task(&p, "State"), "State");
	waiting = ask_task(&p, "Wait");
	expect_ok(&p, ask_task(&p, "Start"), "Start");
	expect_ok(&p, waiting, "Wait");
	expect_ok(&p, ask_task(&p, "Delete"), "Delete");
	shut_down(&p);
	rootfs_done(&r);
}

TEST(a_file_that_is_mounted_by_loop_is_a_disk)
{
	_cleanup_free_ char *said = NULL, *again = NULL, *written = NULL, *path = xasprintf("%s/fs", test_tmpdir()),
			    *erofs = xasprintf("%s/efs", test_tmpdir());

	ctd_start();
	make_ext4();
	make_bundle(LOOK, "");
	written = run("ext4", path, "loop");
	ASSERT_CONTAINS(written, "/dev/vda / ext4 rw");
	ASSERT_CONTAINS(written, "\n0\nnew\n");
	ctd_sh("e2fsck -fn fs");
	/* What is mounted to be read gives a disk that is. */
	ctd_sh("cp fs before && mkfs.erofs -zlz4 efs r >/dev/null && cp efs ebefore");
	said = run("ext4", path, "loop ro");
	ASSERT_CONTAINS(said, "/dev/vda / ext4 ro");
	ASSERT_CONTAINS(said, "\n1\n");
	ASSERT_CONTAINS(said, "Read-only file system");
	again = run("erofs", erofs, "ro loop");
	ASSERT_CONTAINS(again, "/dev/vda / erofs ro");
	ASSERT_CONTAINS(again, "\n1\n");
	ctd_sh("cmp fs before && cmp efs ebefore");
}

/* A machine that others may run in already gets no disk more. */
#define POD ",\"annotations\":{\"io.containerd.runc.v2.group\":\"g1\"}"

TEST(who_joins_a_pod_has_a_device_mounted_and_shared_and_a_file_for_itself)
{
	_cleanup_free_ char *said = NULL, *again = NULL, *node = NULL, *detach = NULL,
			    *path = xasprintf("%s/fs", test_tmpdir());

	need_loop();
	ctd_start();
	make_ext4();
	make_bundle("grep ' / ' /proc/mounts; echo new >>/new && cat /new", POD);
	said = run("ext4", path, "loop");
	ASSERT_CONTAINS(said, "/dev/loop0 / ext4 rw");
	ASSERT_CONTAINS(said, "\nnew\n");
	ctd_sh("test -z \"$(losetup -j fs)\" && e2fsck -fn fs && debugfs -R 'cat /new' fs 2>/dev/null | grep -q new");
	node = output("losetup -f --show fs");
	again = run("ext4", node, "rw");
	detach = xasprintf("losetup -d %s", node);
	ctd_sh(detach);
	ASSERT_CONTAINS(again, " / virtiofs rw");
	ASSERT_CONTAINS(again, "\nnew\nnew\n");
	ctd_sh("e2fsck -fn fs");
}

TEST(what_is_no_file_system_is_refused_in_one_line)
{
	static const struct {
		const char *make, *type, *source, *options, *expected;
	} cases[] = {
		{ "rm -f fs && mkdir fs", "ext4", "fs", "loop", "root file system" },
		{ "rmdir fs", "ext4", "fs", "loop", "No such file" },
		{ "truncate -s 16M fs", "erofs", "fs", "loop", "root file system" },
		/* Found out by the guest. */
		{ "truncate -s 16M fs", "ext4", "fs", "loop", "cannot mount" },
		{ "true", "format/mkdir/overlay", "overlay", "lowerdir={{ mount 7 }}", "is not understood" },
		{ "true", "overlay", "overlay", "lowerdir={{ mount 0 }}:/etc", "is not understood" },
		{ "true", "mkfs/ext4", "new", "X-containerd.mkfs.size=1048576", "is not understood" },
	};

	ctd_start();
	make_bundle("true", ",\"annotations\":{\"io.skerry.network\":\"user\"}");
	ctd_sh("mkdir e && mkfs.erofs layer e >/dev/null");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_free_ char *path = xasprintf("%s/%s", test_tmpdir(), cases[i].source),
				    *layer = xasprintf("%s/layer", test_tmpdir());
		_cleanup_peer_ struct shim_peer p = {};
		_cleanup_answer_ struct shim_answer created = {};
		struct rootfs r = {};

		ctd_sh(cases[i].make);
		if (streq(cases[i].source, "overlay"))
			add_mount(&r, "erofs", layer, "ro loop");
		add_mount(&r, cases[i].type, path, cases[i].options);
		start_shim(&p);
		created = create_of(&p, &r);
		rootfs_done(&r);
		ASSERT(created.code != 0);
		ASSERT_CONTAINS(created.text, cases[i].expected);
		ASSERT(!strchr(created.text, '\n'));
		shut_down(&p);
	}
	ctd_sh("test ! -e new");
}

/* ---- Layers ---- */

/* Six, the lowest first. The content of the fourth is in a file of its own. */
static void make_layers(void)
{
	static const char opaque[] = "trusted.overlay.opaque";
	_cleanup_free_ char *path = xasprintf("%s/t4/hidden", test_tmpdir());

	ctd_sh("mkdir -p t1 t2/x t3/d t4/hidden t5 t6 && for i in 1 2 3 4 5 6; do echo $i >t$i/top; echo of $i "
	       ">t$i/of$i; done && "
	       "cp -a r/. t1/ && mkdir t1/proc t1/sys t1/dev t1/hidden t1/d t1/gone && echo old >t1/hidden/old && echo "
	       "a >t1/d/a && "
	       "echo x >t2/x/x && : >t1/etc/resolv.conf && mknod t3/gone c 0 0 && mknod t3/d/a c 0 0 && echo b >t3/d/b "
	       "&& echo new "
	       ">t4/hidden/new && "
	       "head -c 20000 /dev/urandom >t4/random && mknod t5/x c 0 0 && echo back >t6/gone");
	ASSERT_OK(setxattr(path, opaque, "y", 1, 0) < 0 ? -errno : 0);
	ctd_sh("for i in 1 2 3 5 6; do mkfs.erofs --quiet $([ $i = 2 ] && echo -zlz4) l$i t$i || exit 1; done && "
	       "mkfs.erofs --quiet --chunksize=4096 --blobdev=l4.data l4 t4 && sha256sum l? l4.data >sums");
}

static void add_layers(struct rootfs *r)
{
	for (int i = 6; i >= 1; i--) {
		_cleanup_free_ char *path = xasprintf("%s/l%d", test_tmpdir(), i),
				    *options = xasprintf("ro loop%s%s%s", i == 4 ? " device=" : "", i == 4 ? path : "",
							 i == 4 ? ".data" : "");

		add_mount(r, "erofs", path, options);
	}
}

#define LAYERS_SAID                                             \
	"of 1\nof 2\nof 3\nof 4\nof 5\nof 6\n6\nback\nb\nnew\n" \
	"no x\n"
/* Of what is below, first; then it is written to. */
#define LAYERS_LOOK                                                         \
	"exec 2>&1; "                                                       \
	"cat /of* /top /gone; ls /d; ls /hidden; test -e /x || echo no x; " \
	"sha256sum </random; "                                              \
	"grep ' / ' /proc/mounts; "
#define LAYERS_WRITE                                                                                                  \
	"echo new >/new && rm /of1 && echo more >>/of2 && rm -r /hidden && mkdir /hidden && sync && ls -d /new /of* " \
	"/hidden/*"

static void check_layers(const char *said, bool written)
{
	_cleanup_free_ char *sum = output("sha256sum <t4/random");

	if (!after_prefix(said, LAYERS_SAID))
		test_fail(__FILE__, __LINE__, "%s", said);
	ASSERT_CONTAINS(said, sum);
	ASSERT_CONTAINS(said, "overlay / overlay r");
	if (written)
		ASSERT_CONTAINS(said, "/new\n/of2\n/of3\n/of4\n/of5\n/of6\n");
	else
		ASSERT_CONTAINS(said, "Read-only");
	ctd_sh("sha256sum -c --quiet sums && for f in l? l4.data rw; do test -z \"$(losetup -j $f)\" || exit 1; done");
}

#define WRITABLE                                                                                            \
	"X-containerd.mkdir.path={{ mount 0 }}/upper:0755 X-containerd.mkdir.path={{ mount 0 }}/work:0755 " \
	"workdir={{ mount 0 }}/work upperdir={{ mount 0 }}/upper lowerdir={{ overlay 1 6 }} index=off"

TEST(layers_below_an_overlay)
{
	_cleanup_free_ char *said = NULL, *in_pod = NULL, *on_host = NULL, *view = NULL,
			    *rw = xasprintf("%s/rw", test_tmpdir()), *upper = NULL;
	struct rootfs r = {};

	ctd_start();
	make_layers();
	ctd_sh("truncate -s 64M rw && mke2fs -q -t ext4 rw");

	/* Above them a file system in a file, which is the first mount. */
	add_mount(&r, "ext4", rw, "rw loop");
	add_layers(&r);
	add_mount(&r, "format/mkdir/overlay", "overlay", WRITABLE);
	make_bundle(LAYERS_LOOK LAYERS_WRITE, "");
	said = run_of(&r);
	check_layers(said, true);
	ctd_sh("e2fsck -fn rw && debugfs -R 'cat /upper/new' rw 2>/dev/null | grep -q new");
	/* What was written is there again, now in a machine that gets no disks. */
	make_bundle("exec 2>&1; ls -d /new /of* /hidden/*; ls /dev/vd*; cat /of2", POD);
	in_pod = run_of(&r);
	ASSERT_CONTAINS(in_pod, "/new\n/of2\n/of3\n/of4\n/of5\n/of6\n");
	ASSERT_CONTAINS(in_pod, "of 2\nmore\n");
	ASSERT(!strstr(in_pod, "/dev/vda"));
	ctd_sh("e2fsck -fn rw");
	rootfs_done(&r);

	/* A directory of the host's. */
	ctd_sh("mkdir -p snapshot/fs snapshot/work");
	add_layers(&r);
	upper = xasprintf("workdir=%s/snapshot/work upperdir=%s/snapshot/fs lowerdir={{ overlay 0 5 }}", test_tmpdir(),
			  test_tmpdir());
	add_mount(&r, "format/mkdir/overlay", "overlay", upper);
	make_bundle(LAYERS_LOOK LAYERS_WRITE, "");
	on_host = run_of(&r);
	check_layers(on_host, true);
	ctd_sh("test $(cat snapshot/fs/new) = new && test -c snapshot/fs/of1 && test -d snapshot/fs/hidden && "
	       "tail -n 1 snapshot/fs/of2 | grep -q more");
	{
		_cleanup_free_ char *hidden = xasprintf("%s/snapshot/fs/hidden", test_tmpdir());
		char value = 0;

		ASSERT_EQ(getxattr(hidden, "trusted.overlay.opaque", &value, 1), 1);
		ASSERT_EQ(value, 'y');
	}
	rootfs_done(&r);

	/* Nothing. */
	add_layers(&r);
	add_mount(&r, "format/overlay", "overlay", "lowerdir={{ overlay 0 5 }}");
	make_bundle(LAYERS_LOOK "echo new >/new", "");
	view = run_of(&r);
	check_layers(view, false);
	rootfs_done(&r);
}

/* More than there are disks for, in any shape. */
TEST(a_hundred_layers)
{
	enum { LAYERS = 100 };
	_cleanup_free_ char *said = NULL, *overlay = xasprintf("lowerdir={{ overlay 0 %d }}", LAYERS - 1);
	struct rootfs r = {};

	ctd_start();
	ctd_sh("mkdir -p h/proc h/sys h/dev && cp -a r/. h/ && : >h/etc/resolv.conf && mkfs.erofs --quiet h1 h && rm "
	       "-rf h && mkdir h && i=2 "
	       "&& "
	       "while [ $i -le 100 ]; do rm -f h/*; echo $i >h/$i; echo $i >h/top; mkfs.erofs --quiet h$i h || exit 1; "
	       "i=$((i+1)); done");
	for (int i = LAYERS; i >= 1; i--) {
		_cleanup_free_ char *path = xasprintf("%s/h%d", test_tmpdir(), i);

		add_mount(&r, "erofs", path, "ro loop");
	}
	add_mount(&r, "format/overlay", "overlay", overlay);
	make_bundle("cat /top; ls -d /[0-9]* | wc -l; cat /2 /99", "");
	said = run_of(&r);
	ASSERT_STREQ(said, "100\n99\n2\n99\n");
	rootfs_done(&r);
}
