#include "image/http.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "image/retry.h"

#include "test.h"
#include "web.h"

struct seen {
	unsigned requests;
	char authorization[4][256], body[256];
	int other; /* another server's port */
};

static struct http *client(int port, unsigned stall_s)
{
	_cleanup_strv_ struct strv plain = {};
	struct http_settings s = { .plain_hosts = &plain, .stall_s = stall_s };
	struct http *h = NULL;

	strv_addf(&plain, "127.0.0.1:%d", port);
	strv_addf(&plain, "localhost:%d", port);
	ASSERT_OK(http_new(&s, &h, NULL));
	return h;
}

static int get(struct http *h, const char *url, struct http_answer *a, bool *transient, struct error *err)
{
	struct http_request req = {
		.method = HTTP_GET, .url = url, .limit = 1000, .body_fd = -1, .user = "me", .secret = "pw"
	};

	return http_exchange(h, &req, a, transient, err);
}

static void note(const struct web_request *q, struct seen *s)
{
	unsigned i = __atomic_fetch_add(&s->requests, 1, __ATOMIC_SEQ_CST);

	snprintf(s->authorization[i % 4], sizeof(s->authorization[0]), "%s", web_header(q, "Authorization"));
	snprintf(s->body, sizeof(s->body), "%.*s", (int)(q->body_len < 255 ? q->body_len : 255), q->body);
}

static void plain_answer(const struct web_request *q, struct web_answer *a, void *data)
{
	note(q, data);
	a->body = "hello";
	a->len = 5;
	web_add_header(a, "Docker-Content-Digest: sha256:x");
	web_add_header(a, "WWW-Authenticate: Bearer realm=\"https://t\"");
	web_add_header(a, "Content-Type: text/plain");
}

TEST(an_answer_is_read)
{
	struct seen *s = web_shared(sizeof(*s));
	int port = web_start(plain_answer, s);
	_cleanup_(http_freep) struct http *h = client(port, 0);
	_cleanup_free_ char *url = xasprintf("http://127.0.0.1:%d/a", port);
	_cleanup_answer_ struct http_answer a = {};

	ASSERT_OK(get(h, url, &a, NULL, NULL));
	ASSERT_EQ(a.status, 200);
	ASSERT_STREQ(a.body.p, "hello");
	ASSERT_STREQ(a.digest, "sha256:x");
	ASSERT_STREQ(a.content_type, "text/plain");
	ASSERT_STREQ(a.challenge.realm, "https://t");
	ASSERT_EQ(a.length, 5);
	ASSERT_STREQ(s->authorization[0], "Basic bWU6cHc=");
}

TEST(a_host_that_was_not_named_is_not_spoken_to_without_tls)
{
	struct seen *s = web_shared(sizeof(*s));
	int port = web_start(plain_answer, s);
	_cleanup_(http_freep) struct http *h = client(1, 0);
	_cleanup_free_ char *url = xasprintf("http://127.0.0.1:%d/a", port);
	_cleanup_answer_ struct http_answer a = {};
	_cleanup_error_ struct error e = {};

	ASSERT(get(h, url, &a, NULL, &e) < 0);
	ASSERT_CONTAINS(e.hint, "--plain-http");
	ASSERT_EQ(s->requests, 0);
	error_done(&e);
	ASSERT(get(h, "file:///etc/passwd", &a, NULL, &e) < 0);
}

TEST(a_server_without_tls_is_told_from_one_with_it)
{
	struct seen *s = web_shared(sizeof(*s));
	int port = web_start(plain_answer, s);
	_cleanup_(http_freep) struct http *h = client(port, 0);
	_cleanup_free_ char *url = xasprintf("https://127.0.0.1:%d/a", port);
	_cleanup_answer_ struct http_answer a = {};
	_cleanup_error_ struct error e = {};
	bool transient;

	ASSERT(get(h, url, &a, &transient, &e) < 0);
	ASSERT(!transient);
	ASSERT_CONTAINS(e.hint, "--plain-http 127.0.0.1");
}

static void redirect(const struct web_request *q, struct web_answer *a, void *data)
{
	struct seen *s = data;

	note(q, s);
	a->status = 307;
	if (!strcmp(q->target, "/same"))
		web_add_header(a, "Location: /end");
	else if (!strcmp(q->target, "/away"))
		web_add_header(a, "Location: http://127.0.0.1:%d/end?signature=hunter2", s->other);
	else if (!strcmp(q->target, "/loop"))
		web_add_header(a, "Location: /loop");
	else if (!strcmp(q->target, "/file"))
		web_add_header(a, "Location: file:///etc/passwd");
	else if (!strcmp(q->target, "/unnamed"))
		web_add_header(a, "Location: http://localhost:1/x");
	else
		a->status = 200;
}

