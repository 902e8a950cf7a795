/* Images of layers, from blobs to a disk that e2fsck and debugfs look at. */
#include "layers.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "image/image.h"
#include "image/prune.h"
#include "tarball.h"
#include "test.h"

static void unpack(const struct store *s, const struct test_layer *layers, size_t n, const char *config,
		   struct image_meta *ret)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_error_ struct error e = {};

	layers_put(s, layers, n, config, &manifest);
	if (layers_unpack(s, &manifest, "test:1", 0, ret, &e) < 0)
		test_fail(__FILE__, __LINE__, "image_unpack: %s", e.msg);
}

static void content_is(const struct store *s, const struct image_meta *m, const char *path, const char *expected)
{
	_cleanup_free_ char *request = xasprintf("cat %s", path), *out = layers_debugfs(s, m, request);

	ASSERT_STREQ(out, expected);
}

TEST(every_packing_gives_the_same_disk)
{
	static const char *const packers[] = { NULL, "gzip", "zstd", "xz", "bzip2" };
	_cleanup_free_ char *first = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(packers); i++) {
		_cleanup_store_ struct store s = {};
		struct test_layer l = { .packer = packers[i] };
		_cleanup_(image_meta_done) struct image_meta m = {};

		/* Each in a store of its own, lest they share one disk. */
		layers_store(&s, packers[i] ? packers[i] : "plain");
		tarball_dir(&l.tar, "etc");
		tarball_file(&l.tar, "etc/hostname", "skerry\n");
		tarball_end(&l.tar);
		unpack(&s, &l, 1, NULL, &m);
		layers_check_disk(&s, &m);
		content_is(&s, &m, "/etc/hostname", "skerry\n");
		ASSERT_STREQ(m.format, "raw");
		ASSERT_STREQ(m.fstype, "ext4");
		if (first)
			ASSERT_STREQ(m.disk, first);
		else
			first = xstrdup(m.disk);
		test_layer_done(&l);
	}
}

TEST(equal_layers_share_a_disk)
{
	_cleanup_store_ struct store s = {};
	struct test_layer l = {};
	_cleanup_(image_meta_done) struct image_meta a = {}, b = {}, c = {};
	_cleanup_free_ char *path_a = NULL, *path_b = NULL;
	struct stat st_a, st_b;

	layers_store(&s, "home");
	tarball_file(&l.tar, "f", "x");
	tarball_add(&l.tar, &(struct tarball_entry){ .name = "sbin/init", .mode = 0755, .content = "#!", .n = 2 });
	unpack(&s, &l, 1, NULL, &a);
	unpack(&s, &l, 1, "{\"User\": \"www\"}", &b);
	ASSERT(!streq(a.digest, b.digest));
	ASSERT_STREQ(a.disk, b.disk);
	ASSERT_EQ(b.init, IMAGE_INIT_SYSTEM);
	ASSERT_EQ(b.virtual_bytes, a.virtual_bytes);
	path_a = image_disk_path(&s, &a);
	path_b = image_disk_path(&s, &b);
	ASSERT_EQ(stat(path_a, &st_a), 0);
	ASSERT_EQ(stat(path_b, &st_b), 0);
	ASSERT_EQ(st_a.st_ino, st_b.st_ino);
	/* The same once more is the same image. */
	unpack(&s, &l, 1, NULL, &c);
	ASSERT_STREQ(c.digest, a.digest);
	test_layer_done(&l);
}

