/* Mounts as containerd 2.2's snapshotters give them, and as nobody should. */
#include <fcntl.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "shim/root.h"
#include "test.h"

enum { LAYERS = 4 };
static char *layers[LAYERS], *writable, *upper, *work;

/* EROFS' superblock, of a file that is larger by its number. */
static void make_files(void)
{
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint8_t raw[4096] = { 0 };
	static const uint8_t magic[] = { 0xe2, 0xe1, 0xf5, 0xe0 };

	memcpy(raw + 1024, magic, sizeof(magic));
	raw[1024 + 12] = 12;
	for (int i = 0; i < LAYERS; i++) {
		_cleanup_free_ char *name = xasprintf("layer%d", i);

		ASSERT_OK(file_write_at(dir, name, raw, sizeof(raw) - (size_t)(LAYERS - i), 0600, 0));
		layers[i] = xasprintf("%s/%s", test_tmpdir(), name);
	}
	ASSERT_OK(file_write_at(dir, "rwlayer.img", "", 0, 0600, 0));
	ASSERT_OK(mkdir_parents_at(dir, "snapshot/fs", 0755));
	ASSERT_OK(mkdir_parents_at(dir, "snapshot/work", 0755));
	writable = xasprintf("%s/rwlayer.img", test_tmpdir());
	upper = xasprintf("upperdir=%s/snapshot/fs", test_tmpdir());
	work = xasprintf("workdir=%s/snapshot/work", test_tmpdir());
}

static const char *const layer_options[] = { "ro", "loop" };
static const char *const writable_options[] = { "rw", "loop" };

static struct share_mount layer(int i)
{
	return (struct share_mount){
		.type = "erofs", .source = layers[i], .options = layer_options, .n_options = ARRAY_SIZE(layer_options)
	};
}

static struct share_mount above(const char *type, const char *const *options, size_t n)
{
	return (struct share_mount){ .type = type, .source = "overlay", .options = options, .n_options = n };
}

/* As one line: "TYPE SOURCE TARGET OPTIONS;" for each mount. */
static char *told(const struct root *r, char **ret_root)
{
	Skerry__Agent__V1__CreateContainerRequest q = SKERRY__AGENT__V1__CREATE_CONTAINER_REQUEST__INIT;
	struct buf out = {};

	*ret_root = root_tell(r, "/s/k1", "/r/k1", &q);
	for (size_t i = 0; i < q.n_mounts; i++) {
		const Skerry__Agent__V1__ContainerMount *m = q.mounts[i];

		buf_addf(&out, "%s %s %s ", m->type, m->source, m->target);
		for (size_t k = 0; k < m->n_options; k++)
			buf_addf(&out, "%s%s", k ? "," : "", m->options[k]);
		for (size_t k = 0; k < m->n_directories; k++)
			buf_addf(&out, " %s:%o:%u:%u", m->directories[k]->path, m->directories[k]->mode,
				 m->directories[k]->uid, m->directories[k]->gid);
		buf_adds(&out, ";");
	}
	root_forget(&q);
	return buf_take(&out);
}

