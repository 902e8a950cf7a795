/* docker-archive:FILE, what `docker save` writes, and oci-archive:FILE, an OCI image layout in a tar. Newer tools write both into one file;
 * whichever documents are there are used, those of the scheme first. */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/memory.h"
#include "image/blob.h"
#include "image/bundle.h"
#include "image/bundle_write.h"
#include "image/reference.h"
#include "image/select.h"
#include "image/source.h"

enum { NAMES_SHOWN = 20 };

struct entry {
	char *config;
	struct strv tags, layers;
};

struct list {
	struct entry *entries;
	size_t n;
};

static const struct json_field entry_fields[] = {
	{ "Config", JSON_STRING, offsetof(struct entry, config), JSON_REQUIRED },
	{ "RepoTags", JSON_STRINGS, offsetof(struct entry, tags), 0 },
	{ "Layers", JSON_STRINGS, offsetof(struct entry, layers), JSON_REQUIRED },
	{},
};
static const struct json_field list_fields[] = {
	{ "images", JSON_OBJECTS, offsetof(struct list, entries), JSON_REQUIRED, .fields = entry_fields,
	  .element_size = sizeof(struct entry), .count_offset = offsetof(struct list, n) },
	{},
};

static void list_done(struct list *l)
{
	json_fields_done(list_fields, l);
}

/* manifest.json is an array; a table wants an object. */
static int load_list(const struct buf *text, struct list *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL, *object = json_object();
	int r = json_parse(text->p ? text->p : "", text->len, "manifest.json", &tree, err);

	if (r < 0)
		return r;
	if (!json_is_array(tree))
		return error_set(err, EBADMSG, "manifest.json: expected an array");
	json_set(object, "images", json_ref(tree));
	return json_load(object, list_fields, ret, "manifest.json", err);
}

static bool same_name(const char *a, const char *b)
{
	struct reference x, y;
	_cleanup_free_ char *nx = NULL, *ny = NULL;

	if (reference_parse(a, &x, NULL) < 0 || reference_parse(b, &y, NULL) < 0)
		return streq(a, b);
	nx = reference_name(&x);
	ny = reference_name(&y);
	return streq(nx, ny);
}

static int choose_entry(const struct list *l, const char *select, const char *what, const struct entry **ret,
			const char **ret_name, struct error *err)
{
	_cleanup_buf_ struct buf names = {};
	size_t shown = 0;

	*ret_name = NULL;
	if (!l->n)
		return error_set(err, EBADMSG, "%s: there is no image in it", what);
	for (size_t i = 0; i < l->n; i++)
		for (size_t k = 0; k < l->entries[i].tags.n; k++) {
			const char *tag = l->entries[i].tags.items[k];

			if (select && same_name(tag, select)) {
				*ret = &l->entries[i];
				*ret_name = tag;
				return 0;
			}
			if (shown++ < NAMES_SHOWN)
				buf_addf(&names, "%s%s", names.len ? ", " : "", tag);
		}
	if (select) {
		(void)error_set_kind(err, ERROR_NOT_FOUND, ENOENT, "%s holds no image named '%.100s'", what, select);
		return names.len ? error_hint(err, "it holds %s", names.p) : -ENOENT;
	}
	if (l->n > 1) {
		(void)error_set_kind(err, ERROR_USAGE, EINVAL, "%s holds several images", what);
		return error_hint(err, "choose one with --select: %s", names.len ? names.p : "none of them has a name");
	}
	*ret = &l->entries[0];
	*ret_name = l->entries[0].tags.n ? l->entries[0].tags.items[0] : NULL;
	return 0;
}

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
	_cleanup_(list_done) struct list l = {};
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	const struct bundle_file *f;
	const struct entry *e = NULL;
	const char *name = NULL;
	int r = load_list(document, &l, err);

	if (r >= 0)
		r = choose_entry(&l, select, what, &e, &name, err);
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

int source_read_archive(const struct store *s, int fd, const char *what, const struct source_request *q,
			bool docker_first, struct oci_descriptor *ret, char **ret_name, struct error *err)
{
	_cleanup_(bundle_done) struct bundle b = {};
	const struct buf *index, *list;
	int r = bundle_read(s, fd, what, q->fresh, &b, err);

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

	return fd < 0 ? fd
		      : source_read_archive(s, fd, streq(q->operand, "-") ? "standard input" : q->operand, q,
					    docker_first, ret, ret_name, err);
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
