#include "image/bundle.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "image/blob.h"
#include "image/bundle_write.h"
#include "image/digest.h"
#include "image/reference.h"
#include "image/source.h"
#include "tarball.h"
#include "test.h"

static struct store store;

static void open_store(void)
{
	setenv("SKERRY_HOME", test_tmpdir(), 1);
	ASSERT_OK(store_open(&store, NULL));
}

#define LAYER "not looked at here"

static char *config_text(void)
{
	_cleanup_free_ char *id = digest_bytes(LAYER, strlen(LAYER));

	return xasprintf("{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"%s\"]}}", id);
}

/* As docker save writes it: the list comes last. */
static void docker_archive(struct buf *out, const char *list)
{
	_cleanup_free_ char *config = config_text();

	tarball_dir(out, "l1/");
	tarball_file(out, "l1/VERSION", "1.0");
	tarball_file(out, "l1/json", "{}");
	tarball_file(out, "l1/layer.tar", LAYER);
	tarball_link(out, '2', "l2/layer.tar", "../l1/layer.tar");
	tarball_file(out, "c.json", config);
	tarball_file(out, "repositories", "{}");
	tarball_file(out, "manifest.json", list);
	tarball_end(out);
}

static char *write_file(const struct buf *b)
{
	char *path = xasprintf("%s/archive.tar", test_tmpdir());
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	ASSERT_OK(write_full(fd, b->p, b->len));
	(void)close(fd);
	return path;
}

static int fetch(const struct buf *b, const char *select, struct oci_descriptor *ret, char **ret_name,
		 struct error *err)
{
	_cleanup_free_ char *path = write_file(b);
	struct source_request q = { .operand = path, .select = select, .progress_fd = -1 };

	return source_docker_archive.fetch(&store, &q, ret, ret_name, err);
}

TEST(a_docker_archive_becomes_blobs_and_a_manifest)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_free_ char *name = NULL, *layer = digest_bytes(LAYER, strlen(LAYER));
	_cleanup_buf_ struct buf archive = {}, text = {};

	open_store();
	docker_archive(
		&archive,
		"[{\"Config\":\"c.json\",\"RepoTags\":[\"app:1\"],\"Layers\":[\"l1/layer.tar\",\"l2/layer.tar\"]}]");
	ASSERT_OK(fetch(&archive, NULL, &d, &name, NULL));
	ASSERT_STREQ(name, "app:1");
	ASSERT_OK(blob_read(&store, d.digest, OCI_DOCUMENT_MAX, &text, NULL));
	ASSERT_OK(oci_manifest_parse(text.p, text.len, "manifest", &m, NULL));
	ASSERT_EQ(m.n_layers, 2);
	ASSERT_STREQ(m.layers[0].digest, layer);
	ASSERT_STREQ(m.layers[1].digest, layer);
	ASSERT_STREQ(m.layers[0].media_type, OCI_LAYER_TAR_TYPE);
	ASSERT(blob_exists(&store, layer) && blob_exists(&store, m.config.digest));
}

TEST(one_of_several_has_to_be_chosen)
{
	static const char list[] =
		"[{\"Config\":\"c.json\",\"RepoTags\":[\"app:1\",\"docker.io/library/app:2\"],\"Layers\":[]},"
		"{\"Config\":\"c.json\",\"RepoTags\":null,\"Layers\":[\"l1/layer.tar\"]}]";
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_error_ struct error e = {}, e2 = {};
	_cleanup_free_ char *name = NULL;
	_cleanup_buf_ struct buf archive = {};

	open_store();
	docker_archive(&archive, list);
	ASSERT_EQ(fetch(&archive, NULL, &d, &name, &e), -EINVAL);
	ASSERT_CONTAINS(e.hint, "--select: app:1, docker.io/library/app:2");
	ASSERT_EQ(fetch(&archive, "nosuch", &d, &name, &e2), -ENOENT);
	ASSERT_CONTAINS(e2.msg, "nosuch");
	ASSERT_OK(fetch(&archive, "app:2", &d, &name, NULL));
	ASSERT_STREQ(name, "docker.io/library/app:2");
}