TEST(credentials_stay_with_the_origin_they_are_for)
{
	struct seen *here = web_shared(sizeof(*here)), *there = web_shared(sizeof(*there));
	int port = web_start(redirect, here);
	_cleanup_strv_ struct strv plain = {};
	struct http_settings set = { .plain_hosts = &plain };
	_cleanup_(http_freep) struct http *h = NULL;
	_cleanup_free_ char *same = xasprintf("http://127.0.0.1:%d/same", port),
			    *away = xasprintf("http://127.0.0.1:%d/away", port);
	_cleanup_answer_ struct http_answer a = {}, b = {};

	here->other = web_start(plain_answer, there);
	strv_addf(&plain, "127.0.0.1:%d", port);
	strv_addf(&plain, "127.0.0.1:%d", here->other);
	ASSERT_OK(http_new(&set, &h, NULL));
	ASSERT_OK(get(h, same, &a, NULL, NULL));
	ASSERT_EQ(a.status, 200);
	ASSERT_STREQ(here->authorization[0], "Basic bWU6cHc=");
	ASSERT_STREQ(here->authorization[1], "Basic bWU6cHc=");
	ASSERT_OK(get(h, away, &b, NULL, NULL));
	ASSERT_STREQ(b.body.p, "hello");
	ASSERT_EQ(there->requests, 1);
	ASSERT_STREQ(there->authorization[0], "");
}

TEST(redirects_end_and_lead_to_no_other_protocol)
{
	static const char *const paths[] = { "loop", "file", "unnamed" };
	struct seen *s = web_shared(sizeof(*s));
	int port = web_start(redirect, s);
	_cleanup_(http_freep) struct http *h = client(port, 0);

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		_cleanup_free_ char *url = xasprintf("http://127.0.0.1:%d/%s", port, paths[i]);
		_cleanup_answer_ struct http_answer a = {};
		_cleanup_error_ struct error e = {};
		bool transient;

		ASSERT(get(h, url, &a, &transient, &e) < 0);
		ASSERT(!transient && e.msg);
	}
	ASSERT(s->requests <= 14);
}

static void misbehave(const struct web_request *q, struct web_answer *a, void *data)
{
	static char big[1 << 20];

	note(q, data);
	memset(big, 'x', sizeof(big));
	a->body = big;
	a->len = 2000;
	if (!strcmp(q->target, "/error"))
		a->status = 500, a->len = sizeof(big);
	else if (!strcmp(q->target, "/cut"))
		a->cut = 100;
	else if (!strcmp(q->target, "/closed"))
		a->status = 0;
	else if (!strcmp(q->target, "/stall"))
		a->stall_s = 30;
	else if (!strcmp(q->target, "/busy"))
		a->status = 429, web_add_header(a, "Retry-After: 7");
}

TEST(bodies_are_bounded_and_breaks_are_told_from_refusals)
{
	static const struct {
		const char *path;
		int r;
		bool transient;
	} cases[] = { { "long", -EFBIG, false },     { "cut", -EIO, true }, { "closed", -EIO, true },
		      { "stall", -ETIMEDOUT, true }, { "error", 0, true },  { "busy", 0, true } };
	struct seen *s = web_shared(sizeof(*s));
	int port = web_start(misbehave, s);

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		/* Only who stalls is to be found stalling: the others may be held up. */
		_cleanup_(http_freep) struct http *h = client(port, streq(cases[i].path, "stall") ? 2 : 0);
		_cleanup_free_ char *url = xasprintf("http://127.0.0.1:%d/%s", port, cases[i].path);
		struct http_request req = { .url = url, .limit = 1000, .body_fd = -1 };
		_cleanup_answer_ struct http_answer a = {};
		bool transient;

		/* A cut is met while what comes still fits. */
		req.limit = streq(cases[i].path, "cut") ? 5000 : 1000;
		ASSERT_EQ(http_exchange(h, &req, &a, &transient, NULL), cases[i].r);
		ASSERT_EQ(transient, cases[i].transient);
		if (streq(cases[i].path, "busy"))
			ASSERT_EQ(a.retry_after_ns, 7 * NS_PER_SEC);
	}
}

