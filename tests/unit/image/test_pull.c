/* Pulling from a registry that behaves as the distribution specification says, and from ones that do not. */
#include "image/pull.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "base/file.h"
#include "image/blob.h"
#include "image/digest.h"

#include "test.h"
#include "web.h"

enum { LAYERS = 3, LAYER_BYTES = 3 << 20 };

/* ---- the registry ---- */

enum misbehaviour {
	HONEST,
	CUTS,          /* the connection ends after 1 MiB + 1000 of each blob's answer */
	DRIPS,         /* … after one byte */
	IGNORES_RANGE, /* first cut, then whole again */
	WRONG_RANGE,   /* 206, of another part */
	SHORTER,
	LONGER,
	OTHER_BYTES,
	BUSY_FIRST,     /* 429 with Retry-After: 0, then 503 */
	BUSY_ALWAYS,    /* Retry-After: an hour */
	NO_DIGEST,      /* neither HEAD nor headers tell one */
	WRONG_DIGEST,   /* the header names another one */
	OTHER_DOCUMENT, /* whatever digest is asked for, the tag's document is sent */
	ENDLESS_DOCUMENT,
	REDIRECTS, /* blobs are elsewhere */
};

struct shared {
	enum misbehaviour how;
	bool wants_token, token_runs_out;
	int port, elsewhere;
	unsigned blob_requests, manifest_gets, token_requests, token_uses, leaks;
	uint64_t sent_bytes;
	char scope[256];
};

/* Set before the server starts; it has copies. */
struct document {
	char *text, *digest;
	const char *type;
};
static struct {
	char *layers[LAYERS], *layer_digests[LAYERS], *config, *config_digest;
	struct document documents[16];
	size_t n;
	const char *tag_digest;
	struct shared *shared;
} world;

static const struct document *find_document(const char *which)
{
	const char *digest = strncmp(which, "sha256:", 7) == 0 ? which : world.tag_digest;

	if (world.shared->how == OTHER_DOCUMENT)
		digest = world.tag_digest;
	for (size_t i = 0; i < world.n; i++)
		if (streq(world.documents[i].digest, digest))
			return &world.documents[i];
	return NULL;
}

static bool is_authorized(const struct web_request *q, struct web_answer *a)
{
	struct shared *s = world.shared;
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
	struct shared *s = world.shared;
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
	struct shared *s = world.shared;
	const struct document *d = find_document(which);

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
		web_add_header(a, "Docker-Content-Digest: %s", world.config_digest);
	else if (s->how != NO_DIGEST && s->how != WRONG_DIGEST)
		web_add_header(a, "Docker-Content-Digest: %s", d->digest);
}