TEST(damaged_lists_are_refused)
{
	static const char *const bad[] = {
		"",
		"{}",
		"[]",
		"[3]",
		"[{}]",
		"[{\"Config\":3,\"Layers\":[]}]",
		"[{\"Config\":\"c.json\"}]",
		"[{\"Config\":\"c.json\",\"Layers\":{}}]",
		"[{\"Config\":\"c.json\",\"Layers\":[3]}]",
		"[{\"Config\":\"nosuch.json\",\"Layers\":[]}]",
		"[{\"Config\":\"../../etc/passwd\",\"Layers\":[]}]",
		"[{\"Config\":\"/etc/passwd\",\"Layers\":[]}]",
		"[{\"Config\":\"c.json\",\"Layers\":[\"manifest.json\"]}]",
		"[{\"Config\":\"c.json\",\"Layers\":[\"l1\"]}]",
	};

	open_store();
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
		_cleanup_buf_ struct buf archive = {};
		_cleanup_error_ struct error e = {};
		_cleanup_free_ char *name = NULL;

		docker_archive(&archive, bad[i]);
		if (fetch(&archive, NULL, &d, &name, &e) >= 0)
			test_fail(__FILE__, __LINE__, "taken: %s", bad[i]);
		if (error_exit_status(&e) != 65)
			test_fail(__FILE__, __LINE__, "%s: status %d: %s", bad[i], error_exit_status(&e), e.msg);
	}
}

static void assert_refused(struct buf *archive, const char *why)
{
	_cleanup_(bundle_done) struct bundle b = {};
	_cleanup_free_ char *path = write_file(archive);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
	_cleanup_(stream_freep) struct stream *stream = NULL;
	_cleanup_error_ struct error e = {};

	ASSERT_OK(stream_new(fd, "archive", &stream, NULL));
	ASSERT(bundle_read(&store, stream, "archive", NULL, &b, &e) < 0);
	ASSERT_CONTAINS(e.msg, why);
	ASSERT_EQ(error_exit_status(&e), 65);
}