TEST(layers_cover_each_other)
{
	_cleanup_store_ struct store s = {};
	struct test_layer l[3] = { { .packer = "gzip" }, { .packer = "zstd" }, {} };
	_cleanup_(image_meta_done) struct image_meta m = {};
	_cleanup_free_ char *list = NULL, *d = NULL, *opaque = NULL;

	layers_store(&s, "home");
	tarball_file(&l[0].tar, "gone", "1");
	tarball_file(&l[0].tar, "d/one", "1");
	tarball_file(&l[0].tar, "opaque/old", "1");
	tarball_link(&l[0].tar, '2', "lib", "usr/lib");
	tarball_file(&l[1].tar, ".wh.gone", "");
	tarball_file(&l[1].tar, "opaque/new", "2");
	tarball_file(&l[1].tar, "opaque/.wh..wh..opq", "");
	tarball_file(&l[1].tar, "lib/libc.so", "2");
	tarball_file(&l[1].tar, ".wh..wh.plnk/123.456", "2");
	tarball_file(&l[1].tar, ".wh..wh.aufs", "2");
	tarball_file(&l[2].tar, "d/.wh.one", "");
	tarball_file(&l[2].tar, "d/.wh.never", "");
	tarball_link(&l[2].tar, '1', "d/linked", "lib/libc.so");
	unpack(&s, l, 3, NULL, &m);
	layers_check_disk(&s, &m);
	list = layers_debugfs(&s, &m, "ls -p /");
	d = layers_debugfs(&s, &m, "ls -p /d");
	opaque = layers_debugfs(&s, &m, "ls -p /opaque");
	ASSERT(!strstr(list, "/gone/"));
	ASSERT(!strstr(list, ".wh."));
	ASSERT(!strstr(d, "/one/"));
	ASSERT(!strstr(opaque, "/old/"));
	ASSERT_CONTAINS(opaque, "/new/");
	content_is(&s, &m, "/usr/lib/libc.so", "2");
	content_is(&s, &m, "/d/linked", "2");
	for (size_t i = 0; i < 3; i++)
		test_layer_done(&l[i]);
}

TEST(an_erofs_is_the_same_tree)
{
	_cleanup_store_ struct store s = {}, other = {}, again = {};
	struct test_layer l[2] = { { .packer = "gzip" }, {} };
	_cleanup_(image_meta_done) struct image_meta m = {}, e = {}, e2 = {};
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_free_ char *path = NULL;
	struct stat st;

	layers_store(&s, "home");
	tarball_file(&l[0].tar, "gone", "1");
	tarball_file(&l[0].tar, "d/one", "1");
	tarball_link(&l[0].tar, '1', "d/two", "d/one");
	tarball_add(&l[0].tar, &(struct tarball_entry){ .name = "sbin/init", .mode = 0755, .content = "#!", .n = 2 });
	tarball_file(&l[1].tar, ".wh.gone", "");
	tarball_file(&l[1].tar, "d/three", "3");
	unpack(&s, l, 2, NULL, &m);
	layers_put(&s, l, 2, NULL, &manifest);
	layers_store(&other, "other");
	oci_descriptor_done(&manifest);
	layers_put(&other, l, 2, NULL, &manifest);
	ASSERT_OK(layers_unpack_as(&other, &manifest, "test:1", "erofs", 0, &e, NULL));
	layers_check_disk(&other, &e);
	layers_same_tree(&s, &m, &other, &e);
	ASSERT_STREQ(e.fstype, "erofs");
	ASSERT_STREQ(e.format, "raw");
	ASSERT_STREQ(e.digest, m.digest);
	ASSERT(!streq(e.chain, m.chain));
	ASSERT_EQ(e.init, IMAGE_INIT_SYSTEM);
	ASSERT_EQ(e.virtual_bytes, m.virtual_bytes);
	path = image_disk_path(&other, &e);
	ASSERT_EQ(stat(path, &st), 0);
	ASSERT(st.st_size < 64 << 10);
	layers_store(&again, "again");
	oci_descriptor_done(&manifest);
	layers_put(&again, l, 2, NULL, &manifest);
	ASSERT_OK(layers_unpack_as(&again, &manifest, "test:1", "erofs", 0, &e2, NULL));
	ASSERT_STREQ(e2.disk, e.disk);
	for (size_t i = 0; i < 2; i++)
		test_layer_done(&l[i]);
}

static int nobody(const char *digest, char **ret_by, void *data)
{
	const char *used = data;

	(void)ret_by;
	return used && streq(digest, used);
}

/* The kinds of file systems that are there of an image, and which of them a name means. */
static void kinds_are(const struct store *s, const char *digest, bool ext4, bool erofs)
{
	_cleanup_(image_meta_done) struct image_meta a = {}, b = {};

	ASSERT_EQ(image_meta_read_kind(s, digest, "ext4", &a, NULL), ext4 ? 0 : -ENOENT);
	ASSERT_EQ(image_meta_read_kind(s, digest, "erofs", &b, NULL), erofs ? 0 : -ENOENT);
}