static void misbehave(struct web_answer *a, unsigned nth, unsigned offset)
{
	struct shared *s = world.shared;

	switch (s->how) {
	case CUTS: a->cut = (1 << 20) + 1000; break;
	case DRIPS: a->cut = 1; break;
	case SHORTER: a->len -= 1; break;
	case LONGER: a->declared = (long)a->len + 1; break;
	case OTHER_BYTES: a->body = memset(malloc(a->len), 'x', a->len); break;
	case IGNORES_RANGE:
		if (nth <= LAYERS + 1)
			a->cut = 1000;
		break;
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

static void serve_blob(const struct web_request *q, struct web_answer *a, const char *digest)
{
	struct shared *s = world.shared;
	unsigned nth = __atomic_add_fetch(&s->blob_requests, 1, __ATOMIC_SEQ_CST), offset = 0;
	const char *range = web_header(q, "Range");

	a->body = streq(digest, world.config_digest) ? world.config : NULL;
	a->len = a->body ? strlen(a->body) : LAYER_BYTES;
	for (size_t i = 0; i < LAYERS; i++)
		if (streq(digest, world.layer_digests[i]))
			a->body = world.layers[i];
	if (!a->body) {
		a->status = 404;
		a->len = 0;
		return;
	}
	if (s->how == REDIRECTS) {
		a->status = 307;
		a->len = 0;
		web_add_header(a, "Location: http://127.0.0.1:%d/%s?signature=x", s->elsewhere, digest);
		return;
	}
	if (*range && s->how != IGNORES_RANGE) {
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

static void registry(const struct web_request *q, struct web_answer *a, void *data)
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
		serve_blob(q, a, q->target + strlen(blobs));
	else
		a->status = 404;
}

/* Where redirected blobs are. Nobody's credentials belong here. */
static void elsewhere(const struct web_request *q, struct web_answer *a, void *data)
{
	char digest[80];

	(void)data;
	if (*web_header(q, "Authorization"))
		world.shared->leaks++;
	snprintf(digest, sizeof(digest), "%.71s", q->target + 1);
	world.shared->how = HONEST;
	serve_blob(q, a, digest);
	world.shared->how = REDIRECTS;
}

/* ---- the image ---- */

static char *add_document(char *text, const char *type)
{
	struct document *d = &world.documents[world.n++];

	d->text = text;
	d->digest = digest_bytes(text, strlen(text));
	d->type = type;
	return d->digest;
}

static char *manifest_text(const char *config_type, const char *layer_type)
{
	struct buf b = {};

	buf_addf(&b,
		 "{\"schemaVersion\":2,\"mediaType\":\"" OCI_MANIFEST_TYPE "\",\"config\":{\"mediaType\":\"%s\","
		 "\"digest\":\"%s\",\"size\":%zu},\"layers\":[",
		 config_type, world.config_digest, strlen(world.config));
	for (size_t i = 0; i < LAYERS; i++)
		buf_addf(&b, "%s{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%d}", i ? "," : "", layer_type,
			 world.layer_digests[i], LAYER_BYTES);
	buf_adds(&b, "]}");
	return buf_take(&b);
}

static char *index_text(const char *digest, size_t size, const char *type, const char *architecture)
{
	return xasprintf("{\"schemaVersion\":2,\"mediaType\":\"" OCI_INDEX_TYPE
			 "\",\"manifests\":[{\"mediaType\":\"%s\","
			 "\"digest\":\"%s\",\"size\":%zu,\"platform\":{\"os\":\"linux\",\"architecture\":\"%s\"}}]}",
			 type, digest, size, architecture);
}

static void make_world(void)
{
	uint32_t x = 1;

	world.shared = web_shared(sizeof(*world.shared));
	for (size_t i = 0; i < LAYERS; i++) {
		world.layers[i] = xcalloc(1, LAYER_BYTES);
		for (size_t k = 0; k < LAYER_BYTES; k++)
			world.layers[i][k] = (char)((x = x * 1664525 + 1013904223) >> 24);
		world.layer_digests[i] = digest_bytes(world.layers[i], LAYER_BYTES);
	}
	world.config = xstrdup(
		"{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}");
	world.config_digest = digest_bytes(world.config, strlen(world.config));
	world.tag_digest = add_document(manifest_text(OCI_CONFIG_TYPE, OCI_LAYER_GZIP_TYPE), OCI_MANIFEST_TYPE);
}

static void start(void)
{
	world.shared->elsewhere = web_start(elsewhere, NULL);
	world.shared->port = web_start(registry, NULL);
}

/* ---- the client ---- */

static struct store store;

static void open_store(void)
{
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir());

	setenv("SKERRY_HOME", home, 1);
	setenv("HOME", test_tmpdir(), 1);
	unsetenv("DOCKER_CONFIG");
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("XDG_CONFIG_HOME");
	ASSERT_OK(store_open(&store, NULL));
}

static bool takes_foreign;

static int pull_as(const struct credential *c, const char *platform, struct oci_descriptor *ret, struct error *err)
{
	_cleanup_free_ char *host = xasprintf("127.0.0.1:%d", world.shared->port),
			    *name = xasprintf("%s/me/app:1", host);
	_cleanup_strv_ struct strv plain = {};
	struct http_settings hs = { .plain_hosts = &plain };
	_cleanup_(http_freep) struct http *h = NULL;
	_cleanup_(registry_closep) struct registry *r = NULL;
	_cleanup_close_ int lock = blob_lock(&store, false, NULL);
	struct registry_settings rs = { .store = &store, .host = host, .repository = "me/app", .credential = c };
	struct reference ref;
	int n;

	strv_add(&plain, host);
	strv_addf(&plain, "127.0.0.1:%d", world.shared->elsewhere);
	ASSERT(lock >= 0);
	ASSERT_OK(reference_parse(name, &ref, NULL));
	ASSERT_OK(http_new(&hs, &h, NULL));
	rs.http = h;
	ASSERT_OK(registry_open(&rs, &r, NULL));
	n = pull_resolve(r, &store, &ref, platform, ret, err);
	return n < 0 ? n : pull_layers(r, &store, ret, takes_foreign, NULL, err);
}

static int pull(struct error *err)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};

	return pull_as(NULL, "linux/amd64", &d, err);
}