TEST(hostile_archives_are_refused)
{
	_cleanup_buf_ struct buf up = {}, twice = {}, device = {}, lie = {}, cut = {}, away = {}, hole = {},
				 records = {};
	struct tarball_entry node = { .name = "x", .type = '3', .major = 1, .minor = 3 };
	/* A list of no pieces, in a block of its own. */
	static const char map[512] = "0\n";
	struct tarball_entry huge = { .name = "blob", .size = UINT64_C(10) << 30, .content = "x", .n = 1 };

	open_store();
	tarball_file(&up, "../x", "x");
	tarball_end(&up);
	assert_refused(&up, "../x");
	tarball_file(&twice, "a", "1");
	tarball_file(&twice, "a", "2");
	tarball_end(&twice);
	assert_refused(&twice, "twice");
	tarball_add(&device, &node);
	tarball_end(&device);
	assert_refused(&device, "neither a file nor a link");
	/* The name says what the content must be. */
	tarball_file(&lie, "blobs/sha256/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "not that");
	tarball_end(&lie);
	assert_refused(&lie, "another digest");
	tarball_add(&cut, &huge);
	assert_refused(&cut, "archive");
	tarball_link(&away, '2', "a/b", "../../../etc/passwd");
	tarball_end(&away);
	assert_refused(&away, "leads out");
	/* Forty gigabytes of nothing. */
	tarball_record(&records, "GNU.sparse.major", "1", 1);
	tarball_record(&records, "GNU.sparse.minor", "0", 1);
	tarball_record(&records, "GNU.sparse.name", "l1/layer.tar", 12);
	tarball_record(&records, "GNU.sparse.realsize", "42949672960", 11);
	tarball_extended(&hole, 'x', &records);
	tarball_add(&hole,
		    &(struct tarball_entry){ .name = "GNUSparseFile.0/layer.tar", .content = map, .n = sizeof(map) });
	tarball_end(&hole);
	assert_refused(&hole, "a blob with a hole");
}

TEST(links_without_end_lead_nowhere)
{
	_cleanup_(bundle_done) struct bundle b = {};
	_cleanup_buf_ struct buf archive = {};
	_cleanup_free_ char *path = NULL;
	_cleanup_close_ int fd = -EBADF;
	_cleanup_(stream_freep) struct stream *stream = NULL;

	open_store();
	tarball_link(&archive, '2', "a", "b");
	tarball_link(&archive, '2', "b", "a");
	tarball_file(&archive, "d/c", "text");
	tarball_link(&archive, '2', "d/e", "./../d/c");
	tarball_link(&archive, '1', "f", "d/e");
	tarball_end(&archive);
	path = write_file(&archive);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_OK(stream_new(fd, "archive", &stream, NULL));
	ASSERT_OK(bundle_read(&store, stream, "archive", NULL, &b, NULL));
	ASSERT(!bundle_find(&b, "a"));
	ASSERT(!bundle_find(&b, "nosuch"));
	ASSERT_STREQ(bundle_find(&b, "f")->path, "d/c");
}

TEST(an_index_may_not_point_at_itself)
{
	_cleanup_buf_ struct buf archive = {}, text = {}, index = {};
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *name = NULL, *digest = NULL, *inner = NULL;

	open_store();
	/* Deeper than anybody nests them; none can hold its own digest. */
	buf_adds(&text, "{\"manifests\":[]}");
	for (int i = 0; i < 8; i++) {
		_cleanup_free_ char *path = NULL;

		free(digest);
		digest = digest_bytes(text.p, text.len);
		path = xasprintf("blobs/sha256/%s", digest_hex(digest));
		tarball_add(&archive, &(struct tarball_entry){ .name = path, .content = text.p, .n = text.len });
		free(inner);
		inner = xasprintf("{\"mediaType\":\"" OCI_INDEX_TYPE "\",\"digest\":\"%s\",\"size\":%zu}", digest,
				  text.len);
		buf_truncate(&text, 0);
		buf_addf(&text, "{\"manifests\":[%s]}", inner);
	}
	buf_addf(&index, "{\"manifests\":[%s]}", inner);
	tarball_add(&archive, &(struct tarball_entry){ .name = "index.json", .content = index.p, .n = index.len });
	tarball_end(&archive);
	ASSERT_EQ(fetch(&archive, NULL, &d, &name, &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, "without end");
}

TEST(files_are_told_by_how_they_begin)
{
	static const char *const archives[] = {
		"manifest.json",
		"index.json",
		"oci-layout",
		"blobs",
		"blobs/sha256",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.json",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa/VERSION",
		"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	};
	static const char *const roots[] = { ".", "bin", "etc/passwd", "blobs2", "usr", "sha256:a", "sha256" };

	for (size_t i = 0; i < ARRAY_SIZE(archives); i++)
		ASSERT(bundle_begins_with(archives[i]));
	for (size_t i = 0; i < ARRAY_SIZE(roots); i++)
		ASSERT(!bundle_begins_with(roots[i]));
}

/* The list in the archive of an image of that name. Owned by the caller. */
static char *list_of(const char *name)
{
	_cleanup_free_ char *config = config_text();
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_(oci_manifest_done) struct oci_manifest m = { .media_type = xstrdup(OCI_MANIFEST_TYPE) };
	_cleanup_buf_ struct buf manifest = {}, tar = {};
	_cleanup_close_ int fd = open(test_tmpdir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	char *list;

	m.config = (struct oci_descriptor){ .media_type = xstrdup(OCI_CONFIG_TYPE), .size = strlen(config) };
	m.layers = xnew(struct oci_descriptor);
	m.n_layers = 1;
	m.layers[0] = (struct oci_descriptor){ .media_type = xstrdup(OCI_LAYER_TAR_TYPE), .size = strlen(LAYER) };
	ASSERT_OK(blob_put(&store, config, strlen(config), &m.config.digest, NULL));
	ASSERT_OK(blob_put(&store, LAYER, strlen(LAYER), &m.layers[0].digest, NULL));
	oci_manifest_render(&m, &manifest);
	d.size = manifest.len;
	d.media_type = xstrdup(OCI_MANIFEST_TYPE);
	ASSERT_OK(blob_put(&store, manifest.p, manifest.len, &d.digest, NULL));
	ASSERT_OK(bundle_write_docker(&store, &d, name, fd, "archive", -1, NULL));
	ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
	ASSERT_OK(file_read_fd(fd, 1 << 20, &tar));
	list = memmem(tar.p, tar.len, "[{\"Config\"", 10);
	ASSERT(list);
	return xstrdup(list);
}

TEST(a_digest_is_written_as_no_tag)
{
	_cleanup_free_ char *tagged = NULL, *nameless = NULL;

	open_store();
	tagged = list_of("app:1");
	nameless = list_of("app@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef");
	ASSERT_CONTAINS(tagged, "\"RepoTags\":[\"app:1\"]");
	ASSERT_CONTAINS(nameless, "\"RepoTags\":null");
}