static void name_means(const struct store *s, const char *name, const char *fstype)
{
	_cleanup_(image_meta_done) struct image_meta m = {};
	_cleanup_free_ char *path = NULL;

	ASSERT_OK(image_find(s, name, &m, NULL));
	ASSERT_STREQ(m.fstype, fstype);
	path = image_disk_path(s, &m);
	ASSERT_EQ(access(path, R_OK), 0);
	layers_check_disk(s, &m);
}

TEST(one_image_has_both_kinds)
{
	_cleanup_store_ struct store s = {};
	struct test_layer l = {};
	_cleanup_(image_meta_done) struct image_meta m = {}, e = {}, e2 = {}, e3 = {};
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_(prune_result_done) struct prune_result pruned = {};
	struct prune_request all = { .all = true, .in_use = nobody };
	_cleanup_error_ struct error err = {};

	layers_store(&s, "home");
	tarball_file(&l.tar, "d/one", "1");
	unpack(&s, &l, 1, NULL, &m);
	layers_put(&s, &l, 1, NULL, &manifest);
	kinds_are(&s, m.digest, true, false);
	ASSERT_OK(layers_unpack_as(&s, &manifest, "test:1", "erofs", 0, &e, &err));
	kinds_are(&s, m.digest, true, true);
	name_means(&s, "test:1", "erofs");
	/* By digest it is the one that was there first. */
	name_means(&s, m.digest, "ext4");
	/* Another name for what the name means; and back to the other kind, which is there. */
	ASSERT_OK(image_tag(&s, "test:1", "other:1", NULL));
	name_means(&s, "other:1", "erofs");
	ASSERT_OK(layers_unpack_as(&s, &manifest, "test:1", "ext4", 0, &e2, &err));
	name_means(&s, "test:1", "ext4");
	name_means(&s, "other:1", "erofs");
	/* Its own kind in another size is another disk, still. */
	ASSERT_EQ(layers_unpack_as(&s, &manifest, "test:1", "ext4", UINT64_C(1) << 30, &e3, &err), -EEXIST);
	ASSERT_CONTAINS(err.msg, "is there already, with another disk");
	/* Whatever stands on it needs it, by whichever kind. */
	all.data = m.digest;
	ASSERT_OK(image_prune(&s, &all, &pruned, NULL));
	kinds_are(&s, m.digest, true, true);
	prune_result_done(&pruned);
	ASSERT_OK(image_delete(&s, "test:1", nobody, NULL, NULL));
	kinds_are(&s, m.digest, true, true);
	ASSERT_OK(image_delete(&s, "other:1", nobody, NULL, NULL));
	kinds_are(&s, m.digest, false, false);
	ASSERT_EQ(image_meta_read(&s, m.digest, &e2, NULL), -ENOENT);
	test_layer_done(&l);
}

TEST(the_configuration_is_kept)
{
	static const char config[] =
		"{\"User\": \"1000:1000\", \"WorkingDir\": \"/srv\", \"StopSignal\": \"SIGINT\", \"Env\": [\"A=1\"],"
		"\"Entrypoint\": [\"/bin/app\"], \"Cmd\": [\"-v\"], \"Volumes\": {\"/data\": {}},"
		"\"ExposedPorts\": {\"80/tcp\": {}}, \"Labels\": {\"k\": \"v\"}}";
	_cleanup_store_ struct store s = {};
	struct test_layer l = {};
	_cleanup_(image_meta_done) struct image_meta m = {};

	layers_store(&s, "home");
	tarball_add(&l.tar, &(struct tarball_entry){ .name = "usr/sbin/sshd", .mode = 0755 });
	tarball_link(&l.tar, '2', "sbin", "usr/sbin");
	tarball_link(&l.tar, '2', "usr/sbin/init", "/bin/busybox");
	tarball_add(&l.tar, &(struct tarball_entry){ .name = "bin/busybox", .mode = 0755 });
	unpack(&s, &l, 1, config, &m);
	ASSERT_STREQ(m.user, "1000:1000");
	ASSERT_STREQ(m.workdir, "/srv");
	ASSERT_STREQ(m.stop_signal, "SIGINT");
	ASSERT_STREQ(m.env.items[0], "A=1");
	ASSERT_STREQ(m.entrypoint.items[0], "/bin/app");
	ASSERT_STREQ(m.command.items[0], "-v");
	ASSERT_STREQ(m.volumes.items[0], "/data");
	ASSERT_STREQ(m.ports.items[0], "80/tcp");
	ASSERT_STREQ(m.labels.items[0], "k=v");
	ASSERT_STREQ(m.source, "test");
	ASSERT_EQ(m.boot, IMAGE_BOOT_KERNEL);
	ASSERT_EQ(m.init, IMAGE_INIT_AGENT);
	ASSERT(m.ssh);
	test_layer_done(&l);
}