static void assert_whole(void)
{
	ASSERT(blob_exists(&store, world.documents[0].digest));
	ASSERT(blob_exists(&store, world.config_digest));
	for (size_t i = 0; i < LAYERS; i++) {
		_cleanup_buf_ struct buf b = {};

		ASSERT_OK(blob_read(&store, world.layer_digests[i], LAYER_BYTES, &b, NULL));
		ASSERT_EQ(b.len, LAYER_BYTES);
		ASSERT_MEMEQ(b.p, world.layers[i], LAYER_BYTES);
	}
}

static void pull_whole(enum misbehaviour how)
{
	_cleanup_error_ struct error e = {};

	open_store();
	make_world();
	start();
	world.shared->how = how;
	if (pull(&e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	assert_whole();
}

static void pull_refused(enum misbehaviour how, enum error_kind kind, const char *why)
{
	_cleanup_error_ struct error e = {};

	open_store();
	make_world();
	start();
	world.shared->how = how;
	ASSERT(pull(&e) < 0);
	ASSERT_CONTAINS(e.msg, why);
	ASSERT_EQ((int)e.kind, kind);
}

/* ---- what is tested ---- */

TEST(an_image_is_pulled_and_nothing_of_it_again)
{
	unsigned blobs, gets;

	pull_whole(HONEST);
	blobs = world.shared->blob_requests;
	gets = world.shared->manifest_gets;
	ASSERT_EQ(blobs, LAYERS + 1);
	ASSERT_EQ(gets, 1);
	ASSERT_OK(pull(NULL));
	ASSERT_EQ(world.shared->blob_requests, blobs);
	ASSERT_EQ(world.shared->manifest_gets, gets);
}

TEST(a_registry_that_tells_no_digest_will_do)
{
	pull_whole(NO_DIGEST);
}

TEST(what_breaks_off_is_gone_on_with)
{
	pull_whole(CUTS);
	ASSERT_EQ(world.shared->blob_requests, LAYERS * 3 + 1);
	ASSERT_EQ(world.shared->sent_bytes, LAYERS * LAYER_BYTES + strlen(world.config));
}

TEST(a_registry_that_knows_no_ranges_will_do)
{
	pull_whole(IGNORES_RANGE);
}

TEST(a_busy_registry_is_asked_again)
{
	pull_whole(BUSY_FIRST);
}

TEST(nobody_waits_for_an_hour)
{
	pull_refused(BUSY_ALWAYS, ERROR_BUSY, "asked less often");
}

TEST(a_byte_at_a_time_is_given_up)
{
	pull_refused(DRIPS, ERROR_FAILED, "blob");
	ASSERT(world.shared->blob_requests < 10 * (LAYERS + 1));
}

TEST(another_part_than_asked_for_is_refused)
{
	pull_refused(WRONG_RANGE, ERROR_DATA, "another part");
}

TEST(a_blob_that_is_shorter_is_refused)
{
	pull_refused(SHORTER, ERROR_DATA, "the manifest says");
}

TEST(a_blob_that_is_longer_is_refused)
{
	pull_refused(LONGER, ERROR_DATA, "the manifest says");
}

TEST(a_blob_with_another_content_is_refused_and_nothing_of_it_kept)
{
	pull_refused(OTHER_BYTES, ERROR_DATA, "digest");
	for (size_t i = 0; i < LAYERS; i++)
		ASSERT(!blob_exists(&store, world.layer_digests[i]));
}

TEST(a_document_that_is_not_what_was_announced_is_refused)
{
	pull_refused(WRONG_DIGEST, ERROR_DATA, "the registry says that it is");
}

TEST(a_document_without_end_is_refused)
{
	pull_refused(ENDLESS_DOCUMENT, ERROR_DATA, "longer than");
}

TEST(redirected_blobs_are_fetched_without_our_credentials)
{
	struct credential me = { .user = xstrdup("me"), .secret = xstrdup("pw"), .origin = xstrdup("test") };
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};

	open_store();
	make_world();
	world.shared->wants_token = true;
	world.shared->how = REDIRECTS;
	start();
	ASSERT_OK(pull_as(&me, "linux/amd64", &d, NULL));
	assert_whole();
	ASSERT_EQ(world.shared->leaks, 0);
	credential_done(&me);
}

TEST(a_token_is_fetched_once_and_again_when_it_has_run_out)
{
	struct credential me = { .user = xstrdup("me"), .secret = xstrdup("pw"), .origin = xstrdup("test") };
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {}, again = {};
	struct store other;

	open_store();
	make_world();
	world.shared->wants_token = true;
	start();
	ASSERT_OK(pull_as(&me, "linux/amd64", &d, NULL));
	assert_whole();
	ASSERT_EQ(world.shared->token_requests, 1);
	ASSERT_CONTAINS(world.shared->scope, "service=test");
	ASSERT_CONTAINS(world.shared->scope, "scope=repository%3Ame%2Fapp%3Apull");
	other = store;
	{
		_cleanup_free_ char *home = xasprintf("%s/second", test_tmpdir());

		setenv("SKERRY_HOME", home, 1);
		ASSERT_OK(store_open(&store, NULL));
	}
	world.shared->token_runs_out = true;
	ASSERT_OK(pull_as(&me, "linux/amd64", &again, NULL));
	assert_whole();
	ASSERT(world.shared->token_requests > 2);
	store_done(&other);
	credential_done(&me);
}

TEST(wrong_credentials_are_told_from_missing_ones)
{
	struct credential wrong = { .user = xstrdup("me"),
				    .secret = xstrdup("hunter2"),
				    .origin = xstrdup("auth.json") };
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};
	_cleanup_error_ struct error e = {};

	open_store();
	make_world();
	world.shared->wants_token = true;
	start();
	ASSERT(pull_as(&wrong, NULL, &d, &e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_DENIED);
	ASSERT_CONTAINS(e.msg, "auth.json");
	ASSERT_CONTAINS(e.hint, "skerry login 127.0.0.1");
	ASSERT(!strstr(e.msg, "hunter2"));
	credential_done(&wrong);
}

TEST(what_is_not_there_is_said_in_the_registry_s_words_made_harmless)
{
	_cleanup_error_ struct error e = {};

	open_store();
	make_world();
	world.shared->how = NO_DIGEST;
	world.tag_digest = "sha256:none";
	start();
	ASSERT(pull(&e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_NOT_FOUND);
	ASSERT(!strchr(e.msg, 033));
}

TEST(an_index_leads_to_the_platform_s_manifest)
{
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {}, none = {};
	_cleanup_error_ struct error e = {};
	char *inner;

	open_store();
	make_world();
	inner = add_document(
		index_text(world.documents[0].digest, strlen(world.documents[0].text), OCI_MANIFEST_TYPE, "arm64"),
		OCI_INDEX_TYPE);
	world.tag_digest =
		add_document(index_text(inner, strlen(world.documents[1].text), OCI_INDEX_TYPE, ""), OCI_INDEX_TYPE);
	start();
	ASSERT_OK(pull_as(NULL, "linux/arm64", &d, NULL));
	ASSERT_STREQ(d.digest, world.documents[0].digest);
	assert_whole();
	ASSERT(pull_as(NULL, "linux/s390x", &none, &e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_NOT_FOUND);
	ASSERT_CONTAINS(e.hint, "linux/arm64");
}

TEST(indexes_in_indexes_have_an_end)
{
	_cleanup_error_ struct error e = {};
	char *digest = world.documents[0].digest;

	open_store();
	make_world();
	digest = world.documents[0].digest;
	for (int i = 0; i < 8; i++)
		digest = add_document(index_text(digest, strlen(world.documents[world.n - 1].text),
						 i ? OCI_INDEX_TYPE : OCI_MANIFEST_TYPE, "amd64"),
				      OCI_INDEX_TYPE);
	world.tag_digest = digest;
	start();
	ASSERT(pull(&e) < 0);
	ASSERT_CONTAINS(e.msg, "deeper than");
}

TEST(an_index_that_points_at_itself_is_refused)
{
	_cleanup_error_ struct error e = {};

	open_store();
	make_world();
	world.tag_digest = add_document(index_text(world.config_digest, 100, OCI_INDEX_TYPE, "amd64"), OCI_INDEX_TYPE);
	world.shared->how = OTHER_DOCUMENT;
	start();
	ASSERT(pull(&e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_DATA);
	ASSERT_CONTAINS(e.msg, "another document");
}

static void refuse_document(char *text, const char *why)
{
	_cleanup_error_ struct error e = {};

	open_store();
	make_world();
	world.tag_digest = add_document(
		text ? text : manifest_text("application/vnd.cncf.helm.config.v1+json", OCI_LAYER_TAR_TYPE),
		OCI_MANIFEST_TYPE);
	start();
	ASSERT(pull(&e) < 0);
	ASSERT_EQ((int)e.kind, ERROR_DATA);
	ASSERT_CONTAINS(e.msg, why);
	ASSERT_EQ(world.shared->blob_requests, 0);
}

TEST(docker_s_first_format_is_refused)
{
	refuse_document(xstrdup("{\"schemaVersion\":1,\"name\":\"me/app\",\"tag\":\"1\",\"fsLayers\":[]}"),
			"first format");
}

TEST(what_is_manifest_and_index_is_neither)
{
	refuse_document(xstrdup("{\"schemaVersion\":2,\"manifests\":[],\"layers\":[],\"config\":{}}"), "neither");
}

TEST(what_is_no_document_is_refused)
{
	refuse_document(xstrdup("<html>"), "me/app");
}

TEST(an_artifact_is_no_image)
{
	refuse_document(NULL, "helm");
}

TEST(a_layer_that_is_kept_elsewhere_is_refused)
{
	_cleanup_error_ struct error e = {};

	open_store();
	make_world();
	world.tag_digest = add_document(
		manifest_text(OCI_CONFIG_TYPE, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
		OCI_MANIFEST_TYPE);
	start();
	ASSERT(pull(&e) < 0);
	ASSERT_CONTAINS(e.msg, "kept elsewhere");
}

TEST(a_layer_that_is_kept_elsewhere_is_fetched_there_when_that_is_wanted)
{
	struct credential me = { .user = xstrdup("me"), .secret = xstrdup("pw"), .origin = xstrdup("test") };
	_cleanup_(oci_descriptor_done) struct oci_descriptor d = {};

	open_store();
	make_world();
	world.shared->wants_token = true;
	world.shared->elsewhere = web_start(elsewhere, NULL);
	world.tag_digest = add_document(xasprintf("{\"schemaVersion\":2,\"config\":{\"mediaType\":\"" OCI_CONFIG_TYPE
						  "\",\"digest\":\"%s\",\"size\":%zu},"
						  "\"layers\":[{\"mediaType\":\"application/"
						  "vnd.docker.image.rootfs.foreign.diff.tar.gzip\",\"digest\":\"%s\","
						  "\"size\":%d,\"urls\":[\"http://127.0.0.1:%d/%s\"]}]}",
						  world.config_digest, strlen(world.config), world.layer_digests[0],
						  LAYER_BYTES, world.shared->elsewhere, world.layer_digests[0]),
					OCI_MANIFEST_TYPE);
	world.shared->port = web_start(registry, NULL);
	takes_foreign = true;
	ASSERT_OK(pull_as(&me, "linux/amd64", &d, NULL));
	ASSERT(blob_exists(&store, world.layer_digests[0]));
	ASSERT_EQ(world.shared->leaks, 0);
	credential_done(&me);
}

TEST(a_damaged_beginning_is_fetched_again)
{
	_cleanup_free_ char *path = NULL;

	open_store();
	make_world();
	start();
	ASSERT_OK(mkdir_parents_at(store.images_fd, "partial", 0700));
	path = xasprintf("partial/%s", digest_hex(world.layer_digests[1]));
	ASSERT_OK(file_write_at(store.images_fd, path, "these are not its first bytes", 29, 0600, 0));
	ASSERT_OK(pull(NULL));
	assert_whole();
}

static void *pull_in_thread(void *ret)
{
	*(int *)ret = pull(NULL);
	return NULL;
}

TEST(a_blob_that_somebody_fetches_is_waited_for)
{
	_cleanup_(blob_writer_freep) struct blob_writer *w = NULL;
	_cleanup_close_ int lock = -EBADF;
	pthread_t thread;
	int r = -1;

	open_store();
	make_world();
	start();
	lock = blob_lock(&store, false, NULL);
	ASSERT_EQ(blob_writer_open(&store, world.layer_digests[0], LAYER_BYTES, &w, NULL), 0);
	ASSERT_EQ(pthread_create(&thread, NULL, pull_in_thread, &r), 0);
	while (!blob_exists(&store, world.layer_digests[1]) || !blob_exists(&store, world.layer_digests[2]))
		ASSERT_EQ(usleep(10000), 0); /* lint: nothing announces this */
	ASSERT_OK(blob_writer_write(w, world.layers[0], LAYER_BYTES, NULL));
	ASSERT_OK(blob_writer_finish(w, NULL, NULL));
	w = blob_writer_free(w);
	ASSERT_EQ(pthread_join(thread, NULL), 0);
	ASSERT_OK(r);
	assert_whole();
	ASSERT_EQ(world.shared->blob_requests, LAYERS);
}
