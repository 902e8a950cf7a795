#include "registry_peer.h"

#include <unistd.h>

#include "base/file.h"
#include "image/blob.h"
#include "image/digest.h"

#include "test.h"

/* ---- the registry ---- */

struct peer_world peer_world;

static const struct peer_document *find_document(const char *which)
{
	const char *digest = strncmp(which, "sha256:", 7) == 0 ? which : peer_world.tag_digest;

	if (peer_world.shared->how == OTHER_DOCUMENT)
		digest = peer_world.tag_digest;
	for (size_t i = 0; i < peer_world.n; i++)
		if (streq(peer_world.documents[i].digest, digest))
			return &peer_world.documents[i];
	return NULL;
}

static bool is_authorized(const struct web_request *q, struct web_answer *a)
{
	struct peer_shared *s = peer_world.shared;
	const char *given = web_header(q, "Authorization");
	char want[64];

	snprintf(want, sizeof(want), "Bearer token%u", s->token_requests);
	if (!s->wants_token ||
	    (streq(given, want) && (!s->token_runs_out || __atomic_add_fetch(&s->token_uses, 1, __ATOMIC_SEQ_CST) % 4)))
		return true;
	a->status = 401;
	web_add_header(a,
		       "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"test\","
		       "scope=\"repository:me/app:pull\"",
		       s->port);
	return false;
}

static void serve_token(const struct web_request *q, struct web_answer *a)
{
	static char text[128];
	struct peer_shared *s = peer_world.shared;
	const char *given = web_header(q, "Authorization");

	/* base64 of "me:pw" */
	if (*given && !streq(given, "Basic bWU6cHc=")) {
		a->status = 401;
		return;
	}
	snprintf(s->scope, sizeof(s->scope), "%s", strchr(q->target, '?') ? strchr(q->target, '?') : "");
	snprintf(text, sizeof(text), "{\"token\":\"token%u\",\"expires_in\":300}",
		 __atomic_add_fetch(&s->token_requests, 1, __ATOMIC_SEQ_CST));
	a->body = text;
	a->len = strlen(text);
}

static void serve_manifest(const struct web_request *q, struct web_answer *a, const char *which)
{
	struct peer_shared *s = peer_world.shared;
	const struct peer_document *d = find_document(which);

	if (!d) {
		a->status = 404;
		a->body = "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\",\"message\":\"manifest\\u001b[31m unknown\"}]}";
		a->len = strlen(a->body);
		return;
	}
	if (streq(q->method, "GET"))
		__atomic_add_fetch(&s->manifest_gets, 1, __ATOMIC_SEQ_CST);
	if (s->how == ENDLESS_DOCUMENT) {
		a->len = 6 << 20;
		a->body = calloc(1, a->len);
		return;
	}
	a->body = d->text;
	a->len = strlen(d->text);
	web_add_header(a, "Content-Type: %s", d->type);
	if (s->how == WRONG_DIGEST && streq(q->method, "GET"))
		web_add_header(a, "Docker-Content-Digest: %s", peer_world.config_digest);
	else if (s->how != NO_DIGEST && s->how != WRONG_DIGEST)
		web_add_header(a, "Docker-Content-Digest: %s", d->digest);
}

static void misbehave(struct web_answer *a, unsigned nth, unsigned offset)
{
	struct peer_shared *s = peer_world.shared;

	switch (s->how) {
	case CUTS: a->cut = (1 << 20) + 1000; break;
	case DRIPS: a->cut = 1; break;
	case SHORTER: a->len -= 1; break;
	case LONGER: a->declared = (long)a->len + 1; break;
	case OTHER_BYTES: a->body = memset(malloc(a->len), 'x', a->len); break;
	case IGNORES_RANGE:
		if (nth <= PEER_LAYERS + 1)
			a->cut = 1000;
		break;
	case NEVER_WHOLE: a->cut = PEER_LAYER_BYTES / 3 * 2; break;
	case WRONG_RANGE:
		if (offset)
			web_add_header(a, "Content-Range: bytes %u-%zu/*", offset + 1, a->len);
		else
			a->cut = 1000;
		break;
	case BUSY_FIRST:
		if (nth <= 2) {
			a->status = nth == 1 ? 429 : 503;
			web_add_header(a, "Retry-After: 0");
		}
		break;
	case BUSY_ALWAYS:
		a->status = 429;
		web_add_header(a, "Retry-After: 3600");
		break;
	case HONEST:
	case NO_DIGEST:
	case WRONG_DIGEST:
	case OTHER_DOCUMENT:
	case ENDLESS_DOCUMENT:
	case REDIRECTS: break;
	}
}

