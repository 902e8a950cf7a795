#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "shim/root.h"
#include "test.h"

static uint8_t block_bits = 12;
static char *path; /* of a file with a superblock; one for each test's process */

/* EROFS's superblock is at 1024: magic, and at 80 and 84 what a reader must know. */
static void make_file(uint32_t magic, uint32_t features, uint16_t algorithms)
{
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	uint8_t raw[4096] = { 0 };

	for (int i = 0; i < 4; i++) {
		raw[1024 + i] = (uint8_t)(magic >> (8 * i));
		raw[1024 + 80 + i] = (uint8_t)(features >> (8 * i));
	}
	raw[1024 + 12] = block_bits;
	raw[1024 + 84] = (uint8_t)algorithms;
	raw[1024 + 85] = (uint8_t)(algorithms >> 8);
	ASSERT_OK(file_write_at(dir, "fs", raw, sizeof(raw), 0600, 0));
	if (!path)
		path = xasprintf("%s/fs", test_tmpdir());
}

static struct root *find(const char *type, const char *source, const char *a, const char *b)
{
	const char *options[] = { a, b };
	struct share_mount m = { .type = type, .source = source, .options = options, .n_options = !!a + !!b };
	struct root *r = NULL;

	ASSERT_OK(root_find(&m, 1, 1, &r, NULL));
	return r;
}

static void expect(struct root *r, bool read_only, const char *options)
{
	_cleanup_buf_ struct buf all = {};

	ASSERT(r);
	ASSERT(!r->top);
	ASSERT_EQ(r->n_mounts, 1);
	ASSERT_EQ(r->n_files, 1);
	for (size_t i = 0; i < r->mounts[0].options.n; i++)
		buf_addf(&all, "%s%s", i ? "," : "", r->mounts[0].options.items[i]);
	ASSERT_STREQ(all.p, options);
	ASSERT_EQ(r->files[0].read_only, read_only);
	ASSERT(!r->files[0].block_device);
	ASSERT(r->files[0].disk);
	ASSERT_STREQ(r->files[0].path, path);
	root_free(r);
}

TEST(a_file_or_device_that_is_mounted_as_the_root_is_a_disk)
{
	make_file(0, 0, 0);
	expect(find("ext4", path, "loop", NULL), false, "rw");
	expect(find("ext4", path, "loop", "discard"), false, "discard,rw");
	expect(find("ext4", path, "ro", "noatime"), true, "noatime,ro");
	expect(find("ext4", path, "rw", "ro"), true, "ro");
	expect(find("ext4", path, "ro", "rw"), false, "rw");
}

TEST(erofs_is_read_only_whatever_is_said)
{
	make_file(0xe0f5e1e2, 0x1, 0);
	expect(find("erofs", path, "loop", "ro"), true, "ro");
	expect(find("erofs", path, "rw", NULL), true, "ro");
	make_file(0xe0f5e1e2, 0x1 | 0x2, 0x1);
	expect(find("erofs", path, NULL, NULL), true, "ro");
}

TEST(what_the_guest_cannot_read_is_left_to_the_host)
{
	static const struct {
		uint32_t magic, features;
		uint16_t algorithms;
	} cases[] = {
		{ 0, 0, 0 },                 /* no EROFS */
		{ 0xe0f5e1e2, 0x2, 0x2 },    /* LZMA */
		{ 0xe0f5e1e2, 0x2, 0x8001 }, /* LZ4, and one that nobody has heard of */
		{ 0xe0f5e1e2, 0x8, 0 },      /* more devices */
		{ 0xe0f5e1e2, 0x40, 0 },     /* of a later kernel */
		{ 0xe0f5e1e2, 0x80000000, 0 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		make_file(cases[i].magic, cases[i].features, cases[i].algorithms);
		ASSERT(!find("erofs", path, "ro", NULL));
	}
	block_bits = 9;
	make_file(0xe0f5e1e2, 0x1, 0);
	ASSERT(!find("erofs", path, "ro", NULL));
	block_bits = 12;
	make_file(0xe0f5e1e2, 0x1, 0);
	ASSERT_OK(truncate(path, 1100) < 0 ? -errno : 0);
	ASSERT(!find("erofs", path, "ro", NULL));
}

TEST(other_mounts_are_no_disks)
{
	static const char *const options[] = { "rbind" };
	struct share_mount two[2], inner;
	struct root *r = NULL;

	make_file(0, 0, 0);
	ASSERT(!find("bind", path, "rbind", NULL));
	ASSERT(!find("overlay", "overlay", "lowerdir=/a:/b", NULL));
	ASSERT(!find("xfs", path, NULL, NULL));
	ASSERT(!find("ext4", "relative", NULL, NULL));
	ASSERT(!find("ext4", "/nowhere/at/all", NULL, NULL));
	ASSERT(!find("ext4", test_tmpdir(), NULL, NULL));
	ASSERT(!find("ext4", "/dev/null", NULL, NULL));
	/* What names something else on the host, or would be two options. */
	ASSERT(!find("ext4", path, "journal_path=/dev/sda", NULL));
	ASSERT(!find("ext4", path, "loop", "offset=512"));
	ASSERT(!find("ext4", path, "ro,bind", NULL));
	ASSERT(!find("ext4", path, "X-containerd.mkdir.path=/x", NULL));
	two[0] = two[1] = (struct share_mount){ .type = "ext4", .source = path };
	ASSERT_OK(root_find(two, 2, 1, &r, NULL));
	ASSERT(!r);
	ASSERT_OK(root_find(two, 0, 1, &r, NULL));
	ASSERT(!r);
	inner = (struct share_mount){ .type = "ext4", .source = path, .target = "/var", .options = options };
	ASSERT_OK(root_find(&inner, 1, 1, &r, NULL));
	ASSERT(!r);
}

TEST(without_room_for_disks_a_file_is_shared)
{
	struct share_mount m = { .type = "ext4" };
	_cleanup_root_ struct root *r = NULL;

	make_file(0, 0, 0);
	m.source = path;
	ASSERT_OK(root_find(&m, 1, 0, &r, NULL));
	ASSERT(r && !r->files[0].disk);
}
