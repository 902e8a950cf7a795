/* Pushing to registries that take it, and to ones that do not. */
#include "image/push.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "image/blob.h"
#include "image/digest.h"

#include "test.h"
#include "web.h"

enum { LAYER_BYTES = 2 << 20, MEETING_MS = 100000 };

enum misbehaviour {
	HONEST,
	BREAKS_UPLOAD, /* the first PUT is hung up on */
	BUSY_UPLOAD,   /* the first PUT is answered with 503 */
	TIRED,         /* the first PUT is answered with 401: the token has run out */
	ELSEWHERE,     /* uploads go to another host */
	NO_LOCATION,
	OTHER_DIGEST,
	FULL,     /* 507 */
	TOGETHER, /* the first PUT is answered when the second one has come */
	FORBIDDEN,
};

struct shared {
	enum misbehaviour how;
	int port, elsewhere;
	unsigned heads, posts, puts, mounts, manifests, tokens, leaks, refreshes;
	bool has_layer, mounts_it, wants_token;
	bool token_refuses; /* the token service, whoever asks for the other repository too */
	int mount_status;   /* the answer to mounts; 0 = as honest registries */
	char manifest_type[128], form[512];
	uint64_t received;
};
static struct shared *shared;
static char *layer, *layer_digest, *config, *config_digest, *manifest, *manifest_digest;

static int meeting[2]; /* a pipe */

static unsigned count(unsigned *n)
{
	return __atomic_add_fetch(n, 1, __ATOMIC_SEQ_CST);
}

static bool is_authorized(const struct web_request *q, struct web_answer *a)
{
	char want[64];

	snprintf(want, sizeof(want), "Bearer token%u", shared->tokens);
	if (!shared->wants_token || streq(web_header(q, "Authorization"), want))
		return true;
	a->status = 401;
	web_add_header(a, "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"test\"",
		       shared->port);
	return false;
}

static void token(const struct web_request *q, struct web_answer *a)
{
	static char text[64];

	if (shared->token_refuses && strstr(q->target, "me%2Fother")) {
		a->status = 403;
		return;
	}
	if (streq(q->method, "POST")) {
		snprintf(shared->form, sizeof(shared->form), "%.*s", (int)q->body_len, q->body);
		count(&shared->refreshes);
	}
	snprintf(text, sizeof(text), "{\"access_token\":\"token%u\"}", count(&shared->tokens));
	a->body = text;
	a->len = strlen(text);
}

static bool meet(unsigned nth)
{
	struct pollfd p = { .fd = meeting[0], .events = POLLIN };

	return nth == 1 ? poll(&p, 1, MEETING_MS) == 1 : write(meeting[1], "", 1) == 1;
}

static void upload(const struct web_request *q, struct web_answer *a)
{
	const char *digest = strstr(q->target, "digest=");
	unsigned nth = count(&shared->puts);

	if (nth == 1 && shared->how == BREAKS_UPLOAD) {
		a->status = 0;
		return;
	}
	if (shared->how == TOGETHER && !meet(nth)) {
		a->status = 400;
		return;
	}
	a->status = nth == 1 && shared->how == BUSY_UPLOAD ? 503 : shared->how == FULL ? 507 : 201;
	if (nth == 1 && shared->how == TIRED) {
		count(&shared->tokens);
		(void)is_authorized(q, a);
	}
	if (a->status != 201)
		return;
	if (!strstr(q->target, "state=x&") || !digest) {
		a->status = 400;
		return;
	}
	__atomic_add_fetch(&shared->received, q->body_len, __ATOMIC_SEQ_CST);
	{
		_cleanup_free_ char *found = digest_bytes(q->body, q->body_len);

		if (!streq(found, digest + 7))
			a->status = 400;
		web_add_header(a, "Docker-Content-Digest: %s", shared->how == OTHER_DIGEST ? manifest_digest : found);
	}
}

static void refuse_mount(struct web_answer *a)
{
	a->status = shared->mount_status;
	if (a->status == 401)
		web_add_header(a,
			       "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:%d/token\",service=\"test\","
			       "scope=\"repository:me/app:pull,push repository:me/other:pull\","
			       "error=\"insufficient_scope\"",
			       shared->port);
}

