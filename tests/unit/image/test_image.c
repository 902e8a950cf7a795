#include "image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include <sys/stat.h>

#include "base/file.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/index.h"
#include "image/oci.h"
#include "image/reference.h"
#include "image/workshop.h"
#include "test.h"

static struct store store;

static void open_store(void)
{
	setenv("SKERRY_HOME", test_tmpdir(), 1);
	ASSERT_OK(store_open(&store, NULL));
}

/* An image whose disk holds @content; returns its digest, owned by the caller, or NULL. */
static char *seal_as(const char *name, const char *content, const char *command, const char *chain)
{
	_cleanup_(image_meta_done) struct image_meta m = { .virtual_bytes = 7, .source = xstrdup("test") };
	_cleanup_workshop_ struct workshop w = WORKSHOP_INIT;

	ASSERT_OK(workshop_open(&store, &w, NULL));
	ASSERT_OK(file_write_at(w.dir_fd, "disk.raw", content, strlen(content), 0600, 0));
	m.disk = digest_bytes(content, strlen(content));
	m.chain = xstrdup(chain);
	if (command)
		strv_add(&m.command, command);
	return image_seal(&w, name, NULL, &m, NULL) < 0 ? NULL : TAKE_PTR(m.digest);
}

static char *seal(const char *name, const char *content)
{
	return seal_as(name, content, NULL, NULL);
}

static char *disk_path(const char *digest)
{
	struct image_meta m = { .digest = xstrdup(digest), .format = xstrdup("raw") };
	char *path = image_disk_path(&store, &m);

	image_meta_done(&m);
	return path;
}

static bool disk_exists(const char *digest)
{
	_cleanup_free_ char *path = disk_path(digest);

	return access(path, F_OK) == 0;
}

static int used(const char *digest, char **ret_by, void *data)
{
	if (!streq(digest, data))
		return 0;
	*ret_by = xstrdup("machine 'web'");
	return 1;
}

TEST(a_sealed_image_is_read_only_and_found_by_name_and_digest)
{
	_cleanup_free_ char *digest = NULL, *part = NULL, *path = NULL, *pinned = NULL;
	struct stat st;

	open_store();
	digest = seal("tiny", "a");
	part = xstrndup(digest, strlen("sha256:") + 12);
	pinned = xasprintf("docker.io/library/tiny@%s", digest);
	for (size_t i = 0; i < 6; i++) {
		const char *names[] = { "tiny", "tiny:latest", "docker.io/library/tiny", pinned, digest, part };
		struct image_meta m = {};

		ASSERT_OK(image_find(&store, names[i], &m, NULL));
		ASSERT_STREQ(m.digest, digest);
		ASSERT_STREQ(m.format, "raw");
		image_meta_done(&m);
	}
	path = disk_path(digest);
	ASSERT_OK(stat(path, &st));
	ASSERT_EQ(st.st_mode & 07777, 0444);
}

TEST(the_store_is_an_image_layout)
{
	_cleanup_(oci_index_done) struct oci_index index = {};
	_cleanup_(oci_manifest_done) struct oci_manifest manifest = {};
	_cleanup_(oci_config_done) struct oci_config config = {};
	_cleanup_buf_ struct buf text = {}, blob = {}, document = {}, layout = {};
	_cleanup_free_ char *digest = NULL;

	open_store();
	digest = seal_as("x:1", "a", "/bin/sh", NULL);
	ASSERT_OK(file_read_at(store.images_fd, "oci-layout", 100, &layout));
	ASSERT_CONTAINS(layout.p, "1.0.0");
	ASSERT_OK(file_read_at(store.images_fd, "index.json", 1 << 20, &text));
	ASSERT_OK(oci_index_parse(text.p, text.len, "index.json", &index, NULL));
	ASSERT_EQ(index.n, 1);
	ASSERT_STREQ(index.manifests[0].digest, digest);
	ASSERT_STREQ(oci_annotation(&index.manifests[0], OCI_ANNOTATION_REF_NAME), "x:1");
	ASSERT_OK(blob_read(&store, digest, OCI_DOCUMENT_MAX, &blob, NULL));
	ASSERT_EQ(blob.len, index.manifests[0].size);
	ASSERT_OK(oci_manifest_parse(blob.p, blob.len, "manifest", &manifest, NULL));
	ASSERT_OK(blob_read(&store, manifest.config.digest, OCI_DOCUMENT_MAX, &document, NULL));
	ASSERT_OK(oci_config_parse(document.p, document.len, "config", &config, NULL, NULL));
	ASSERT_STREQ(config.command.items[0], "/bin/sh");
}

