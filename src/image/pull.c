#include "image/pull.h"

#include <errno.h>

#include "base/fault.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/fetch.h"

/* An index may name an index; nobody needs more of them than this. */
enum { DEPTH_MAX = 4 };

static const char *const accepted[] = { OCI_MANIFEST_TYPE, DOCKER_MANIFEST_TYPE, OCI_INDEX_TYPE, DOCKER_INDEX_TYPE };

static void add_accepted(struct strv *headers)
{
	for (size_t i = 0; i < ARRAY_SIZE(accepted); i++)
		strv_addf(headers, "Accept: %s", accepted[i]);
}

/* ---- documents ---- */

/* Whole and verified, or not at all. */
static int keep(const struct store *s, const char *digest, const struct buf *text, const char *what, struct error *err)
{
	_cleanup_(blob_writer_freep) struct blob_writer *w = NULL;
	int r = fault_point("pull-document");

	if (r < 0)
		return error_set_errno(err, r, "%s: cannot keep its manifest", what);
	r = blob_writer_open(s, digest, text->len, &w, err);
	if (r != 0)
		return r < 0 ? error_prefix(err, "%s", what) : 0;
	/* A manifest comes in one piece. */
	r = blob_writer_restart(w, err);
	if (r >= 0)
		r = blob_writer_write(w, text->p, text->len, err);
	if (r >= 0)
		r = blob_writer_finish(w, NULL, err);
	return r < 0 ? error_prefix(err, "%s", what) : 0;
}

/* @which: a tag or a digest. *ret_digest is what it turned out to be, owned by the caller. */
static int get_document(struct registry *r, const struct store *s, const char *which, struct buf *text,
			char **ret_digest, struct error *err)
{
	_cleanup_free_ char *url = registry_url(r, "manifests/%s", which), *found = NULL,
			    *what = xasprintf("%s%s%s", registry_noun(r), is_digest(which) ? "@" : ":", which);
	_cleanup_answer_ struct http_answer a = {};
	_cleanup_strv_ struct strv headers = {};
	struct http_request req = {
		.method = HTTP_GET, .url = url, .headers = &headers, .body_fd = -1, .limit = OCI_DOCUMENT_MAX
	};
	int n;

	add_accepted(&headers);
	n = registry_exchange(r, &req, &a, err);
	if (n >= 0 && a.status != 200)
		n = registry_refuse(r, &a, what, err);
	if (n < 0)
		return n;
	found = digest_bytes(a.body.p ? a.body.p : "", a.body.len);
	if (is_digest(which) && !streq(which, found))
		return error_set(err, EBADMSG, "%s: the registry sent another document, %s", what, found);
	if (a.digest && is_digest(a.digest) && !streq(a.digest, found))
		return error_set(err, EBADMSG, "%s: the registry says that it is %s, and sent %s", what, a.digest,
				 found);
	n = keep(s, found, &a.body, what, err);
	if (n < 0)
		return n;
	buf_add(text, a.body.p ? a.body.p : "", a.body.len);
	*ret_digest = TAKE_PTR(found);
	return 0;
}

/* What a tag means now, without fetching it: a registry counts that less, or not at all. Returns 0 with *ret_digest NULL when it does not tell. */
static int head(struct registry *r, const char *tag, char **ret_digest, struct error *err)
{
	_cleanup_free_ char *url = registry_url(r, "manifests/%s", tag);
	_cleanup_answer_ struct http_answer a = {};
	_cleanup_strv_ struct strv headers = {};
	struct http_request req = { .method = HTTP_HEAD, .url = url, .headers = &headers, .body_fd = -1 };
	int n;

	add_accepted(&headers);
	n = registry_exchange(r, &req, &a, err);
	if (n < 0)
		return n;
	if (a.status == 404) {
		_cleanup_free_ char *what = xasprintf("%s:%s", registry_noun(r), tag);

		return registry_refuse(r, &a, what, err);
	}
	if (a.status == 200 && a.digest && is_digest(a.digest))
		*ret_digest = TAKE_PTR(a.digest);
	return 0;
}

/* ---- from a reference to a manifest ---- */

enum document_kind { DOCUMENT_MANIFEST, DOCUMENT_INDEX };