TEST(what_names_no_variable_is_left_out_of_the_environment)
{
	_cleanup_store_ struct store s = {};
	struct test_layer l = {};
	_cleanup_(image_meta_done) struct image_meta m = {}, again = {};

	layers_store(&s, "home");
	tarball_file(&l.tar, "f", "x");
	unpack(&s, &l, 1, "{\"Env\": [\"A=1\", \"\", \"=x\", \"FOO\", \"B=\"]}", &m);
	ASSERT_OK(image_meta_read(&s, m.digest, &again, NULL));
	ASSERT_EQ(again.env.n, 2);
	ASSERT_STREQ(again.env.items[0], "A=1");
	ASSERT_STREQ(again.env.items[1], "B=");
	test_layer_done(&l);
}

/* As `tar --acls --selinux` writes them, and bsdtar. ext4 keeps no number where nobody is named. */
TEST(access_lists_and_labels_are_on_the_disk)
{
	_cleanup_store_ struct store s = {};
	struct test_layer l = {};
	_cleanup_(image_meta_done) struct image_meta m = {};
	_cleanup_buf_ struct buf file = {}, dir = {};
	_cleanup_free_ char *access = NULL, *initial = NULL, *label = NULL;
	static const char acl[] = "user::rw-\nuser:1000:rw-\ngroup::r--\nmask::rw-\nother::r--\n",
			  initially[] = "user::rwx,group::r-x,group:adm:r-x:4,mask::r-x,other::---",
			  context[] = "system_u:object_r:etc_t:s0";

	layers_store(&s, "home");
	tarball_record(&file, "RHT.security.selinux", context, strlen(context));
	tarball_record(&file, "SCHILY.acl.access", acl, strlen(acl));
	tarball_extended(&l.tar, 'x', &file);
	tarball_file(&l.tar, "f", "x");
	tarball_record(&dir, "SCHILY.acl.default", initially, strlen(initially));
	tarball_extended(&l.tar, 'x', &dir);
	tarball_dir(&l.tar, "d");
	unpack(&s, &l, 1, NULL, &m);
	access = layers_debugfs(&s, &m, "ea_get -x /f system.posix_acl_access");
	ASSERT_CONTAINS(access, "02 00 00 00 "
				"01 00 06 00 00 00 00 00 02 00 06 00 e8 03 00 00 04 00 04 00 00 00 00 00 "
				"10 00 06 00 00 00 00 00 20 00 04 00 00 00 00 00");
	initial = layers_debugfs(&s, &m, "ea_get -x /d system.posix_acl_default");
	ASSERT_CONTAINS(initial, "02 00 00 00 "
				 "01 00 07 00 00 00 00 00 04 00 05 00 00 00 00 00 08 00 05 00 04 00 00 00 "
				 "10 00 05 00 00 00 00 00 20 00 00 00 00 00 00 00");
	label = layers_debugfs(&s, &m, "ea_get /f security.selinux");
	ASSERT_CONTAINS(label, context);
	test_layer_done(&l);
}

TEST(a_disk_of_the_size_that_was_asked_for)
{
	_cleanup_store_ struct store s = {};
	struct test_layer l = {};
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_(image_meta_done) struct image_meta m = {};
	_cleanup_error_ struct error e = {};
	char *block = xcalloc(1, 80 << 20);

	layers_store(&s, "home");
	memset(block, 'x', 80 << 20);
	tarball_add(&l.tar, &(struct tarball_entry){ .name = "big", .content = block, .n = 80 << 20 });
	layers_put(&s, &l, 1, NULL, &manifest);
	ASSERT(layers_unpack(&s, &manifest, "test", UINT64_C(64) << 20, &m, &e) < 0);
	ASSERT_EQ(error_exit_status(&e), 73);
	ASSERT_CONTAINS(e.msg, "'big'");
	ASSERT_CONTAINS(e.msg, "the disk is full");
	ASSERT_CONTAINS(e.hint, "--disk");
	ASSERT_OK(layers_unpack(&s, &manifest, "test", UINT64_C(128) << 20, &m, NULL));
	ASSERT_EQ(m.virtual_bytes, UINT64_C(128) << 20);
	layers_check_disk(&s, &m);
	free(block);
	test_layer_done(&l);
}

