/* Layers that nobody's tools would make: each is refused with the entry named and nothing left behind, or gives what the tools that apply
 * layers elsewhere make of it, on a sound disk. */
#include "layers.h"

#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/reference.h"
#include "tarball.h"
#include "test.h"

#define DISK      (UINT64_C(64) << 20)
#define NO_DIGEST "sha256:0000000000000000000000000000000000000000000000000000000000000000"

static void nothing_is_left(const struct store *s)
{
	_cleanup_(image_index_done) struct image_index index = {};
	_cleanup_close_ int fd = image_disks_open(s, NULL);
	DIR *d;

	ASSERT_OK(fd);
	ASSERT_OK(image_index_load(s, &index, NULL));
	ASSERT_EQ(index.n, 0);
	d = fdopendir(fcntl(fd, F_DUPFD_CLOEXEC, 3));
	ASSERT(d);
	for (struct dirent *e; (e = readdir(d));)
		if (e->d_name[0] != '.' || after_prefix(e->d_name, ".tmp-"))
			test_fail(__FILE__, __LINE__, "images/disks/%s is left", e->d_name);
	closedir(d);
}

static void refused_as(const char *format, const struct test_layer *layers, size_t n, uint64_t disk_bytes, int status,
		       const char *why)
{
	_cleanup_store_ struct store s = {};
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_(image_meta_done) struct image_meta m = {};
	_cleanup_error_ struct error e = {};

	layers_store(&s, "home");
	layers_put(&s, layers, n, NULL, &manifest);
	if (layers_unpack_as(&s, &manifest, "hostile", format, disk_bytes, &m, &e) >= 0)
		test_fail(__FILE__, __LINE__, "accepted as %s, expected: %s", format, why);
	if (error_exit_status(&e) != status)
		test_fail(__FILE__, __LINE__, "exit %d, expected %d: %s", error_exit_status(&e), status, e.msg);
	ASSERT_CONTAINS(e.msg, why);
	nothing_is_left(&s);
}

static void refused_with(struct test_layer *layers, size_t n, uint64_t disk_bytes, int status, const char *why)
{
	refused_as("ext4", layers, n, disk_bytes, status, why);
	refused_as("erofs", layers, n, disk_bytes, status, why);
	for (size_t i = 0; i < n; i++)
		test_layer_done(&layers[i]);
}

/* One layer, refused for what is in it. */
static void refused(struct test_layer *l, const char *why)
{
	_cleanup_free_ char *full = xasprintf(": %s", why);

	refused_with(l, 1, DISK, 65, full);
}

static unsigned n_stores;

static void accepted_as(const char *format, const struct test_layer *layers, size_t n, struct store *s,
			struct image_meta *ret)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *home = xasprintf("home-%u", ++n_stores);

	/* One of its own, as nothing is to be left in those of the others. */
	layers_store(s, home);
	layers_put(s, layers, n, NULL, &manifest);
	if (layers_unpack_as(s, &manifest, "odd", format, DISK, ret, &e) < 0)
		test_fail(__FILE__, __LINE__, "refused: %s", e.msg);
	layers_check_disk(s, ret);
}

/* As an ext4 it is what is expected, and as an EROFS the same. */
static void accepted(struct test_layer *layers, size_t n, const char *request, const char *expected)
{
	_cleanup_store_ struct store s = {}, other = {};
	_cleanup_(image_meta_done) struct image_meta m = {}, erofs = {};
	_cleanup_free_ char *out = NULL;

	accepted_as("ext4", layers, n, &s, &m);
	out = layers_debugfs(&s, &m, request);
	ASSERT_CONTAINS(out, expected);
	accepted_as("erofs", layers, n, &other, &erofs);
	layers_same_tree(&s, &m, &other, &erofs);
	for (size_t i = 0; i < n; i++)
		test_layer_done(&layers[i]);
}

TEST(names_that_lead_out)
{
	static const char *const names[] = { "../evil", "a/../../evil", "..", "./..", "/../evil", "a/.." };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct test_layer l = {};
		_cleanup_free_ char *why = xasprintf("'%s': no name below the root", names[i]);

		tarball_file(&l.tar, "before", "1");
		tarball_file(&l.tar, names[i], "2");
		refused(&l, why);
	}
}