TEST(a_name_that_is_sealed_again_gets_the_next_generation)
{
	_cleanup_free_ char *a = NULL, *b = NULL, *again = NULL, *back = NULL;
	struct image_index index = {};

	open_store();
	a = seal("x", "a");
	b = seal("x", "b");
	again = seal("x", "b");
	ASSERT_STREQ(again, b);
	ASSERT_OK(image_index_load(&store, &index, NULL));
	ASSERT_EQ(index.n, 1);
	ASSERT_EQ(index.refs[0].generation, 3);
	ASSERT_STREQ(index.refs[0].digest, b);
	image_index_done(&index);
	/* The older one stays until it is collected. */
	ASSERT(disk_exists(a));
	ASSERT_OK(image_collect(&store, NULL, NULL, NULL));
	ASSERT(!disk_exists(a));
	ASSERT(disk_exists(b));
	/* The counter only rises, also for a name that was away. */
	ASSERT_OK(image_delete(&store, "x", NULL, NULL, NULL));
	back = seal("x", "c");
	ASSERT_OK(image_index_load(&store, &index, NULL));
	ASSERT_EQ(index.refs[0].generation, 4);
	ASSERT_EQ(index.generations.n, 0);
	image_index_done(&index);
}

TEST(equal_content_is_kept_once)
{
	_cleanup_free_ char *one = NULL, *two = NULL;

	open_store();
	one = seal("one", "a");
	two = seal("two", "a");
	ASSERT_STREQ(one, two);
	ASSERT_OK(image_delete(&store, "one", NULL, NULL, NULL));
	ASSERT(disk_exists(one));
	ASSERT_OK(image_delete(&store, "two", NULL, NULL, NULL));
	ASSERT(!disk_exists(one));
}

TEST(images_with_one_disk_and_other_commands_are_two)
{
	_cleanup_free_ char *one = NULL, *two = NULL;

	open_store();
	one = seal_as("one", "a", "/bin/true", NULL);
	two = seal_as("two", "a", "/bin/false", NULL);
	ASSERT(!streq(one, two));
	ASSERT_OK(image_delete(&store, "one", NULL, NULL, NULL));
	ASSERT(disk_exists(two));
}

TEST(a_disk_of_the_same_chain_is_shared)
{
	_cleanup_free_ char *digest = NULL, *path = NULL;
	_cleanup_workshop_ struct workshop w = WORKSHOP_INIT;
	struct image_meta m = {};
	struct stat shared, original;

	open_store();
	digest = seal_as("one", "a", NULL, "chain-1");
	ASSERT_OK(workshop_open(&store, &w, NULL));
	ASSERT_EQ(workshop_share(&w, "chain-2", &m, NULL), 0);
	ASSERT_EQ(workshop_share(&w, "chain-1", &m, NULL), 1);
	ASSERT_STREQ(m.digest, digest);
	image_meta_done(&m);
	path = disk_path(digest);
	ASSERT_OK(stat(path, &original));
	ASSERT_OK(fstatat(w.dir_fd, "disk.raw", &shared, 0));
	ASSERT_EQ(shared.st_ino, original.st_ino);
}

TEST(an_image_gets_another_name)
{
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *digest = NULL;
	struct image_meta m = {};

	open_store();
	digest = seal("one", "a");
	ASSERT_OK(image_tag(&store, "one", "registry.example/me/two:2", NULL));
	ASSERT_OK(image_delete(&store, "one", NULL, NULL, NULL));
	ASSERT_OK(image_find(&store, "registry.example/me/two:2", &m, NULL));
	ASSERT_STREQ(m.digest, digest);
	image_meta_done(&m);
	ASSERT_EQ(image_tag(&store, "one", "three", &e), -ENOENT);
	ASSERT(image_tag(&store, "registry.example/me/two:2", "Bad Name", NULL) < 0);
}

TEST(an_image_in_use_is_not_deleted)
{
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *a = NULL, *b = NULL;

	open_store();
	a = seal("x", "a");
	ASSERT_EQ(image_delete(&store, "x", used, a, &e), -EBUSY);
	ASSERT_EQ(e.kind, ERROR_BUSY);
	ASSERT_CONTAINS(e.msg, "machine 'web'");
	ASSERT(disk_exists(a));
	/* Deleting by digest does not pull a name's disk away. */
	ASSERT_EQ(image_delete(&store, a, NULL, NULL, NULL), -EBUSY);
	/* An older generation that is in use stays when the name goes. */
	b = seal("x", "b");
	ASSERT_OK(image_delete(&store, "x", used, a, NULL));
	ASSERT(disk_exists(a));
	ASSERT(!disk_exists(b));
}

