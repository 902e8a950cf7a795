/* tar:FILE, the tar of a root file system: it becomes the one layer of an image. And what is piped in, which is one of these most often: its first
 * entry tells, which is read and then given again. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "image/blob.h"
#include "image/bundle.h"
#include "image/digest.h"
#include "image/layer_store.h"
#include "image/source.h"
#include "image/stream.h"
#include "image/tar.h"

enum { PEEK_MAX = 4 << 20 }; /* three of the largest extended headers */

/* The stream's digest while it is looked at as a tar: what is no archive at all is refused before it is an image. */
struct through {
	struct stream *stream;
	struct digest *md;
	struct blob_writer *blob;
	uint64_t bytes;
};

static int read_through(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	struct through *t = data;
	int r = stream_read(t->stream, ret, ret_n, err);

	if (r < 0 || !*ret_n)
		return r;
	digest_add(t->md, *ret, *ret_n);
	t->bytes += *ret_n;
	return blob_writer_write(t->blob, *ret, *ret_n, err);
}

static int put_config(const struct store *s, struct json *config, const char *diff_id, struct oci_descriptor *ret,
		      struct error *err)
{
	_cleanup_json_ struct json *j = json_object();
	struct json *rootfs = json_object(), *ids = json_array();
	_cleanup_buf_ struct buf text = {};

	json_set_string(j, "architecture", oci_own_architecture());
	json_set_string(j, "os", "linux");
	json_set(j, "config", config ? json_ref(config) : json_object());
	json_set_string(rootfs, "type", "layers");
	json_append_string(ids, diff_id);
	json_set(rootfs, "diff_ids", ids);
	json_set(j, "rootfs", rootfs);
	json_render(j, false, &text);
	*ret = (struct oci_descriptor){ .media_type = xstrdup(OCI_CONFIG_TYPE), .size = text.len };
	return blob_put(s, text.p, text.len, &ret->digest, err);
}

/* Kept as the plain tar that it is inside: no time is spent on packing what may never be sent anywhere. */
static int store_layer(const struct store *s, struct stream *stream, const char *what, struct oci_descriptor *ret,
		       struct error *err)
{
	_cleanup_(digest_freep) struct digest *md = digest_new();
	_cleanup_(blob_writer_freep) struct blob_writer *blob = NULL;
	_cleanup_(tar_freep) struct tar *t = NULL;
	struct through through = { .md = md };
	const struct tar_item *item;
	uint64_t entries = 0;
	const void *p;
	size_t n = 1;
	int r = blob_writer_open(s, NULL, UINT64_MAX, &blob, err);

	if (r < 0)
		return r;
	through.stream = stream;
	through.blob = blob;
	t = tar_new(read_through, &through);
	while ((r = tar_next(t, &item, err)) > 0)
		entries++;
	while (r >= 0 && n)
		r = read_through(&through, &p, &n, err);
	if (r >= 0 && !entries)
		r = error_set(err, EBADMSG, "there is nothing in it");
	if (r >= 0)
		r = blob_writer_finish(blob, &ret->digest, err);
	if (r < 0)
		return error_prefix(err, "%s", what);
	ret->media_type = xstrdup(OCI_LAYER_TAR_TYPE);
	ret->size = through.bytes;
	return 0;
}

int source_read_root(const struct store *s, struct stream *stream, const char *what, struct json *config,
		     struct oci_descriptor *ret, struct error *err)
{
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	int r;

	m.layers = xcalloc(1, sizeof(*m.layers));
	r = store_layer(s, stream, what, m.layers, err);
	if (r < 0)
		return r;
	m.n_layers = 1;
	r = put_config(s, config, m.layers[0].digest, &m.config, err);
	return r < 0 ? r : source_put_manifest(s, &m, ret, err);
}

struct peek {
	struct stream *stream; /* borrowed */
	struct buf kept;
	bool failed;
};

static int read_and_keep(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	struct peek *p = data;
	int r;

	*ret_n = 0;
	if (p->kept.len >= PEEK_MAX)
		return 0;
	r = stream_read(p->stream, ret, ret_n, err);
	p->failed = r < 0;
	if (r >= 0)
		buf_add(&p->kept, *ret, *ret_n);
	return r;
}

/* Returns 1 for images, 0 for anything else: what is no tar is told when it is read for one. */
static int begins_with_images(struct stream *stream, struct error *err)
{
	struct peek p = { .stream = stream };
	_cleanup_(tar_freep) struct tar *t = tar_new(read_and_keep, &p);
	_cleanup_error_ struct error e = {};
	const struct tar_item *item;
	int r = tar_next(t, &item, &e) > 0 && bundle_begins_with(item->entry.path);

	stream_unread(stream, &p.kept);
	return p.failed ? error_move(err, &e) : r;
}

static int fetch_stream(const struct store *s, const struct source_request *q, bool guess, struct oci_descriptor *ret,
			char **ret_name, struct error *err)
{
	_cleanup_close_ int fd = source_open(q->operand, err);
	_cleanup_(stream_freep) struct stream *stream = NULL;
	const char *what = streq(q->operand, "-") ? "standard input" : q->operand;
	int r = fd < 0 ? fd : stream_new(fd, what, &stream, err);

	if (r >= 0 && guess)
		r = begins_with_images(stream, err);
	if (r < 0)
		return r;
	if (guess && r > 0)
		return source_read_archive(s, stream, what, q, true, ret, ret_name, err);
	if (q->select)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "--select: the tar of a root file system is one image");
	return source_read_root(s, stream, what, NULL, ret, err);
}

static int fetch(const struct store *s, const struct source_request *q, struct oci_descriptor *ret, char **ret_name,
		 struct error *err)
{
	return fetch_stream(s, q, false, ret, ret_name, err);
}

static int fetch_piped(const struct store *s, const struct source_request *q, struct oci_descriptor *ret,
		       char **ret_name, struct error *err)
{
	return fetch_stream(s, q, true, ret, ret_name, err);
}

/* What is packed and cannot be looked into is most likely a damaged one, and reading it tells how. */
static bool is_packed(const struct source_head *head)
{
	static const struct {
		const char *magic;
		size_t n;
	} kinds[] = { { "\x1f\x8b", 2 },
		      { "\x28\xb5\x2f\xfd", 4 },
		      { "\xfd"
			"7zXZ",
			5 },
		      { "BZh", 3 } };

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (head->n >= kinds[i].n && memcmp(head->p, kinds[i].magic, kinds[i].n) == 0)
			return true;
	return false;
}

static bool recognise(const struct source_head *head)
{
	return head->entry ? !bundle_begins_with(head->entry) : is_packed(head);
}

const struct source source_tar = {
	.scheme = "tar",
	.help = "tar:FILE, the tar of a root file system, packed or not; - is standard input",
	.recognise = recognise,
	.fetch = fetch,
};

const struct source source_piped = {
	.scheme = "pipe",
	.help = "what is piped in",
	.fetch = fetch_piped,
};