TEST(the_layer_is_named)
{
	struct test_layer l[3] = { { .packer = "gzip" }, { .packer = "gzip" }, {} };

	tarball_file(&l[0].tar, "one", "1");
	tarball_file(&l[1].tar, "../two", "2");
	tarball_file(&l[2].tar, "three", "3");
	refused_with(l, 3, DISK, 65, "layer 2 of 3, sha256:");
}

/* Every tool that applies layers takes them from the image's root. */
TEST(absolute_names_are_the_images_own)
{
	struct test_layer l = {};

	tarball_file(&l.tar, "/etc/passwd", "ours");
	tarball_link(&l.tar, '1', "/etc/copy", "/etc/passwd");
	accepted(&l, 1, "cat /etc/copy", "ours");
}

TEST(writing_through_a_link_stays_inside)
{
	static const char *const targets[] = { "/etc", "../../../../etc", "/../../etc", "//etc/." };

	for (size_t i = 0; i < ARRAY_SIZE(targets); i++) {
		struct test_layer l = {};

		tarball_dir(&l.tar, "etc");
		tarball_link(&l.tar, '2', "link", targets[i]);
		tarball_file(&l.tar, "link/passwd", "inside");
		accepted(&l, 1, "cat /etc/passwd", "inside");
	}
}

TEST(links_in_a_circle)
{
	struct test_layer l = {};

	tarball_link(&l.tar, '2', "a", "b");
	tarball_link(&l.tar, '2', "b", "a");
	tarball_file(&l.tar, "a/x", "1");
	refused(&l, "file system: 'a/x': Too many levels of symbolic links");
}

TEST(hard_links_to_what_is_not_there)
{
	struct test_layer outside = {}, missing = {}, directory = {}, later = {}, itself = {};

	tarball_link(&outside.tar, '1', "mine", "../../etc/shadow");
	refused(&outside, "'mine': a hard link to a name that is not below the root");
	tarball_link(&missing.tar, '1', "mine", "etc/shadow");
	refused(&missing, "file system: 'mine': link to 'etc/shadow': No such file");
	tarball_dir(&directory.tar, "d");
	tarball_link(&directory.tar, '1', "mine", "d");
	refused(&directory, "file system: 'mine': link to the directory 'd'");
	/* In the order in which archives are read. */
	tarball_link(&later.tar, '1', "mine", "later");
	tarball_file(&later.tar, "later", "1");
	refused(&later, "file system: 'mine': link to 'later'");
	tarball_link(&itself.tar, '1', "mine", "mine");
	refused(&itself, "file system: 'mine': link to 'mine'");
}

TEST(hard_links_reach_into_lower_layers)
{
	struct test_layer l[2] = {};

	tarball_file(&l[0].tar, "low", "lower");
	tarball_link(&l[1].tar, '1', "high", "low");
	tarball_file(&l[1].tar, ".wh.low", "");
	accepted(l, 2, "stat /high", "Links: 1 ");
}

TEST(whiteouts_of_what_cannot_be)
{
	static const char *const names[] = { ".wh...", "d/.wh..", "d/.wh..." };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct test_layer l = {};
		_cleanup_free_ char *why = xasprintf("'%s': a whiteout of nothing", names[i]);

		tarball_dir(&l.tar, "d");
		tarball_file(&l.tar, names[i], "");
		refused(&l, why);
	}
	{
		struct test_layer l = {};

		tarball_file(&l.tar, ".wh.", "");
		refused(&l, "'.wh.': a whiteout of nothing");
	}
}

TEST(one_kind_over_another)
{
	struct test_layer device = {}, file = {}, dir = {}, through = {}, root = {};

	tarball_file(&device.tar, "dev/below", "1");
	tarball_add(&device.tar, &(struct tarball_entry){ .name = "dev", .type = '4', .major = 8, .minor = 1 });
	accepted(&device, 1, "stat /dev", "Type: block special");
	tarball_file(&file.tar, "d/e/below", "1");
	tarball_file(&file.tar, "d", "a file now");
	accepted(&file, 1, "cat /d", "a file now");
	tarball_file(&dir.tar, "f", "1");
	tarball_dir(&dir.tar, "f");
	tarball_file(&dir.tar, "f/below", "inside");
	accepted(&dir, 1, "cat /f/below", "inside");
	tarball_file(&through.tar, "f", "1");
	tarball_file(&through.tar, "f/below", "2");
	refused(&through, "file system: 'f/below': Not a directory");
	tarball_file(&root.tar, ".", "1");
	refused(&root, "file system: the root is a directory");
}

