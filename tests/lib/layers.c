#include "layers.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "cli/image_disk.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/unpack.h"
#include "json/json.h"
#include "test.h"
#include "tree_list.h"

void layers_store(struct store *ret, const char *name)
{
	_cleanup_free_ char *home = xasprintf("%s/%s", test_tmpdir(), name);
	_cleanup_error_ struct error e = {};

	ASSERT_EQ(setenv("SKERRY_HOME", home, 1), 0);
	if (store_open(ret, &e) < 0)
		test_fail(__FILE__, __LINE__, "store_open: %s", e.msg);
}

void test_layer_done(struct test_layer *l)
{
	buf_done(&l->tar);
	buf_done(&l->blob);
}

static void pack(const struct test_layer *l, struct buf *out)
{
	/* gzip would note the time. */
	const char *argv[] = { l->packer, l->packer && streq(l->packer, "gzip") ? "-cn" : "-c", NULL };
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *found = NULL;
	int status;

	if (l->blob.len || !l->packer) {
		const struct buf *from = l->blob.len ? &l->blob : &l->tar;

		buf_add(out, from->p, from->len);
		return;
	}
	found = program_find(l->packer);
	if (!found)
		test_skip("no %s", l->packer);
	s.argv = argv;
	ASSERT_OK(spawn_run(&s, &l->tar, out, NULL, SIZE_MAX, 0, &status, NULL));
	ASSERT_EQ(status, 0);
}

static const char *media_type(const struct test_layer *l)
{
	if (l->media_type)
		return l->media_type;
	if (l->packer && streq(l->packer, "gzip"))
		return OCI_LAYER_GZIP_TYPE;
	if (l->packer && streq(l->packer, "zstd"))
		return OCI_LAYER_ZSTD_TYPE;
	return OCI_LAYER_TAR_TYPE;
}

static char *put(const struct store *s, const struct buf *b)
{
	_cleanup_error_ struct error e = {};
	char *digest = NULL;

	if (blob_put(s, b->p ? b->p : "", b->len, &digest, &e) < 0)
		test_fail(__FILE__, __LINE__, "blob_put: %s", e.msg);
	return digest;
}

static char *put_json(const struct store *s, struct json *j, uint64_t *ret_size)
{
	_cleanup_buf_ struct buf text = {};

	json_render(j, false, &text);
	*ret_size = text.len;
	return put(s, &text);
}

static char *put_config(const struct store *s, const struct test_layer *layers, size_t n, const char *config,
			uint64_t *ret_size)
{
	_cleanup_json_ struct json *j = json_object();
	struct json *rootfs = json_object(), *ids = json_array(), *process = NULL;

	for (size_t i = 0; i < n; i++) {
		_cleanup_free_ char *id = digest_bytes(layers[i].tar.p, layers[i].tar.len);

		json_append_string(ids, layers[i].diff_id ? layers[i].diff_id : id);
	}
	json_set_string(j, "architecture", "amd64");
	json_set_string(j, "os", "linux");
	json_set_string(rootfs, "type", "layers");
	json_set(rootfs, "diff_ids", ids);
	json_set(j, "rootfs", rootfs);
	if (config) {
		ASSERT_OK(json_parse(config, strlen(config), "config", &process, NULL));
		json_set(j, "config", process);
	}
	return put_json(s, j, ret_size);
}

void layers_put(const struct store *s, const struct test_layer *layers, size_t n, const char *config,
		struct oci_descriptor *ret)
{
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_buf_ struct buf text = {};

	m.media_type = xstrdup(OCI_MANIFEST_TYPE);
	m.config.media_type = xstrdup(OCI_CONFIG_TYPE);
	m.config.digest = put_config(s, layers, n, config, &m.config.size);
	m.layers = xnew_n(struct oci_descriptor, n ? n : 1);
	m.n_layers = n;
	for (size_t i = 0; i < n; i++) {
		_cleanup_buf_ struct buf packed = {};
		_cleanup_free_ char *digest = NULL;

		pack(&layers[i], &packed);
		if (layers[i].cut)
			buf_truncate(&packed, layers[i].cut);
		digest = put(s, &packed);
		m.layers[i].media_type = xstrdup(media_type(&layers[i]));
		m.layers[i].digest = xstrdup(layers[i].digest ? layers[i].digest : digest);
		m.layers[i].size = layers[i].size ? layers[i].size : packed.len;
	}
	oci_manifest_render(&m, &text);
	*ret = (struct oci_descriptor){ .media_type = xstrdup(OCI_MANIFEST_TYPE), .size = text.len };
	ret->digest = put(s, &text);
}

int layers_unpack_as(const struct store *s, const struct oci_descriptor *manifest, const char *name, const char *format,
		     uint64_t disk_bytes, struct image_meta *ret, struct error *err)
{
	_cleanup_close_ int lock = blob_lock(s, false, NULL);
	struct unpack_request q = { .manifest = manifest,
				    .name = name,
				    .source = "test",
				    .format = format,
				    .disk_bytes = disk_bytes,
				    .make_disk = image_disk_make,
				    .progress_fd = -1 };
	_cleanup_free_ char *digest = NULL;
	int r;

	ASSERT_OK(lock);
	ASSERT_OK(image_disk_format(format, &q.create_tree, NULL));
	r = image_unpack(s, &q, &digest, err);
	if (r >= 0)
		ASSERT_OK(image_meta_read(s, digest, ret, NULL));
	return r;
}

int layers_unpack(const struct store *s, const struct oci_descriptor *manifest, const char *name, uint64_t disk_bytes,
		  struct image_meta *ret, struct error *err)
{
	return layers_unpack_as(s, manifest, name, NULL, disk_bytes, ret, err);
}

static char *tool(const char *program, const char *a, const char *b, const char *c, int *ret_status)
{
	const char *argv[] = { program, a, b, c, NULL };
	struct spawn s = SPAWN_INIT;
	struct buf out = {};
	_cleanup_free_ char *found = program_find(program);

	if (!found)
		test_skip("no %s", program);
	s.argv = argv;
	ASSERT_OK(spawn_run(&s, NULL, &out, NULL, 8 << 20, 0, ret_status, NULL));
	return buf_take(&out);
}

char *layers_debugfs(const struct store *s, const struct image_meta *m, const char *request)
{
	_cleanup_free_ char *path = image_disk_path(s, m);
	int status;

	return tool("debugfs", "-R", request, path, &status);
}

void layers_check_disk(const struct store *s, const struct image_meta *m)
{
	_cleanup_free_ char *path = image_disk_path(s, m), *out = NULL;
	bool erofs = streq(m->fstype, "erofs");
	int status;

	out = erofs ? tool("fsck.erofs", path, NULL, NULL, &status) : tool("e2fsck", "-fn", path, NULL, &status);
	if (status != 0)
		test_fail(__FILE__, __LINE__, "%s: %s", m->fstype, out);
}

static void list_tree(const struct store *s, const struct image_meta *m, struct tree_list *ret)
{
	_cleanup_free_ char *path = image_disk_path(s, m);
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	ASSERT_OK(fd);
	if (streq(m->fstype, "erofs"))
		tree_list_erofs(fd, ret);
	else
		tree_list_ext4(fd, ret);
}

void layers_same_tree(const struct store *s, const struct image_meta *m, const struct store *other_s,
		      const struct image_meta *other)
{
	struct tree_list a = {}, b = {};

	list_tree(s, m, &a);
	list_tree(other_s, other, &b);
	tree_list_same(&a, &b);
	tree_list_done(&a);
	tree_list_done(&b);
}