static void expect(const struct share_mount *m, size_t n, size_t disks, const char *expected)
{
	_cleanup_root_ struct root *r = NULL;
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *text = NULL, *root = NULL;

	if (root_find(m, n, disks, &r, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT(r);
	text = told(r, &root);
	ASSERT_STREQ(text, expected);
	ASSERT_STREQ(root, "/r/k1/root");
}

TEST(layers_and_a_writable_file_above_them)
{
	static const char *const options[] = { "X-containerd.mkdir.path={{ mount 0 }}/upper:0755",
					       "X-containerd.mkdir.path={{ mount 0 }}/work:0755",
					       "workdir={{ mount 0 }}/work",
					       "upperdir={{ mount 0 }}/upper",
					       "lowerdir={{ overlay 1 2 }}",
					       "index=off" };
	struct share_mount m[4];

	make_files();
	m[0] = (struct share_mount){ .type = "ext4", .source = writable, .options = writable_options, .n_options = 2 };
	m[1] = layer(1);
	m[2] = layer(0);
	m[3] = above("format/mkdir/overlay", options, ARRAY_SIZE(options));
	expect(m, 4, 3,
	       "ext4 serial:root0 /r/k1/0 rw;erofs serial:root1 /r/k1/1 ro;erofs serial:root2 /r/k1/2 ro;"
	       "overlay overlay /r/k1/root index=off,lowerdir=1:2,upperdir=0/upper,workdir=0/work 0/upper:755:0:0 "
	       "0/work:755:0:0;");
	/* What is written to becomes a disk first, then what is large. */
	expect(m, 4, 2,
	       "ext4 serial:root0 /r/k1/0 rw;erofs serial:root1 /r/k1/1 ro;erofs loop:/s/k1/l2 /r/k1/2 ro;"
	       "overlay overlay /r/k1/root index=off,lowerdir=1:2,upperdir=0/upper,workdir=0/work 0/upper:755:0:0 "
	       "0/work:755:0:0;");
	expect(m, 4, 0,
	       "ext4 loop:/s/k1/l0 /r/k1/0 rw;erofs loop:/s/k1/l1 /r/k1/1 ro;erofs loop:/s/k1/l2 /r/k1/2 ro;"
	       "overlay overlay /r/k1/root index=off,lowerdir=1:2,upperdir=0/upper,workdir=0/work 0/upper:755:0:0 "
	       "0/work:755:0:0;");
}

TEST(layers_and_a_directory_of_the_hosts_above_them)
{
	const char *options[3];
	struct share_mount m[2];
	_cleanup_root_ struct root *r = NULL;
	_cleanup_free_ char *parent = NULL;

	make_files();
	options[0] = work;
	options[1] = upper;
	options[2] = "lowerdir={{ mount 0 }}";
	m[0] = layer(0);
	m[1] = above("format/mkdir/overlay", options, 3);
	expect(m, 2, 3,
	       "erofs serial:root0 /r/k1/0 ro;"
	       "overlay overlay /r/k1/root lowerdir=0,upperdir=/s/k1/upper/fs,workdir=/s/k1/upper/work;");
	ASSERT_OK(root_find(m, 2, 3, &r, NULL));
	parent = xasprintf("%s/snapshot", test_tmpdir());
	ASSERT_STREQ(r->upper_parent, parent);
}

TEST(views_binds_devices_and_lists)
{
	static const char *const view[] = { "lowerdir={{overlay 2 0}}:{{  mount 3 }}/below" };
	static const char *const bind[] = { "X-containerd.mkdir.path={{ mount 0 }}/upper:0755:1:2", "rw", "rbind" };
	struct share_mount m[LAYERS + 1];
	_cleanup_free_ char *device = NULL;
	const char *with_device[2] = { "ro" };

	make_files();
	for (int i = 0; i < LAYERS; i++)
		m[i] = layer(i);
	m[LAYERS] = above("format/overlay", view, 1);
	expect(m, LAYERS + 1, 1,
	       "erofs loop:/s/k1/l0 /r/k1/0 ro;erofs loop:/s/k1/l1 /r/k1/1 ro;erofs loop:/s/k1/l2 /r/k1/2 ro;"
	       "erofs serial:root3 /r/k1/3 ro;overlay overlay /r/k1/root lowerdir=2:1:0:3/below;");
	m[0] = (struct share_mount){ .type = "ext4", .source = writable, .options = writable_options, .n_options = 2 };
	m[1] = above("format/mkdir/bind", bind, 3);
	m[1].source = "{{ mount 0 }}/upper";
	expect(m, 2, 1, "ext4 serial:root0 /r/k1/0 rw;bind 0/upper /r/k1/root rw,rbind 0/upper:755:1:2;");
	device = xasprintf("device=%s", layers[3]);
	with_device[1] = device;
	m[0] = (struct share_mount){
		.type = "format/erofs", .source = layers[0], .options = with_device, .n_options = 2
	};
	m[1] = above("format/overlay", (const char *const[]){ "lowerdir={{ mount 0 }}" }, 1);
	expect(m, 2, 1, "erofs loop:/s/k1/l0 /r/k1/0 ro,device=serial:root1;overlay overlay /r/k1/root lowerdir=0;");
}

TEST(two_hundred_layers_fit)
{
	static const char *const options[] = { "lowerdir={{ overlay 0 199 }}" };
	struct share_mount m[201];
	_cleanup_root_ struct root *r = NULL;

	make_files();
	for (int i = 0; i < 200; i++)
		m[i] = layer(i % LAYERS);
	m[200] = above("format/overlay", options, 1);
	ASSERT_OK(root_find(m, 201, 3, &r, NULL));
	ASSERT_EQ(r->n_files, 200);
}

static void refused_at(const struct share_mount *m, size_t n, const char *expected)
{
	struct root *r = NULL;
	_cleanup_error_ struct error e = {};

	ASSERT(root_find(m, n, 3, &r, &e) < 0);
	ASSERT(!r);
	ASSERT_CONTAINS(e.msg, expected);
	ASSERT(!strchr(e.msg, '\n'));
}

TEST(what_is_not_understood_is_refused)
{
	static const struct {
		const char *type, *a, *b, *expected;
	} cases[] = {
		{ "format/overlay", "lowerdir={{ mount 1 }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount -1 }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 99999999999999999999 }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 0 0 }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 0", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ overlay 0 }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ overlay 0 1 }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ source 0 }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 0 }}x", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 0 }}/..", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 0 }}/a//b", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 0 }}/a,b", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 0 }}{{ mount 0 }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 0 }}:", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir=/etc:{{ mount 0 }}", NULL, "lowerdir" },
		{ "format/overlay", "lowerdir=", NULL, "lowerdir" },
		{ "format/overlay", "ro", NULL, "without a lowerdir" },
		{ "format/overlay", "lowerdir={{ mount 0 }}", "upperdir={{ mount 0 }}/u", "alone" },
		{ "format/overlay", "lowerdir={{ mount 0 }}", "lowerdir+=/etc", "option" },
		{ "format/overlay", "lowerdir={{ mount 0 }}", "xino=on,upperdir=/etc", "option" },
		{ "format/overlay", "lowerdir={{ mount 0 }}", "{{ mount 0 }}", "option" },
		{ "format/overlay", "lowerdir={{ mount 0 }}", "X-containerd.mkdir.path=/etc/x", "directory" },
		{ "format/overlay", "lowerdir={{ mount 0 }}", "X-containerd.mkdir.path={{ mount 0 }}/x:8",
		  "directory" },
		{ "format/overlay", "lowerdir={{ mount 0 }}", "X-containerd.mkdir.path={{ mount 0 }}/x:0:1",
		  "directory" },
		{ "format/overlay", "lowerdir={{ mount 0 }}", "X-containerd.mkdir.path={{ mount 0 }}/x:", "directory" },
		{ "format/overlay", "lowerdir={{ mount 0 }}",
		  "X-containerd.mkdir.path={{ mount 0 }}/x:77777777777777777777", "directory" },
		{ "format/overlay", "lowerdir={{ mount 0 }}", "X-containerd.mkdir.mode=1", "option" },
		{ "format/bind", "rbind", NULL, "bind mount of" },
		{ "format/bind", "rbind", "rslave", "option" },
		{ "format/tmpfs", NULL, NULL, "type" },
		{ "mkfs/overlay", "lowerdir={{ mount 0 }}", NULL, "type" },
		{ "format/", NULL, NULL, "type" },
	};

	make_files();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		const char *options[] = { cases[i].a, cases[i].b };
		struct share_mount m[2] = { layer(0), above(cases[i].type, options,
							    cases[i].b   ? 2
							    : cases[i].a ? 1
									 : 0) };

		refused_at(m, 2, cases[i].expected);
	}
}