TEST(whatever_stands_at_lost_and_found)
{
	struct test_layer l = {};

	tarball_file(&l.tar, "lost+found", "a file");
	accepted(&l, 1, "cat /lost+found", "a file");
}

static void pack_with(const char *program, const struct buf *in, struct buf *out)
{
	const char *argv[] = { program, "-c", NULL };
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *found = program_find(program);
	int status;

	if (!found)
		test_skip("no %s", program);
	s.argv = argv;
	ASSERT_OK(spawn_run(&s, in, out, NULL, SIZE_MAX, 0, &status, NULL));
	ASSERT_EQ(status, 0);
}

/* The head of a file of @size bytes, and @n times 64 MiB of zeros, each packed for itself: streams may be put one behind the other. */
static void zeros(struct test_layer *l, const char *program, uint64_t size, unsigned n)
{
	_cleanup_free_ char *text = xasprintf("%" PRIu64, size);
	_cleanup_buf_ struct buf head = {}, block = {}, packed = {}, records = {};

	tarball_record(&records, "size", text, strlen(text));
	tarball_extended(&head, 'x', &records);
	tarball_file(&head, "zeros", "");
	pack_with(program, &head, &l->blob);
	buf_commit(&block, (memset(buf_reserve(&block, 64 << 20), 0, 64 << 20), 64 << 20));
	pack_with(program, &block, &packed);
	for (unsigned i = 0; i < n; i++)
		buf_add(&l->blob, packed.p, packed.len);
	l->diff_id = NO_DIGEST;
}

TEST(ten_gibibytes_of_zeros_in_ten_kilobytes)
{
	struct test_layer l = {};

	zeros(&l, "bzip2", UINT64_C(10) << 30, 160);
	ASSERT(l.blob.len < 20000);
	refused_with(&l, 1, UINT64_C(16) << 30, 65, "'zeros': it unpacks to more than 2000 times its size");
}

/* A swap file of written zeros, as a commit with --compression zstd packs it. */
TEST(two_gibibytes_of_zeros_in_zstd_are_taken)
{
	static const char *const formats[] = { "ext4", "erofs" };
	const uint64_t size = UINT64_C(2) << 30, piece = 64 << 20;
	_cleanup_(digest_freep) struct digest *md = digest_new();
	_cleanup_free_ char *diff_id = NULL, *text = xasprintf("%" PRIu64, size), *nothing = xcalloc(1, piece);
	_cleanup_buf_ struct buf head = {}, records = {};
	struct test_layer l = {};

	zeros(&l, "zstd", size, (unsigned)(size / piece));
	ASSERT(l.blob.len < size / 10000);
	tarball_record(&records, "size", text, strlen(text));
	tarball_extended(&head, 'x', &records);
	tarball_file(&head, "zeros", "");
	digest_add(md, head.p, head.len);
	for (uint64_t at = 0; at < size; at += piece)
		digest_add(md, nothing, piece);
	l.diff_id = diff_id = digest_text(md);
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		_cleanup_store_ struct store s = {};
		_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
		_cleanup_(image_meta_done) struct image_meta m = {};
		_cleanup_error_ struct error e = {};
		_cleanup_free_ char *path = NULL;
		struct stat st;

		layers_store(&s, formats[i]);
		layers_put(&s, &l, 1, NULL, &manifest);
		if (layers_unpack_as(&s, &manifest, "swap", formats[i], UINT64_C(4) << 30, &m, &e) < 0)
			test_fail(__FILE__, __LINE__, "%s: refused: %s", formats[i], e.msg);
		path = xasprintf("%s/images/disks/%s/disk.raw", s.home_path, digest_hex(m.digest));
		ASSERT_EQ(stat(path, &st), 0);
		ASSERT(st.st_blocks * UINT64_C(512) < UINT64_C(100) << 20);
	}
	test_layer_done(&l);
}

TEST(ten_gibibytes_of_zeros_that_do_not_fit)
{
	struct test_layer l = {};

	zeros(&l, "gzip", UINT64_C(10) << 30, 160);
	refused_with(&l, 1, DISK, 73, "'zeros': file system: content: the disk is full");
}