TEST(what_is_sent_arrives)
{
	struct seen *s = web_shared(sizeof(*s));
	int port = web_start(plain_answer, s), fd;
	_cleanup_(http_freep) struct http *h = client(port, 0);
	_cleanup_free_ char *url = xasprintf("http://127.0.0.1:%d/a", port), *path = xasprintf("%s/f", test_tmpdir());
	struct http_request req = {
		.method = HTTP_PUT, .url = url, .body_fd = -1, .body = "abc", .body_bytes = 3, .limit = 10
	};
	_cleanup_answer_ struct http_answer a = {}, b = {}, c = {};

	ASSERT_OK(http_exchange(h, &req, &a, NULL, NULL));
	ASSERT_STREQ(s->body, "abc");
	req.method = HTTP_POST;
	req.body = "d=e";
	ASSERT_OK(http_exchange(h, &req, &b, NULL, NULL));
	ASSERT_STREQ(s->body, "d=e");
	ASSERT_OK(file_write_at(AT_FDCWD, path, "from a file", 11, 0600, 0));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	req.method = HTTP_PUT;
	req.body = NULL;
	req.body_fd = fd;
	req.body_bytes = 11;
	ASSERT_OK(http_exchange(h, &req, &c, NULL, NULL));
	ASSERT_STREQ(s->body, "from a file");
	close(fd);
}

TEST(a_proxy_of_the_environment_is_asked_instead)
{
	struct seen *s = web_shared(sizeof(*s));
	int port = web_start(plain_answer, s);
	_cleanup_free_ char *proxy = xasprintf("http://127.0.0.1:%d", port);
	_cleanup_strv_ struct strv plain = {};
	struct http_settings set = { .plain_hosts = &plain };
	_cleanup_(http_freep) struct http *h = NULL;
	_cleanup_answer_ struct http_answer a = {}, b = {};
	_cleanup_error_ struct error e = {};

	/* Whether there is a name server or not, it is known soon. */
	setenv("RES_OPTIONS", "timeout:1 attempts:1", 1);
	strv_add(&plain, "registry.invalid");
	ASSERT_OK(http_new(&set, &h, NULL));
	setenv("http_proxy", proxy, 1);
	ASSERT_OK(get(h, "http://registry.invalid/a", &a, NULL, NULL));
	ASSERT_STREQ(a.body.p, "hello");
	setenv("no_proxy", "registry.invalid", 1);
	ASSERT(get(h, "http://registry.invalid/a", &b, NULL, &e) < 0);
	ASSERT_CONTAINS(e.msg, "no such host");
}

static void recover(const struct web_request *q, struct web_answer *a, void *data)
{
	struct seen *s = data;

	note(q, s);
	if (s->requests <= 2)
		a->status = 503;
}

TEST(a_server_that_recovers_is_asked_again)
{
	struct seen *s = web_shared(sizeof(*s));
	int port = web_start(recover, s);
	_cleanup_(http_freep) struct http *h = client(port, 0);
	_cleanup_free_ char *url = xasprintf("http://127.0.0.1:%d/a", port);
	struct http_request req = { .url = url, .limit = 1000, .body_fd = -1 };
	_cleanup_answer_ struct http_answer a = {};

	ASSERT_OK(http_insist(h, &req, &a, NULL));
	ASSERT_EQ(a.status, 200);
	ASSERT_EQ(s->requests, 3);
}

TEST(retry_after_is_seconds_or_a_date)
{
	uint64_t now_ns = UINT64_C(784111770) * NS_PER_SEC;

	ASSERT_EQ(retry_after_parse("120", now_ns), 120 * NS_PER_SEC);
	ASSERT_EQ(retry_after_parse("Sun, 06 Nov 1994 08:49:37 GMT", now_ns), 7 * NS_PER_SEC);
	ASSERT_EQ(retry_after_parse("Sun, 06 Nov 1993 08:49:37 GMT", now_ns), 0);
	ASSERT_EQ(retry_after_parse("soon", now_ns), -1);
	ASSERT_EQ(retry_after_parse("99999999999999999999999", now_ns), -1);
	ASSERT_EQ(retry_after_parse("", now_ns), -1);
}

TEST(it_is_enough_at_some_time)
{
	struct retry r = {}, asked = {};
	uint64_t wait_ns, last_ns = 0;
	unsigned n = 0;

	while (retry_again(&r, UINT64_MAX, &wait_ns)) {
		ASSERT(wait_ns <= 30 * NS_PER_SEC && wait_ns > last_ns / 4);
		last_ns = wait_ns;
		ASSERT(++n < 20);
	}
	ASSERT(n >= 4);
	ASSERT(retry_again(&asked, 5 * NS_PER_SEC, &wait_ns));
	ASSERT_EQ(wait_ns, 5 * NS_PER_SEC);
	ASSERT(!retry_again(&asked, 3600 * NS_PER_SEC, &wait_ns));
}