static void registry(const struct web_request *q, struct web_answer *a, void *data)
{
	(void)data;
	if (strncmp(q->target, "/token", 6) == 0) {
		token(q, a);
		return;
	}
	if (!is_authorized(q, a))
		return;
	if (streq(q->method, "HEAD")) {
		count(&shared->heads);
		a->status = shared->has_layer && strstr(q->target, layer_digest) ? 200 : 404;
	} else if (streq(q->method, "POST")) {
		count(&shared->posts);
		a->status = shared->how == FORBIDDEN ? 403 : 202;
		if (strstr(q->target, "mount=") && strstr(q->target, "from=me%2Fother")) {
			count(&shared->mounts);
			if (shared->mount_status) {
				refuse_mount(a);
				return;
			}
			if (shared->mounts_it) {
				a->status = 201;
				return;
			}
		}
		if (shared->how == ELSEWHERE)
			web_add_header(a, "Location: http://127.0.0.1:%d/up?state=x", shared->elsewhere);
		else if (shared->how != NO_LOCATION)
			web_add_header(a, "Location: /v2/me/app/blobs/uploads/1?state=x");
	} else if (strstr(q->target, "/blobs/uploads/")) {
		upload(q, a);
	} else {
		snprintf(shared->manifest_type, sizeof(shared->manifest_type), "%s", web_header(q, "Content-Type"));
		count(&shared->manifests);
		a->status = q->body_len == strlen(manifest) && memcmp(q->body, manifest, q->body_len) == 0 ? 201 : 400;
	}
}

static void elsewhere(const struct web_request *q, struct web_answer *a, void *data)
{
	(void)data;
	if (*web_header(q, "Authorization"))
		count(&shared->leaks);
	upload(q, a);
}

static struct store store;

static void set_up(enum misbehaviour how)
{
	_cleanup_free_ char *home = xasprintf("%s/home", test_tmpdir());

	setenv("SKERRY_HOME", home, 1);
	setenv("HOME", test_tmpdir(), 1);
	unsetenv("DOCKER_CONFIG");
	unsetenv("REGISTRY_AUTH_FILE");
	unsetenv("XDG_RUNTIME_DIR");
	unsetenv("XDG_CONFIG_HOME");
	ASSERT_OK(store_open(&store, NULL));
	layer = xcalloc(1, LAYER_BYTES);
	memset(layer, 'x', LAYER_BYTES);
	config = xstrdup("{\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[]}}");
	ASSERT_OK(blob_put(&store, layer, LAYER_BYTES, &layer_digest, NULL));
	ASSERT_OK(blob_put(&store, config, strlen(config), &config_digest, NULL));
	manifest = xasprintf("{\"schemaVersion\":2,\"mediaType\":\"" DOCKER_MANIFEST_TYPE
			     "\",\"config\":{\"mediaType\":\"" DOCKER_CONFIG_TYPE "\",\"digest\":\"%s\",\"size\":%zu},"
			     "\"layers\":[{\"mediaType\":\"" DOCKER_LAYER_TYPE "\",\"digest\":\"%s\",\"size\":%d},"
			     "{\"mediaType\":\"" DOCKER_LAYER_TYPE "\",\"digest\":\"%s\",\"size\":%d}]}",
			     config_digest, strlen(config), layer_digest, LAYER_BYTES, layer_digest, LAYER_BYTES);
	ASSERT_OK(blob_put(&store, manifest, strlen(manifest), &manifest_digest, NULL));
	shared = web_shared(sizeof(*shared));
	shared->how = how;
	ASSERT_OK(pipe2(meeting, O_CLOEXEC));
	shared->elsewhere = web_start(elsewhere, NULL);
	shared->port = web_start(registry, NULL);
}

static int push_as(const struct credential *c, const char *from, struct error *err)
{
	_cleanup_free_ char *host = xasprintf("127.0.0.1:%d", shared->port);
	_cleanup_strv_ struct strv plain = {};
	struct http_settings hs = { .plain_hosts = &plain };
	_cleanup_(http_freep) struct http *h = NULL;
	_cleanup_(registry_closep) struct registry *r = NULL;
	struct registry_settings rs = {
		.store = &store, .host = host, .repository = "me/app", .from = from, .push = true, .credential = c
	};
	struct oci_descriptor d = { .digest = manifest_digest };

	strv_add(&plain, host);
	strv_addf(&plain, "127.0.0.1:%d", shared->elsewhere);
	ASSERT_OK(http_new(&hs, &h, NULL));
	rs.http = h;
	ASSERT_OK(registry_open(&rs, &r, NULL));
	return push_image(r, &store, &d, "1", from, NULL, err);
}