/* @here: where blobs are served even when the registry redirects. Not by what all share: several are asked for at once. */
static void serve_blob(const struct web_request *q, struct web_answer *a, const char *digest, bool here)
{
	struct peer_shared *s = peer_world.shared;
	unsigned nth = __atomic_add_fetch(&s->blob_requests, 1, __ATOMIC_SEQ_CST), offset = 0;
	const char *range = web_header(q, "Range");

	a->body = streq(digest, peer_world.config_digest) ? peer_world.config : NULL;
	a->len = a->body ? strlen(a->body) : PEER_LAYER_BYTES;
	for (size_t i = 0; i < PEER_LAYERS; i++)
		if (streq(digest, peer_world.layer_digests[i]))
			a->body = peer_world.layers[i];
	if (!a->body) {
		a->status = 404;
		a->len = 0;
		return;
	}
	if (s->how == REDIRECTS && !here) {
		a->status = 307;
		a->len = 0;
		web_add_header(a, "Location: http://127.0.0.1:%d/%s?signature=x", s->elsewhere, digest);
		return;
	}
	if (*range && s->how != IGNORES_RANGE && s->how != NEVER_WHOLE) {
		ASSERT_EQ(sscanf(range, "bytes=%u-", &offset), 1); /* lint: our own client's */
		ASSERT(offset < a->len);
		a->body = (const char *)a->body + offset;
		a->len -= offset;
		a->status = 206;
		if (s->how != WRONG_RANGE)
			web_add_header(a, "Content-Range: bytes %u-%zu/%zu", offset, offset + a->len - 1,
				       offset + a->len);
	}
	misbehave(a, nth, offset);
	if (a->status < 300)
		__atomic_add_fetch(&s->sent_bytes, a->cut && a->cut < a->len ? a->cut : a->len, __ATOMIC_SEQ_CST);
}

void peer_registry(const struct web_request *q, struct web_answer *a, void *data)
{
	static const char manifests[] = "/v2/me/app/manifests/", blobs[] = "/v2/me/app/blobs/";

	(void)data;
	if (strncmp(q->target, "/token", 6) == 0)
		serve_token(q, a);
	else if (!is_authorized(q, a))
		return;
	else if (strncmp(q->target, manifests, strlen(manifests)) == 0)
		serve_manifest(q, a, q->target + strlen(manifests));
	else if (strncmp(q->target, blobs, strlen(blobs)) == 0)
		serve_blob(q, a, q->target + strlen(blobs), false);
	else
		a->status = 404;
}

void peer_elsewhere(const struct web_request *q, struct web_answer *a, void *data)
{
	char digest[80];

	(void)data;
	if (*web_header(q, "Authorization"))
		peer_world.shared->leaks++;
	if (peer_world.shared->elsewhere_asks) {
		a->status = 401;
		web_add_header(a, "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"test\"",
			       peer_world.shared->elsewhere);
		return;
	}
	snprintf(digest, sizeof(digest), "%.71s", q->target + 1);
	serve_blob(q, a, digest, true);
}

/* ---- the image ---- */

char *peer_add_document(char *text, const char *type)
{
	struct peer_document *d = &peer_world.documents[peer_world.n++];

	d->text = text;
	d->digest = digest_bytes(text, strlen(text));
	d->type = type;
	return d->digest;
}

char *peer_manifest(const char *config_type, const char *layer_type)
{
	struct buf b = {};

	buf_addf(&b,
		 "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST_TYPE "\",\"config\":{\"mediaType\":\"%s\","
		 "\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
		 config_type, peer_world.config_digest, strlen(peer_world.config));
	for (size_t i = 0; i < PEER_LAYERS; i++)
		buf_addf(&b, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%d}", i ? "," : "", layer_type,
			 peer_world.layer_digests[i], PEER_LAYER_BYTES);
	buf_adds(&b, "]}");
	return buf_take(&b);
}

char *peer_index(const char *digest, size_t size, const char *type, const char *architecture)
{
	return xasprintf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX_TYPE
			 "\",\"manifests\":[{\"mediaType\":\"%s\","
			 "\"digest\":\"%s\",\"size\":%zu,\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}}]}",
			 type, digest, size, architecture);
}

