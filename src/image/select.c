#include "image/select.h"

#include <errno.h>

#include "image/blob.h"

enum { DEPTH_MAX = 4, NAMES_SHOWN = 20 };

struct selection {
	const struct store *store;
	const char *what, *name, *platform;
	select_need_fn need;
	void *data;
};

void select_copy(struct oci_descriptor *to, const struct oci_descriptor *from)
{
	*to = (struct oci_descriptor){ .media_type = xstrdup(from->media_type),
				       .digest = xstrdup(from->digest),
				       .size = from->size };
	strv_copy(&to->annotations, &from->annotations);
}

static const char *name_of(const struct oci_descriptor *d)
{
	/* containerd writes the whole reference into a key of its own, and the tag alone into the standard one. */
	const char *whole = oci_annotation(d, "io.containerd.image.name");

	return whole ? whole : oci_annotation(d, OCI_ANNOTATION_REF_NAME);
}

static bool is_named(const struct oci_descriptor *d, const char *name)
{
	const char *tag = oci_annotation(d, OCI_ANNOTATION_REF_NAME), *whole = name_of(d);

	return (tag && streq(tag, name)) || (whole && streq(whole, name));
}

static int several(const struct selection *sel, const struct oci_index *index, struct error *err)
{
	_cleanup_buf_ struct buf names = {};

	for (size_t i = 0; i < index->n && i < NAMES_SHOWN; i++)
		if (name_of(&index->manifests[i]))
			buf_addf(&names, "%s%s", names.len ? ", " : "", name_of(&index->manifests[i]));
	(void)error_set_kind(err, ERROR_USAGE, EINVAL, "%s holds several images", sel->what);
	return error_hint(err, "choose one with --select: %s", names.len ? names.p : "none of them has a name");
}

static int read_blob(const struct selection *sel, const struct oci_descriptor *d, struct buf *out, struct error *err)
{
	_cleanup_error_ struct error e = {};
	int r;

	if (d->size > OCI_DOCUMENT_MAX)
		return error_set(err, EBADMSG, "%s: %s: larger than 4 MiB", sel->what, d->digest);
	r = sel->need ? sel->need(sel->data, d, err) : 0;
	if (r < 0)
		return r;
	r = blob_read(sel->store, d->digest, OCI_DOCUMENT_MAX, out, &e);
	if (r == -ENOENT)
		return error_set(err, EBADMSG, "%s: %s is missing in it", sel->what, d->digest);
	if (r >= 0 && out->len != d->size)
		return error_set(err, EBADMSG, "%s: %s has another size", sel->what, d->digest);
	return r < 0 ? error_move(err, &e) : 0;
}

static int walk(const struct selection *sel, const struct buf *document, int depth, struct oci_descriptor *ret,
		char **ret_name, struct error *err);

static int enter(const struct selection *sel, const struct oci_descriptor *d, int depth, struct oci_descriptor *ret,
		 char **ret_name, struct error *err)
{
	_cleanup_buf_ struct buf document = {};
	int r;

	if (ret_name && !*ret_name)
		*ret_name = xstrdup(name_of(d));
	if (oci_is_manifest_type(d->media_type)) {
		select_copy(ret, d);
		return 0;
	}
	if (!oci_is_index_type(d->media_type))
		return error_set(err, EBADMSG, "%s: neither an image nor an index: '%.80s'", sel->what, d->media_type);
	if (depth >= DEPTH_MAX)
		return error_set(err, EBADMSG, "%s: indexes within indexes without end", sel->what);
	r = read_blob(sel, d, &document, err);
	return r < 0 ? r : walk(sel, &document, depth + 1, ret, ret_name, err);
}

static int walk(const struct selection *sel, const struct buf *document, int depth, struct oci_descriptor *ret,
		char **ret_name, struct error *err)
{
	_cleanup_(oci_index_done) struct oci_index index = {};
	const struct oci_descriptor *chosen = NULL;
	size_t named = 0;
	int r = oci_index_parse(document->p ? document->p : "", document->len, sel->what, &index, err);

	if (r < 0)
		return r;
	for (size_t i = 0; depth == 0 && sel->name && !chosen && i < index.n; i++)
		if (is_named(&index.manifests[i], sel->name))
			chosen = &index.manifests[i];
	if (depth == 0 && sel->name && !chosen) {
		(void)error_set_kind(err, ERROR_NOT_FOUND, ENOENT, "%s holds no image named '%.100s'", sel->what,
				     sel->name);
		return -ENOENT;
	}
	for (size_t i = 0; i < index.n; i++)
		named += name_of(&index.manifests[i]) != NULL;
	if (!chosen && index.n == 1)
		chosen = &index.manifests[0];
	if (!chosen && (depth > 0 || !named))
		chosen = oci_index_choose(&index, sel->platform);
	if (!chosen && depth == 0 && named > 1)
		return several(sel, &index, err);
	if (!chosen)
		return error_set_kind(err, ERROR_NOT_FOUND, ENOENT, "%s: no image for %s", sel->what,
				      sel->platform ? sel->platform : "this machine's platform");
	return enter(sel, chosen, depth, ret, ret_name, err);
}

int select_manifest(const struct store *s, const struct buf *index, const char *what, const char *name,
		    const char *platform, select_need_fn need, void *data, struct oci_descriptor *ret, char **ret_name,
		    struct error *err)
{
	struct selection sel = { s, what, name, platform, need, data };

	*ret = (struct oci_descriptor){};
	return walk(&sel, index, 0, ret, ret_name, err);
}

int select_contents(const struct store *s, const struct oci_descriptor *d, select_need_fn need, void *data,
		    struct error *err)
{
	struct selection sel = { s, "image", NULL, NULL, need, data };
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_buf_ struct buf document = {};
	int r = read_blob(&sel, d, &document, err);

	if (r >= 0)
		r = oci_manifest_parse(document.p ? document.p : "", document.len, "manifest", &m, err);
	if (r >= 0 && need)
		r = need(data, &m.config, err);
	for (size_t i = 0; r >= 0 && need && i < m.n_layers; i++)
		r = need(data, &m.layers[i], err);
	return r;
}