/* Told by the document itself: what a header says about it is not covered by its digest. One that could be read as both is neither. */
static int kind_of(const struct buf *text, const char *what, enum document_kind *ret, struct error *err)
{
	_cleanup_json_ struct json *tree = NULL;
	int r = json_parse(text->p ? text->p : "", text->len, what, &tree, err);
	bool index, manifest;
	const char *type;
	uint64_t version;

	if (r < 0)
		return r;
	if (json_u64(json_get(tree, "schemaVersion"), &version) && version == 1) {
		error_set_kind(err, ERROR_DATA, EPROTONOSUPPORT,
			       "%s: an image in Docker's first format, which was given up in 2019", what);
		return error_hint(err, "pull and push it with a version of Docker that still knows it");
	}
	type = json_string(json_get(tree, "mediaType"));
	index = !json_is_null(json_get(tree, "manifests"));
	manifest = !json_is_null(json_get(tree, "layers")) || !json_is_null(json_get(tree, "config"));
	if (index == manifest)
		return error_set(err, EBADMSG, "%s: neither an image's manifest nor an index", what);
	if (type && (index ? !oci_is_index_type(type) : !oci_is_manifest_type(type)))
		return error_set(err, EBADMSG, "%s: its media type is not that of what it holds", what);
	*ret = index ? DOCUMENT_INDEX : DOCUMENT_MANIFEST;
	return 0;
}

/* By digest, from our store where it is there. */
static int document(struct registry *r, const struct store *s, const char *digest, struct buf *text, struct error *err)
{
	_cleanup_free_ char *found = NULL;

	if (blob_exists(s, digest))
		return blob_read(s, digest, OCI_DOCUMENT_MAX, text, err);
	return get_document(r, s, digest, text, &found, err);
}

/* The one for the platform; or an index in the index, which may have it. */
static const struct oci_descriptor *choose(const struct oci_index *index, const char *platform)
{
	const struct oci_descriptor *d = oci_index_choose(index, platform);

	for (size_t i = 0; !d && i < index->n; i++)
		if (oci_is_index_type(index->manifests[i].media_type))
			d = &index->manifests[i];
	return d;
}

static void list_platforms(const struct oci_index *index, struct buf *out)
{
	for (size_t i = 0; i < index->n; i++) {
		const struct oci_platform *p = &index->manifests[i].platform;

		if (p->os && p->architecture && !streq(p->os, "unknown") && out->len < 200)
			buf_addf(out, "%s%s/%s%s%s", out->len ? ", " : "", p->os, p->architecture,
				 p->variant ? "/" : "", p->variant ? p->variant : "");
	}
}

static int no_platform(const struct oci_index *index, const char *platform, const char *what, struct error *err)
{
	_cleanup_buf_ struct buf have = {};

	list_platforms(index, &have);
	error_set(err, ENOENT, "%s: there is none for %s", what, platform ? platform : "this machine's platform");
	return have.len ? error_hint(err, "there is: %s", have.p) : -ENOENT;
}

/* Follows indexes from the document @digest to a manifest. @text is the document's content; empty = not read yet. */
static int descend(struct registry *r, const struct store *s, char *digest, struct buf *text, const char *platform,
		   struct oci_descriptor *ret, struct error *err)
{
	_cleanup_free_ char *current = digest;

	for (int depth = 0; depth <= DEPTH_MAX; depth++) {
		_cleanup_free_ char *what = xasprintf("%s@%.19s", registry_noun(r), current);
		_cleanup_(oci_index_done) struct oci_index index = {};
		_cleanup_(oci_manifest_done) struct oci_manifest m = {};
		const struct oci_descriptor *next;
		enum document_kind kind = DOCUMENT_MANIFEST;
		int n = text->len ? 0 : document(r, s, current, text, err);

		if (n >= 0)
			n = kind_of(text, what, &kind, err);
		if (n < 0)
			return n;
		if (kind == DOCUMENT_MANIFEST) {
			n = oci_manifest_parse(text->p, text->len, what, &m, err);
			if (n < 0)
				return n;
			*ret = (struct oci_descriptor){ .size = text->len };
			ret->digest = TAKE_PTR(current);
			ret->media_type = TAKE_PTR(m.media_type);
			return 0;
		}
		n = oci_index_parse(text->p, text->len, what, &index, err);
		if (n < 0)
			return n;
		next = choose(&index, platform);
		if (!next)
			return no_platform(&index, platform, what, err);
		free(current);
		current = xstrdup(next->digest);
		buf_truncate(text, 0);
	}
	return error_set(err, EBADMSG, "%s: an index in an index, deeper than %d", registry_noun(r), DEPTH_MAX);
}