TEST(a_file_of_ten_gibibytes_that_is_mostly_hole)
{
	_cleanup_buf_ struct buf records = {};
	struct test_layer l = { .packer = "gzip" };

	tarball_record(&records, "GNU.sparse.size", "10737418240", 11);
	tarball_record(&records, "GNU.sparse.map", "0,3,10737418237,3", 17);
	tarball_extended(&l.tar, 'x', &records);
	tarball_file(&l.tar, "sparse", "abcdef");
	tarball_end(&l.tar);
	accepted(&l, 1, "stat /sparse", "Size: 10737418240");
}

/* Entries without content, packed as they are made. */
static void many_entries(struct test_layer *l, unsigned n)
{
	_cleanup_buf_ struct buf chunk = {};
	z_stream z = {};

	ASSERT_EQ(deflateInit2(&z, 1, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY), Z_OK);
	for (unsigned i = 0; i < n; i++) {
		char name[32];

		(void)snprintf(name, sizeof(name), "d%u/f%u", i / 1000, i);
		tarball_file(&chunk, name, "");
		if (chunk.len < 1 << 20 && i + 1 < n)
			continue;
		z.next_in = (uint8_t *)chunk.p;
		z.avail_in = (unsigned)chunk.len;
		do {
			z.next_out = buf_reserve(&l->blob, 1 << 16);
			z.avail_out = 1 << 16;
			ASSERT(deflate(&z, i + 1 < n ? Z_NO_FLUSH : Z_FINISH) >= 0);
			buf_commit(&l->blob, (1 << 16) - z.avail_out);
		} while (!z.avail_out);
		buf_truncate(&chunk, 0);
	}
	ASSERT_EQ(deflateEnd(&z), Z_OK);
	l->diff_id = NO_DIGEST;
}

TEST(five_million_entries)
{
	struct test_layer l = {};

	many_entries(&l, 5000000);
	refused_with(&l, 1, UINT64_C(512) << 30, 65, "more names than are allowed");
}

TEST(digests_and_sizes_that_lie)
{
	struct test_layer wrong = { .packer = "gzip", .diff_id = NO_DIGEST }, plain = { .diff_id = NO_DIGEST },
			  missing = { .digest = NO_DIGEST }, large = { .size = 10000 }, wrapped = { .size = INT64_MAX };

	tarball_file(&wrong.tar, "f", "1");
	refused(&wrong, "what it unpacks to: its digest is sha256:");
	tarball_file(&plain.tar, "f", "1");
	refused(&plain, "what it unpacks to: its digest is sha256:");
	tarball_file(&missing.tar, "f", "1");
	refused(&missing, "the blob is not there");
	tarball_file(&large.tar, "f", "1");
	refused(&large, "it has 1024 bytes, not 10000");
	tarball_file(&wrapped.tar, "f", "1");
	refused(&wrapped, "it has 1024 bytes, not 9223372036854775807");
}

TEST(a_blob_that_was_damaged_on_disk)
{
	_cleanup_store_ struct store s = {};
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_(image_meta_done) struct image_meta m = {};
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *digest = NULL, *path = NULL;
	struct test_layer l = {};
	int fd;

	layers_store(&s, "home");
	tarball_file(&l.tar, "f", "content");
	tarball_end(&l.tar);
	layers_put(&s, &l, 1, NULL, &manifest);
	digest = digest_bytes(l.tar.p, l.tar.len);
	path = xasprintf("%s/images/blobs/sha256/%s", s.home_path, digest + 7);
	ASSERT_EQ(chmod(path, 0600), 0);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ASSERT_OK(fd);
	ASSERT_OK(pwrite_full(fd, "C", 1, 512));
	close(fd);
	ASSERT(layers_unpack(&s, &manifest, "rotten", DISK, &m, &e) < 0);
	ASSERT_CONTAINS(e.msg, "the blob: its digest is");
	ASSERT_EQ(error_exit_status(&e), 65);
	nothing_is_left(&s);
	test_layer_done(&l);
}