TEST(layers_that_are_none_are_refused)
{
	static const char *const lower[] = { "lowerdir={{ mount 0 }}" };
	static const struct {
		const char *type, *source, *option, *target, *expected;
	} cases[] = {
		{ "mkfs/ext4", "/x", "rw", NULL, "type" },
		{ "xfs", "/x", "rw", NULL, "type" },
		{ "erofs", "x", "ro", NULL, "absolute" },
		{ "erofs", "/nowhere/at/all", "ro", NULL, "No such file" },
		{ "erofs", "/dev/null", "ro", NULL, "neither" },
		{ "ext4", "{{ mount 0 }}/x", "rw", NULL, "absolute" },
		{ "erofs", NULL, "offset=4096", NULL, "option" },
		{ "ext4", NULL, "device=/dev/sda", NULL, "option" },
		{ "erofs", NULL, "device=/dev/null", NULL, "neither" },
		{ "erofs", NULL, "device=x", NULL, "absolute" },
		{ "erofs", NULL, "ro", "/var", "below" },
		{ "erofs", NULL, "{{ mount 0 }}", NULL, "option" },
	};

	make_files();
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct share_mount m[2] = { layer(0), above("format/overlay", lower, 1) };

		m[0].type = cases[i].type;
		m[0].source = cases[i].source ? cases[i].source : layers[0];
		m[0].target = cases[i].target;
		m[0].options = &cases[i].option;
		m[0].n_options = 1;
		refused_at(m, 2, cases[i].expected);
	}
	/* No EROFS. */
	{
		struct share_mount m[2] = { layer(0), above("format/overlay", lower, 1) };

		m[0].source = writable;
		refused_at(m, 2, "no EROFS");
	}
}

TEST(where_the_host_is_written_to_is_checked)
{
	_cleanup_free_ char *link = xasprintf("%s/link", test_tmpdir()), *at = xasprintf("upperdir=%s", link),
			    *other = NULL;
	const char *options[3] = { "lowerdir={{ mount 0 }}" };
	struct share_mount m[2];

	make_files();
	ASSERT_OK(symlink("snapshot/fs", link) < 0 ? -errno : 0);
	m[0] = layer(0);
	m[1] = above("format/overlay", options, 3);
	options[2] = work;
	options[1] = at;
	refused_at(m, 2, "no directory");
	options[1] = "upperdir=/nowhere/at/all";
	refused_at(m, 2, "No such file");
	options[1] = "upperdir=/usr";
	refused_at(m, 2, "not two directories of one");
	options[1] = "upperdir=/usr/../usr";
	refused_at(m, 2, "directory");
	options[1] = "upperdir=/";
	refused_at(m, 2, "directory");
	other = xasprintf("upperdir=%s", work + strlen("workdir="));
	options[1] = other;
	refused_at(m, 2, "not two directories of one");
	options[1] = "upperdir={{ mount 0 }}/x";
	refused_at(m, 2, "directory");
}
