/* docker-archive:FILE, what `docker save` writes, and oci-archive:FILE, an OCI image layout in a tar. Newer tools write both into one file;
 * whichever documents are there are used, those of the scheme first. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/memory.h"
#include "image/blob.h"
#include "image/bundle.h"
#include "image/bundle_write.h"
#include "image/docker_manifest.h"
#include "image/select.h"
#include "image/source.h"

static int find_blob(const struct bundle *b, const char *path, const char *what, const struct bundle_file **ret,
		     struct error *err)
{
	const char *p = after_prefix(path, "./");

	*ret = bundle_find(b, p ? p : path);
	if (!*ret || !(*ret)->digest)
		return error_set(err, EBADMSG, "%s: manifest.json names '%.200s', which is not in it", what, path);
	return 0;
}

/* By the first bytes: an archive says nothing about how its layers are packed. */
static const char *layer_type(const struct store *s, const char *digest)
{
	static const struct {
		const char *type, *magic;
		size_t n;
	} kinds[] = { { OCI_LAYER_GZIP_TYPE, "\x1f\x8b", 2 }, { OCI_LAYER_ZSTD_TYPE, "\x28\xb5\x2f\xfd", 4 } };
	_cleanup_close_ int fd = blob_open(s, digest, NULL, NULL);
	char head[4] = "";

	if (fd < 0 || pread(fd, head, sizeof(head), 0) != (ssize_t)sizeof(head))
		return OCI_LAYER_TAR_TYPE;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (memcmp(head, kinds[i].magic, kinds[i].n) == 0)
			return kinds[i].type;
	return OCI_LAYER_TAR_TYPE;
}

static int from_docker(const struct store *s, const struct bundle *b, const struct buf *document, const char *what,
		       const char *select, struct oci_descriptor *ret, char **ret_name, struct error *err)
{
	_cleanup_(docker_manifest_done) struct docker_manifest list = {};
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	const struct bundle_file *f;
	const struct docker_manifest_image *e = NULL;
	const char *name = NULL;
	int r = docker_manifest_parse(document->p ? document->p : "", document->len, &list, err);

	if (r >= 0)
		r = docker_manifest_choose(&list, select, what, &e, &name, err);
	if (r < 0)
		return r;
	if (e->layers.n > OCI_LAYERS_MAX)
		return error_set(err, EBADMSG, "%s: more than %d layers", what, OCI_LAYERS_MAX);
	r = find_blob(b, e->config, what, &f, err);
	if (r < 0)
		return r;
	m.config = (struct oci_descriptor){ .media_type = xstrdup(OCI_CONFIG_TYPE),
					    .digest = xstrdup(f->digest),
					    .size = f->size };
	m.layers = xcalloc(e->layers.n + 1, sizeof(*m.layers));
	for (size_t i = 0; i < e->layers.n; i++) {
		r = find_blob(b, e->layers.items[i], what, &f, err);
		if (r < 0)
			return r;
		m.layers[m.n_layers++] = (struct oci_descriptor){ .media_type = xstrdup(layer_type(s, f->digest)),
								  .digest = xstrdup(f->digest),
								  .size = f->size };
	}
	r = source_put_manifest(s, &m, ret, err);
	if (r >= 0)
		*ret_name = xstrdup(name);
	return r;
}

static const struct buf *document(const struct bundle *b, const char *name)
{
	const struct bundle_file *f = bundle_find(b, name);

	return f && f->document.len ? &f->document : NULL;
}

int source_read_archive(const struct store *s, struct stream *stream, const char *what, const struct source_request *q,
			bool docker_first, struct oci_descriptor *ret, char **ret_name, struct error *err)
{
	_cleanup_(bundle_done) struct bundle b = {};
	const struct buf *index, *list;
	int r = bundle_read(s, stream, what, q->fresh, &b, err);

	if (r < 0)
		return r;
	index = document(&b, "index.json");
	list = document(&b, "manifest.json");
	if (list && (docker_first || !index))
		return from_docker(s, &b, list, what, q->select, ret, ret_name, err);
	if (!index)
		return error_set(err, EBADMSG, "%s: neither manifest.json nor index.json is in it", what);
	r = select_manifest(s, index, what, q->select, q->platform, NULL, NULL, ret, ret_name, err);
	return r < 0 ? r : select_contents(s, ret, NULL, NULL, err);
}

static int fetch(const struct store *s, const struct source_request *q, bool docker_first, struct oci_descriptor *ret,
		 char **ret_name, struct error *err)
{
	_cleanup_close_ int fd = source_open(q->operand, err);
	_cleanup_(stream_freep) struct stream *stream = NULL;
	const char *what = streq(q->operand, "-") ? "standard input" : q->operand;
	int r = fd < 0 ? fd : stream_new(fd, what, &stream, err);

	return r < 0 ? r : source_read_archive(s, stream, what, q, docker_first, ret, ret_name, err);
}

static int fetch_docker(const struct store *s, const struct source_request *q, struct oci_descriptor *ret,
			char **ret_name, struct error *err)
{
	return fetch(s, q, true, ret, ret_name, err);
}

static int fetch_oci(const struct store *s, const struct source_request *q, struct oci_descriptor *ret, char **ret_name,
		     struct error *err)
{
	return fetch(s, q, false, ret, ret_name, err);
}

static bool recognise(const struct source_head *head)
{
	return head->entry && bundle_begins_with(head->entry);
}

const struct source source_docker_archive = {
	.scheme = "docker-archive",
	.help = "docker-archive:FILE, as docker save writes it",
	.recognise = recognise,
	.fetch = fetch_docker,
	.save = bundle_save_docker,
};

const struct source source_oci_archive = {
	.scheme = "oci-archive",
	.help = "oci-archive:FILE, an OCI image layout in a tar",
	.fetch = fetch_oci,
	.save = bundle_save_oci,
};