TEST(a_layer_cut_off_anywhere)
{
	static const char *const packers[] = { NULL, "gzip", "zstd", "xz", "bzip2" };
	static const size_t cuts[] = { 7, 40, 100 };

	for (size_t i = 0; i < ARRAY_SIZE(packers); i++)
		for (size_t k = 0; k < ARRAY_SIZE(cuts); k++) {
			struct test_layer l = { .packer = packers[i], .cut = cuts[k] };

			tarball_file(&l.tar, "some-file-with-a-longer-name", "some content that takes some room");
			tarball_end(&l.tar);
			refused_with(&l, 1, DISK, 65, packers[i] ? "damaged" : "ends in the middle");
		}
}

TEST(members_and_rubbish)
{
	struct test_layer two = {}, rubbish = {};
	_cleanup_buf_ struct buf second = {};

	tarball_file(&two.tar, "one", "1");
	pack_with("gzip", &two.tar, &two.blob);
	tarball_file(&second, "two", "second");
	tarball_end(&second);
	buf_add(&two.tar, second.p, second.len);
	pack_with("gzip", &second, &two.blob);
	accepted(&two, 1, "cat /two", "second");
	tarball_file(&rubbish.tar, "one", "1");
	tarball_end(&rubbish.tar);
	pack_with("gzip", &rubbish.tar, &rubbish.blob);
	buf_adds(&rubbish.blob, "and then some");
	refused(&rubbish, "damaged: something that is not gzip behind its end");
}

static void with_xattr(struct test_layer *l, const char *name, const void *value, size_t n)
{
	_cleanup_free_ char *key = xasprintf("SCHILY.xattr.%s", name);
	_cleanup_buf_ struct buf records = {};

	tarball_record(&records, key, value, n);
	tarball_extended(&l->tar, 'x', &records);
	tarball_file(&l->tar, "f", "x");
	tarball_end(&l->tar);
}

TEST(attributes_that_are_too_much)
{
	_cleanup_free_ char *value = xcalloc(1, 65537);
	struct test_layer large = {}, larger = {}, many = {}, acl = {};
	_cleanup_buf_ struct buf records = {};

	/* What no ext4 without inodes for values can hold. */
	with_xattr(&large, "user.large", value, 65536);
	refused(&large, "'f': ");
	with_xattr(&larger, "user.large", value, 65537);
	refused(&larger, "'f': ");
	for (int i = 0; i < 1000; i++) {
		_cleanup_free_ char *key = xasprintf("SCHILY.xattr.user.%d", i);

		tarball_record(&records, key, "v", 1);
	}
	tarball_extended(&many.tar, 'x', &records);
	tarball_file(&many.tar, "f", "x");
	refused(&many, "entry 1: too many extended attributes");
	with_xattr(&acl, "system.posix_acl_access", "\2\0\0\0\1\0", 6);
	refused(&acl, "'f': ");
}

TEST(names_that_are_too_long)
{
	char name[5001];
	struct test_layer component = {}, path = {}, link = {};
	_cleanup_buf_ struct buf one = {}, two = {}, three = {};
	_cleanup_free_ char *target = xcalloc(1, (1 << 20) + 1);

	memset(name, 'n', sizeof(name));
	tarball_record(&one, "path", name, 300);
	tarball_extended(&component.tar, 'x', &one);
	tarball_file(&component.tar, "short", "x");
	refused_with(&component, 1, DISK, 65, "File name too long");
	for (size_t i = 100; i < sizeof(name); i += 100)
		name[i] = '/';
	tarball_record(&two, "path", name, 5000);
	tarball_extended(&path.tar, 'x', &two);
	tarball_file(&path.tar, "short", "x");
	refused_with(&path, 1, DISK, 65, "File name too long");
	memset(target, 't', 1 << 20);
	tarball_record(&three, "linkpath", target, (1 << 20) - 100);
	tarball_extended(&link.tar, 'x', &three);
	tarball_link(&link.tar, '2', "link", "short");
	refused(&link, "file system: 'link': no target for a symbolic link");
}