TEST(what_is_not_there_is_told_with_a_hint)
{
	static const char *const names[] = { "tiny", "debian:trixie", "nothing", "sha256:cccccccccccc" };
	struct image_meta m = {};

	open_store();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		_cleanup_error_ struct error e = {};

		ASSERT_EQ(image_find(&store, names[i], &m, &e), -ENOENT);
		ASSERT_EQ(e.kind, ERROR_NOT_FOUND);
		ASSERT_CONTAINS(e.hint, i < 2 ? "skerry image build" : "skerry image list");
	}
	ASSERT_EQ(image_delete(&store, "nothing", NULL, NULL, NULL), -ENOENT);
	ASSERT(image_find(&store, "../../etc", &m, NULL) < 0);
	m.format = xstrdup("raw");
	m.digest = xstrdup("sha256:../../../etc/passwd");
	ASSERT(!image_disk_path(&store, &m));
	image_meta_done(&m);
}

TEST(two_digests_with_one_beginning_are_ambiguous)
{
	static const char *const names[] = {
		"disks/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
		"disks/aaaaaaaaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
	};
	_cleanup_error_ struct error e = {};
	struct image_meta m = {};

	open_store();
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		ASSERT_OK(mkdir_parents_at(store.images_fd, names[i], 0700));
	ASSERT_EQ(image_find(&store, "sha256:aaaaaaaaaaaa", &m, &e), -EINVAL);
	ASSERT_CONTAINS(e.msg, "more than one");
}

TEST(damaged_records_are_data_errors)
{
	_cleanup_error_ struct error e = {}, e2 = {};
	static const char evil[] = "{\"manifests\":[{\"mediaType\":\"x\",\"size\":1,\"digest\":\"sha256:../../etc\"}]}";
	_cleanup_free_ char *digest = NULL, *path = NULL;
	struct image_index index = {};
	struct image_meta m = {};

	open_store();
	digest = seal("x", "a");
	path = xasprintf("disks/%s/meta.json", digest_hex(digest));
	ASSERT_OK(file_write_at(store.images_fd, path, "{}", 2, 0600, 0));
	ASSERT_EQ(image_find(&store, "x", &m, &e), -EBADMSG);
	ASSERT_EQ(e.kind, ERROR_DATA);
	ASSERT_OK(file_write_at(store.images_fd, "index.json", evil, sizeof(evil) - 1, 0600, 0));
	ASSERT_EQ(image_index_load(&store, &index, &e2), -EBADMSG);
	ASSERT_EQ(e2.kind, ERROR_DATA);
}

TEST(a_bad_name_is_not_sealed)
{
	_cleanup_close_ int disks = -EBADF;
	_cleanup_strv_ struct strv left = {};

	open_store();
	ASSERT(!seal("sha256:aaaaaaaaaaaa", "a"));
	ASSERT(!seal("../x", "a"));
	ASSERT(!seal("Upper", "a"));
	disks = image_disks_open(&store, NULL);
	ASSERT_OK(image_list_disks(disks, &left, NULL));
	for (size_t i = 0; i < left.n; i++)
		ASSERT(left.items[i][0] == '.' && strlen(left.items[i]) < 3);
}

TEST(the_same_image_with_another_disk_is_refused)
{
	_cleanup_(image_meta_done) struct image_meta m = { .virtual_bytes = 7 };
	_cleanup_workshop_ struct workshop w = WORKSHOP_INIT;
	_cleanup_(oci_descriptor_done) struct oci_descriptor manifest = {};
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *digest = NULL;

	open_store();
	digest = seal("x", "a");
	manifest.digest = xstrdup(digest);
	manifest.media_type = xstrdup(OCI_MANIFEST_TYPE);
	ASSERT_OK(workshop_open(&store, &w, NULL));
	ASSERT_OK(file_write_at(w.dir_fd, "disk.raw", "b", 1, 0600, 0));
	m.disk = digest_bytes("b", 1);
	ASSERT_EQ(image_seal(&w, "x", &manifest, &m, &e), -EEXIST);
	ASSERT_CONTAINS(e.msg, "another disk");
	ASSERT(disk_exists(digest));
}

TEST(leavings_of_a_crash_go_and_a_living_build_stays)
{
	_cleanup_workshop_ struct workshop alive = WORKSHOP_INIT, next = WORKSHOP_INIT;

	open_store();
	ASSERT_OK(workshop_open(&store, &alive, NULL));
	ASSERT_OK(mkdirat(alive.disks_fd, ".tmp-dead", 0700));
	ASSERT_OK(workshop_open(&store, &next, NULL));
	ASSERT_EQ(faccessat(alive.disks_fd, ".tmp-dead", F_OK, 0), -1);
	ASSERT_OK(faccessat(alive.disks_fd, alive.name, F_OK, 0));
	ASSERT_OK(access(next.scratch_path, F_OK));
}