int pull_resolve(struct registry *r, const struct store *s, const struct reference *ref, const char *platform,
		 struct oci_descriptor *ret, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	char *digest = NULL;
	int n = 0;

	if (ref->digest[0])
		digest = xstrdup(ref->digest);
	else
		n = head(r, ref->tag, &digest, err);
	if (n >= 0 && !digest)
		n = get_document(r, s, ref->tag, &text, &digest, err);
	return n < 0 ? n : descend(r, s, digest, &text, platform, ret, err);
}

/* ---- its blobs ---- */

/* Layers that are not the registry's to give out: their descriptor names other addresses. */
static bool is_foreign(const char *media_type)
{
	return strstr(media_type, ".foreign.") || strstr(media_type, ".nondistributable.");
}

static int check_config(const struct oci_manifest *m, const char *what, struct error *err)
{
	if (streq(m->config.media_type, OCI_CONFIG_TYPE) || streq(m->config.media_type, DOCKER_CONFIG_TYPE))
		return 0;
	return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: not an image of a system but '%.80s'", what,
			      m->config.media_type);
}

/* Where a foreign layer is: the first address of its descriptor, borrowed from @tree. */
static int find_foreign(const struct json *tree, size_t layer, bool elsewhere, const char *what, const char **ret,
			struct error *err)
{
	const struct json *urls = json_get(json_at(json_get(tree, "layers"), layer), "urls");

	*ret = json_string(json_at(urls, 0));
	if (!elsewhere) {
		error_set_kind(err, ERROR_DATA, EPROTONOSUPPORT, "%s: layer %zu is kept elsewhere than in the registry",
			       what, layer + 1);
		return error_hint(err, "--foreign-layers fetches it from where the image says");
	}
	return *ret ? 0
		    : error_set(err, EBADMSG, "%s: layer %zu is kept elsewhere, nobody says where", what, layer + 1);
}

/* Configuration and layers, each once. @tree is the manifest's. */
static int list_blobs(const struct oci_manifest *m, const struct json *tree, bool elsewhere, const char *what,
		      struct fetch_source *ret, size_t *ret_n, struct error *err)
{
	int n = check_config(m, what, err);

	ret[(*ret_n)++] = (struct fetch_source){ .blob = &m->config };
	for (size_t i = 0; n >= 0 && i < m->n_layers; i++) {
		const char *url = NULL;
		bool twice = false;

		if (is_foreign(m->layers[i].media_type))
			n = find_foreign(tree, i, elsewhere, what, &url, err);
		for (size_t k = 0; k < *ret_n; k++)
			twice |= streq(ret[k].blob->digest, m->layers[i].digest);
		if (!twice)
			ret[(*ret_n)++] = (struct fetch_source){ .blob = &m->layers[i], .url = url };
	}
	return n;
}

int pull_layers(struct registry *r, const struct store *s, const struct oci_descriptor *manifest, bool elsewhere,
		struct arrivals *arrivals, struct progress_board *board, struct error *err)
{
	_cleanup_free_ char *what = xasprintf("%s@%.19s", registry_noun(r), manifest->digest);
	_cleanup_(oci_manifest_done) struct oci_manifest m = {};
	_cleanup_free_ struct fetch_source *blobs = NULL;
	_cleanup_json_ struct json *tree = NULL;
	_cleanup_buf_ struct buf text = {};
	size_t n_blobs = 0;
	int n = blob_read(s, manifest->digest, OCI_DOCUMENT_MAX, &text, err);

	if (n >= 0)
		n = oci_manifest_parse(text.p ? text.p : "", text.len, what, &m, err);
	if (n >= 0)
		n = json_parse(text.p, text.len, what, &tree, err);
	if (n < 0)
		return n;
	blobs = xcalloc(m.n_layers + 1, sizeof(*blobs));
	n = list_blobs(&m, tree, elsewhere, what, blobs, &n_blobs, err);
	return n < 0 ? n : fetch_blobs(r, s, blobs, n_blobs, arrivals, board, err);
}