/* A new qcow2 of 10 MiB, as bytes; @backing may be NULL. */
static void make_qcow2(const char *backing, struct buf *out)
{
	_cleanup_free_ char *path = xasprintf("%s/new.qcow2", test_tmpdir()), *found = program_find("qemu-img");
	const char *plain[] = { "qemu-img", "create", "-q", "-f", "qcow2", path, "10M", NULL };
	const char *backed[] = { "qemu-img", "create", "-q",    "-f", "qcow2", "-u", "-F",
				 "raw",      "-b",     backing, path, "10M",   NULL };
	struct spawn s = SPAWN_INIT;

	if (!found)
		test_skip("no qemu-img");
	s.argv = backing ? backed : plain;
	ASSERT_OK(spawn_check(&s, NULL, NULL, 4096, 0, NULL));
	ASSERT_OK(file_read_at(AT_FDCWD, path, 1 << 20, out));
}

static void add_disk(struct test_layer *l, const char *name, const struct buf *disk)
{
	tarball_dir(&l->tar, "./disk/");
	tarball_add(&l->tar, &(struct tarball_entry){ .name = name, .uid = 107, .content = disk->p, .n = disk->len });
}

TEST(a_layer_that_is_a_whole_disk)
{
	_cleanup_store_ struct store s = {};
	_cleanup_buf_ struct buf disk = {};
	struct test_layer l = { .packer = "gzip" };
	_cleanup_(image_meta_done) struct image_meta m = {}, again = {};
	_cleanup_free_ char *path = NULL;

	layers_store(&s, "home");
	make_qcow2(NULL, &disk);
	add_disk(&l, "./disk/system.qcow2", &disk);
	tarball_end(&l.tar);
	unpack(&s, &l, 1, NULL, &m);
	ASSERT_STREQ(m.format, "qcow2");
	ASSERT(!m.fstype);
	ASSERT_EQ(m.boot, IMAGE_BOOT_FIRMWARE);
	ASSERT_EQ(m.virtual_bytes, 10 << 20);
	path = image_disk_path(&s, &m);
	ASSERT_EQ(access(path, R_OK), 0);
	/* Shared like any other. */
	unpack(&s, &l, 1, "{\"User\": \"x\"}", &again);
	ASSERT_STREQ(again.disk, m.disk);
	ASSERT_EQ(again.boot, IMAGE_BOOT_FIRMWARE);
	test_layer_done(&l);
}

TEST(a_disk_beside_other_files_is_a_file)
{
	_cleanup_store_ struct store s = {};
	struct buf disk = { .p = (char[]){ "QFI\xfb" }, .len = 4 };
	struct test_layer l = {};
	_cleanup_(image_meta_done) struct image_meta m = {};

	layers_store(&s, "home");
	add_disk(&l, "disk/x.img", &disk);
	tarball_file(&l.tar, "etc/hostname", "x");
	unpack(&s, &l, 1, NULL, &m);
	ASSERT_STREQ(m.fstype, "ext4");
	layers_check_disk(&s, &m);
	content_is(&s, &m, "/disk/x.img", "QFI\xfb");
	test_layer_done(&l);
}

TEST(whole_disks_that_are_none_or_refer_elsewhere)
{
	_cleanup_store_ struct store s = {};
	_cleanup_buf_ struct buf disk = {}, text = {};
	struct buf *const contents[] = { &disk, &text };

	layers_store(&s, "home");
	make_qcow2("/etc/passwd", &disk);
	buf_adds(&text, "no disk at all");
	for (size_t i = 0; i < ARRAY_SIZE(contents); i++) {
		_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
		_cleanup_(image_meta_done) struct image_meta m = {};
		_cleanup_error_ struct error e = {};
		struct test_layer l = {};

		add_disk(&l, "disk/x.qcow2", contents[i]);
		layers_put(&s, &l, 1, NULL, &manifest);
		ASSERT(layers_unpack(&s, &manifest, "bad", 0, &m, &e) < 0);
		ASSERT_EQ(error_exit_status(&e), 65);
		ASSERT_CONTAINS(e.msg, "layer 1 of 1");
		test_layer_done(&l);
	}
}
