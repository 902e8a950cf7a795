#include "image/download.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/parse.h"
#include "image/digest.h"
#include "test.h"
#include "web.h"

enum { SIZE = 300000, HALF = 123456 };

struct server {
	unsigned requests, whole, rest;
	unsigned cut;     /* so many answers break off after HALF bytes */
	unsigned version; /* of what it has */
	bool no_etag, no_ranges, missing, busy;
};

static void fill(char *p, unsigned version)
{
	for (size_t i = 0; i < SIZE; i++)
		p[i] = (char)(i * 7 + i / 251 + version);
}

static void serve(const struct web_request *q, struct web_answer *a, void *data)
{
	static char body[SIZE];
	struct server *s = data;
	const char *range = after_prefix(web_header(q, "Range"), "bytes=");
	_cleanup_free_ char *digits = range ? xstrndup(range, strspn(range, "0123456789")) : NULL,
			    *etag = xasprintf("\"v%u\"", s->version);
	uint64_t from = 0;
	bool same;

	s->requests++;
	if (s->missing || (s->busy && s->requests == 1)) {
		a->status = s->missing ? 404 : 503;
		web_add_header(a, "Retry-After: 0");
		return;
	}
	same = strcmp(web_header(q, "If-Range"), etag) == 0;
	fill(body, s->version);
	if (!s->no_etag)
		web_add_header(a, "ETag: %s", etag);
	if (digits && same && !s->no_ranges && parse_u64(digits, 1, SIZE - 1, &from) == 0) {
		a->status = 206;
		web_add_header(a, "Content-Range: bytes %u-%u/%u", (unsigned)from, SIZE - 1, SIZE);
		s->rest++;
	} else {
		from = 0;
		s->whole++;
	}
	a->body = body + from;
	a->len = SIZE - (size_t)from;
	if (s->cut) {
		s->cut--;
		a->cut = HALF;
	}
}

struct fixture {
	struct server *s;
	struct http *h;
	char *url, *digest;
	uint64_t bytes;
	int dir;
	unsigned told;
};