static void push_taken(enum misbehaviour how)
{
	struct credential me = { .user = xstrdup("me"), .secret = xstrdup("pw"), .origin = xstrdup("test") };
	_cleanup_error_ struct error e = {};

	set_up(how);
	shared->wants_token = true;
	if (push_as(&me, NULL, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	ASSERT_EQ(shared->received, LAYER_BYTES + strlen(config));
	ASSERT_EQ(shared->manifests, 1);
	ASSERT_EQ(shared->leaks, 0);
	ASSERT_STREQ(shared->manifest_type, DOCKER_MANIFEST_TYPE);
	credential_done(&me);
}

static void push_refused(enum misbehaviour how, enum error_kind kind, const char *says)
{
	_cleanup_error_ struct error e = {};

	set_up(how);
	ASSERT(push_as(NULL, NULL, &e) < 0);
	ASSERT_EQ((int)e.kind, kind);
	ASSERT_CONTAINS(e.msg, says);
	ASSERT_EQ(shared->manifests, 0);
}

TEST(each_blob_is_sent_once_and_the_manifest_last)
{
	push_taken(HONEST);
	ASSERT_EQ(shared->puts, 2);
}

TEST(blobs_are_sent_at_once)
{
	push_taken(TOGETHER);
	ASSERT_EQ(shared->puts, 2);
}

TEST(an_upload_that_breaks_off_is_begun_anew)
{
	push_taken(BREAKS_UPLOAD);
	ASSERT_EQ(shared->posts, 3);
}

TEST(a_busy_registry_is_asked_again)
{
	push_taken(BUSY_UPLOAD);
}

TEST(a_token_that_runs_out_during_an_upload_is_replaced)
{
	push_taken(TIRED);
}

TEST(uploads_to_another_host_get_no_credentials)
{
	push_taken(ELSEWHERE);
	ASSERT_EQ(shared->puts, 2);
}

TEST(what_is_there_is_not_sent)
{
	set_up(HONEST);
	shared->has_layer = true;
	ASSERT_OK(push_as(NULL, NULL, NULL));
	ASSERT_EQ(shared->received, strlen(config));
}

TEST(what_another_repository_has_is_taken_over)
{
	set_up(HONEST);
	shared->mounts_it = true;
	ASSERT_OK(push_as(NULL, "me/other", NULL));
	ASSERT_EQ(shared->mounts, 2);
	ASSERT_EQ(shared->received, 0);
}

TEST(what_it_only_seemed_to_have_is_sent)
{
	set_up(HONEST);
	ASSERT_OK(push_as(NULL, "me/other", NULL));
	ASSERT_EQ(shared->mounts, 2);
	ASSERT_EQ(shared->received, LAYER_BYTES + strlen(config));
}

/* The other repository may be somebody else's: nothing is lost but the sending. */
static void sent_though_mounts_say(int status)
{
	_cleanup_error_ struct error e = {};

	set_up(HONEST);
	shared->mount_status = status;
	if (push_as(NULL, "me/other", &e) < 0)
		test_fail(__FILE__, __LINE__, "%d: %s", status, e.msg);
	ASSERT(shared->mounts > 0);
	ASSERT_EQ(shared->received, LAYER_BYTES + strlen(config));
	ASSERT_EQ(shared->manifests, 1);
}

TEST(what_may_not_be_taken_over_is_sent)
{
	sent_though_mounts_say(401);
}

TEST(what_is_forbidden_to_be_taken_over_is_sent)
{
	sent_though_mounts_say(403);
}

TEST(what_the_registry_cannot_take_over_is_sent)
{
	sent_though_mounts_say(404);
}

TEST(a_token_for_our_own_repository_is_enough)
{
	set_up(HONEST);
	shared->wants_token = shared->token_refuses = true;
	ASSERT_OK(push_as(NULL, "me/other", NULL));
	ASSERT_EQ(shared->mounts, 0);
	ASSERT_EQ(shared->received, LAYER_BYTES + strlen(config));
}

TEST(a_refresh_token_is_exchanged)
{
	struct credential me = { .identity_token = xstrdup("re fresh&"), .origin = xstrdup("test") };

	set_up(HONEST);
	shared->wants_token = true;
	ASSERT_OK(push_as(&me, NULL, NULL));
	ASSERT_EQ(shared->refreshes, 1);
	ASSERT_CONTAINS(shared->form, "grant_type=refresh_token");
	ASSERT_CONTAINS(shared->form, "&service=test");
	ASSERT_CONTAINS(shared->form, "&scope=repository%3Ame%2Fapp%3Apull%2Cpush");
	ASSERT_CONTAINS(shared->form, "&refresh_token=re%20fresh%26");
	credential_done(&me);
}

TEST(a_registry_that_received_something_else_is_not_believed)
{
	push_refused(OTHER_DIGEST, ERROR_DATA, "not sha256:");
}

TEST(a_registry_without_a_place_for_uploads_is_refused)
{
	push_refused(NO_LOCATION, ERROR_DATA, "where to send");
}

TEST(a_full_registry_is_told)
{
	push_refused(FULL, ERROR_FAILED, "507");
}

TEST(what_we_may_not_push_is_told)
{
	push_refused(FORBIDDEN, ERROR_DENIED, "does not allow");
}

TEST(a_blob_that_we_lack_is_named)
{
	_cleanup_free_ char *path = NULL;
	_cleanup_error_ struct error e = {};

	set_up(HONEST);
	path = xasprintf("blobs/sha256/%s", layer_digest + 7);
	ASSERT_EQ(unlinkat(store.images_fd, path, 0), 0);
	ASSERT(push_as(NULL, NULL, &e) < 0);
	ASSERT_CONTAINS(e.msg, layer_digest + 7);
}