TEST(records_that_lie)
{
	static const struct {
		const char *p;
		size_t n;
		const char *why;
	} cases[] = {
		{ "999999 path=x\n", 14, "a record's length is wrong" },
		{ "3 path=x\n", 9, "a record is damaged" },
		{ "18446744073709551615 path=x\n", 28, "a record's length is wrong" },
		{ "14 path=a\0bcd\n", 14, "a NUL byte in its name" },
		{ "30 size=18446744073709551615\n", 29, "a record's length is wrong" },
		{ "29 size=18446744073709551615\n", 29, "'size' has no such value" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		_cleanup_buf_ struct buf records = {};
		struct test_layer l = {};

		buf_add(&records, cases[i].p, cases[i].n);
		tarball_extended(&l.tar, 'x', &records);
		tarball_file(&l.tar, "f", "x");
		refused_with(&l, 1, DISK, 65, cases[i].why);
	}
}

/* A document as it comes from outside, in the place of the manifest's. */
static void document_refused(const struct store *s, const char *text, const char *why)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = { .media_type = xstrdup(OCI_MANIFEST_TYPE) };
	_cleanup_(image_meta_done) struct image_meta m = {};
	_cleanup_error_ struct error e = {};

	ASSERT_OK(blob_put(s, text, strlen(text), &manifest.digest, NULL));
	ASSERT(layers_unpack(s, &manifest, "hostile", DISK, &m, &e) < 0);
	ASSERT_CONTAINS(e.msg, why);
	ASSERT_EQ(error_exit_status(&e), 65);
	nothing_is_left(s);
}

TEST(documents_that_are_none)
{
#define DESCRIPTOR(type, digest, size) "{\"mediaType\": \"" type "\", \"digest\": \"" digest "\", \"size\": " size "}"
	static const char *const cases[][2] = {
		{ "", "manifest" },
		{ "[]", "manifest: expected an object" },
		{ "{", "manifest" },
		{ "{}", "config" },
		{ "{\"config\": 1, \"layers\": []}", "manifest: config" },
		{ "{\"config\": " DESCRIPTOR("x", "sha256:1", "1") ", \"layers\": []}",
		  "config: the digest is no sha256" },
		{ "{\"config\": " DESCRIPTOR("x", NO_DIGEST, "18446744073709551616") ", \"layers\": []}",
		  "number out of range" },
		{ "{\"config\": " DESCRIPTOR("x", NO_DIGEST, "18446744073709551615") ", \"layers\": []}",
		  "config: the size is out of range" },
		{ "{\"config\": " DESCRIPTOR("x", NO_DIGEST, "-1") ", \"layers\": []}", "config" },
		{ "{\"config\": " DESCRIPTOR("x", NO_DIGEST, "1") ", \"layers\": {}}", "layers" },
		{ "{\"config\": " DESCRIPTOR("x", NO_DIGEST, "1") ", \"layers\": []}",
		  "the configuration is not there" },
		{ "{\"mediaType\": \"" OCI_INDEX_TYPE
		  "\", \"config\": " DESCRIPTOR("x", NO_DIGEST, "1") ", \"layers\": []}",
		  "mediaType" },
	};

	_cleanup_store_ struct store s = {};

	layers_store(&s, "home");
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		document_refused(&s, cases[i][0], cases[i][1]);
}

static void read_manifest(const struct store *s, const struct test_layer *l, size_t n, struct oci_manifest *ret)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_buf_ struct buf text = {};

	layers_put(s, l, n, NULL, &d);
	ASSERT_OK(blob_read(s, d.digest, OCI_DOCUMENT_MAX, &text, NULL));
	ASSERT_OK(oci_manifest_parse(text.p, text.len, "manifest", ret, NULL));
}

TEST(layers_and_configuration_disagree)
{
	_cleanup_store_ struct store s = {};
	_cleanup_(oci_manifest_done) struct oci_manifest one = {}, two = {};
	_cleanup_buf_ struct buf mixed = {};
	struct test_layer l[2] = {};

	layers_store(&s, "home");
	tarball_file(&l[0].tar, "f", "1");
	tarball_file(&l[1].tar, "g", "1");
	read_manifest(&s, l, 1, &one);
	read_manifest(&s, l, 2, &two);
	free(one.config.digest);
	one.config.digest = xstrdup(two.config.digest);
	oci_manifest_render(&one, &mixed);
	document_refused(&s, mixed.p, "the manifest has 1 layers, the configuration 2");
	test_layer_done(&l[0]);
	test_layer_done(&l[1]);
}

TEST(a_layer_of_another_kind)
{
	struct test_layer l = { .media_type = "application/vnd.cncf.helm.chart.content.v1.tar" };

	tarball_file(&l.tar, "f", "1");
	refused(&l, "media type 'application/vnd.cncf.helm.chart.content.v1.tar': no layer's");
}