static void setup(struct fixture *f)
{
	_cleanup_strv_ struct strv plain = {};
	struct http_settings hs = { .plain_hosts = &plain };
	int port;

	*f = (struct fixture){ .s = web_shared(sizeof(*f->s)) };
	port = web_start(serve, f->s);
	strv_addf(&plain, "127.0.0.1:%d", port);
	f->url = xasprintf("http://127.0.0.1:%d/a.iso?secret=1", port);
	ASSERT_OK(http_new(&hs, &f->h, NULL));
	f->dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void teardown(struct fixture *f)
{
	http_free(f->h);
	free(f->url);
	free(f->digest);
	safe_close(f->dir);
}

static void on_progress(uint64_t bytes, uint64_t total, void *data)
{
	struct fixture *f = data;

	f->told++;
	ASSERT_EQ(total, SIZE);
	ASSERT(bytes <= total);
}

static int get(struct fixture *f, const char *digest, struct error *err)
{
	struct download d = {
		.url = f->url, .digest = digest, .dir_fd = f->dir, .name = "a", .progress = on_progress, .data = f
	};

	free(f->digest);
	f->digest = NULL;
	return download_file(f->h, &d, &f->digest, &f->bytes, err);
}

static bool exists(const struct fixture *f, const char *name)
{
	return faccessat(f->dir, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_whole(const struct fixture *f)
{
	_cleanup_free_ char *want = xcalloc(1, SIZE), *digest = NULL;
	_cleanup_buf_ struct buf got = {};

	fill(want, f->s->version);
	ASSERT_OK(file_read_at(f->dir, "a", 2 * SIZE, &got));
	ASSERT_EQ(got.len, SIZE);
	ASSERT(memcmp(got.p, want, SIZE) == 0);
	digest = digest_bytes(want, SIZE);
	ASSERT_STREQ(f->digest, digest);
	ASSERT_EQ(f->bytes, SIZE);
	ASSERT(!exists(f, "a.part") && !exists(f, "a.part.json"));
}

TEST(a_file_comes_whole)
{
	struct fixture f;

	setup(&f);
	ASSERT_OK(get(&f, NULL, NULL));
	assert_whole(&f);
	ASSERT_EQ(f.s->requests, 1);
	ASSERT(f.told > 0);
	teardown(&f);
}

TEST(a_connection_that_breaks_is_gone_on_with)
{
	struct fixture f;

	setup(&f);
	f.s->cut = 2;
	f.s->busy = true;
	ASSERT_OK(get(&f, NULL, NULL));
	assert_whole(&f);
	ASSERT_EQ(f.s->whole, 1);
	ASSERT_EQ(f.s->rest, 2);
	teardown(&f);
}

/* As when we were killed in the middle of it. */
static void leave_a_part(struct fixture *f)
{
	_cleanup_free_ char *body = xcalloc(1, SIZE),
			    *record = xasprintf("{\"version\":1,\"url\":\"%s\",\"etag\":\"\\\"v0\\\"\",\"total\":%d}",
						f->url, SIZE);

	fill(body, 0);
	ASSERT_OK(file_write_at(f->dir, "a.part", body, HALF, 0600, 0));
	ASSERT_OK(file_write_at(f->dir, "a.part.json", record, strlen(record), 0600, 0));
}

TEST(what_an_earlier_try_left_is_used)
{
	struct fixture f;

	setup(&f);
	leave_a_part(&f);
	ASSERT_OK(get(&f, NULL, NULL));
	assert_whole(&f);
	ASSERT_EQ(f.s->whole, 0);
	ASSERT_EQ(f.s->rest, 1);
	teardown(&f);
}

TEST(parts_of_two_versions_are_never_put_together)
{
	struct fixture f;

	setup(&f);
	leave_a_part(&f);
	f.s->version = 1;
	ASSERT_OK(get(&f, NULL, NULL));
	assert_whole(&f);
	ASSERT_EQ(f.s->whole, 1);
	teardown(&f);
}

TEST(a_server_that_knows_no_parts_sends_it_again)
{
	struct fixture f;

	setup(&f);
	f.s->no_ranges = true;
	f.s->cut = 1;
	ASSERT_OK(get(&f, NULL, NULL));
	assert_whole(&f);
	ASSERT_EQ(f.s->whole, 2);
	teardown(&f);
	setup(&f);
	f.s->no_etag = true;
	f.s->cut = 1;
	ASSERT_OK(get(&f, NULL, NULL));
	assert_whole(&f);
	ASSERT_EQ(f.s->rest, 0);
	teardown(&f);
}

/* What comes once more is no progress. */
TEST(a_server_that_sends_the_same_part_again_and_again_is_given_up)
{
	enum { EVER = 100, FEW = 10 };
	struct fixture f;

	setup(&f);
	f.s->no_ranges = true;
	f.s->cut = EVER;
	ASSERT(get(&f, NULL, NULL) < 0);
	ASSERT(f.s->requests <= FEW);
	teardown(&f);
}

TEST(a_damaged_record_of_a_part_is_no_part)
{
	struct fixture f;

	setup(&f);
	leave_a_part(&f);
	ASSERT_OK(file_write_at(f.dir, "a.part.json", "{", 1, 0600, 0));
	ASSERT_OK(get(&f, NULL, NULL));
	assert_whole(&f);
	teardown(&f);
}

TEST(what_is_not_what_was_asked_for_is_not_kept)
{
	static const char wrong[] = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
	_cleanup_error_ struct error e = {};
	struct fixture f;

	setup(&f);
	ASSERT_EQ(get(&f, wrong, &e), -EBADMSG);
	ASSERT_EQ(e.kind, ERROR_DATA);
	ASSERT_CONTAINS(e.msg, "127.0.0.1");
	ASSERT(!exists(&f, "a") && !exists(&f, "a.part") && !exists(&f, "a.part.json"));
	teardown(&f);
}

TEST(what_is_not_there_is_told_at_once)
{
	_cleanup_error_ struct error e = {};
	struct fixture f;

	setup(&f);
	f.s->missing = true;
	ASSERT(get(&f, NULL, &e) < 0);
	ASSERT_EQ(f.s->requests, 1);
	ASSERT_CONTAINS(e.msg, "404");
	ASSERT(!strstr(e.msg, "secret"));
	ASSERT(!exists(&f, "a"));
	teardown(&f);
}