void peer_make_world(void)
{
	uint32_t x = 1;

	peer_world.shared = web_shared(sizeof(*peer_world.shared));
	for (size_t i = 0; i < PEER_LAYERS; i++) {
		peer_world.layers[i] = xcalloc(1, PEER_LAYER_BYTES);
		for (size_t k = 0; k < PEER_LAYER_BYTES; k++)
			peer_world.layers[i][k] = (char)((x = x * 1664525 + 1013904223) >> 24);
		peer_world.layer_digests[i] = digest_bytes(peer_world.layers[i], PEER_LAYER_BYTES);
	}
	peer_world.config = xstrdup(
		"{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}");
	peer_world.config_digest = digest_bytes(peer_world.config, strlen(peer_world.config));
	peer_world.tag_digest =
		peer_add_document(peer_manifest(OCI_CONFIG_TYPE, OCI_LAYER_GZIP_TYPE), OCI_MANIFEST_TYPE);
}

void peer_start(void)
{
	peer_world.shared->elsewhere = web_start(peer_elsewhere, NULL);
	peer_world.shared->port = web_start(peer_registry, NULL);
}

/* ---- the client ---- */

struct store peer_store;

void peer_open_store(void)
{
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir());

	setenv("SKERRY_HOME", home, 1);
	setenv("HOME", test_tmpdir(), 1);
	unsetenv("DOCKER_CONFIG");
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("XDG_CONFIG_HOME");
	ASSERT_OK(store_open(&peer_store, NULL));
}

bool peer_takes_foreign;

int peer_pull_as(const struct credential *c, const char *platform, struct oci_descriptor *ret, struct error *err)
{
	_cleanup_free_ char *host = xasprintf("127.0.0.1:%d", peer_world.shared->port),
			    *name = xasprintf("%s/me/app:1", host);
	_cleanup_strv_ struct strv plain = {};
	struct http_settings hs = { .plain_hosts = &plain };
	_cleanup_(http_freep) struct http *h = NULL;
	_cleanup_(registry_closep) struct registry *r = NULL;
	_cleanup_close_ int lock = blob_lock(&peer_store, false, NULL);
	struct registry_settings rs = { .store = &peer_store, .host = host, .repository = "me/app", .credential = c };
	struct reference ref;
	int n;

	strv_add(&plain, host);
	strv_addf(&plain, "127.0.0.1:%d", peer_world.shared->elsewhere);
	ASSERT(lock >= 0);
	ASSERT_OK(reference_parse(name, &ref, NULL));
	ASSERT_OK(http_new(&hs, &h, NULL));
	rs.http = h;
	ASSERT_OK(registry_open(&rs, &r, NULL));
	n = pull_resolve(r, &peer_store, &ref, platform, ret, err);
	return n < 0 ? n : pull_layers(r, &peer_store, ret, peer_takes_foreign, NULL, NULL, err);
}

int peer_pull(struct error *err)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};

	return peer_pull_as(NULL, "linux/amd64", &d, err);
}

void peer_assert_whole(void)
{
	ASSERT(blob_exists(&peer_store, peer_world.documents[0].digest));
	ASSERT(blob_exists(&peer_store, peer_world.config_digest));
	for (size_t i = 0; i < PEER_LAYERS; i++) {
		_cleanup_buf_ struct buf b = {};

		ASSERT_OK(blob_read(&peer_store, peer_world.layer_digests[i], PEER_LAYER_BYTES, &b, NULL));
		ASSERT_EQ(b.len, PEER_LAYER_BYTES);
		ASSERT_MEMEQ(b.p, peer_world.layers[i], PEER_LAYER_BYTES);
	}
}

void peer_pull_whole(enum peer_misbehaviour how)
{
	_cleanup_error_ struct error e = {};

	peer_open_store();
	peer_make_world();
	peer_start();
	peer_world.shared->how = how;
	if (peer_pull(&e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	peer_assert_whole();
}

void peer_pull_refused(enum peer_misbehaviour how, enum error_kind kind, const char *why)
{
	_cleanup_error_ struct error e = {};

	peer_open_store();
	peer_make_world();
	peer_start();
	peer_world.shared->how = how;
	ASSERT(peer_pull(&e) < 0);
	ASSERT_CONTAINS(e.msg, why);
	ASSERT_EQ((int)e.kind, kind);
}
