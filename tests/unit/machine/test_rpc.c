#include "machine/rpc.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "test.h"

struct peer {
	struct loop *loop;
	struct rpc *a, *b; /* a calls, b serves */
	uint32_t held_stream;
	int answers, closed, last_num;
	char last[64];
	size_t last_len;
	bool was_open; /* when the last answer came */
};

/* A status that would clear the screen and fill it. */
static void rave(struct rpc *r, uint32_t stream)
{
	char text[5000];

	memset(text, 'a', sizeof(text));
	memcpy(text, "\033[2J\x9b\r\n", 7);
	text[sizeof(text) - 1] = '\0';
	rpc_reply_error(r, stream, EINVAL, text);
}

static void serve(struct rpc *r, uint32_t stream, const struct ttrpc_request *req, void *data)
{
	struct peer *p = data;

	if (streq(req->method, "Echo"))
		rpc_reply(r, stream, req->payload, req->payload_len);
	else if (streq(req->method, "Hold"))
		p->held_stream = stream;
	else if (streq(req->method, "Fail"))
		rpc_reply_error(r, stream, ENOENT, "no such thing");
	else if (streq(req->method, "Rave"))
		rave(r, stream);
	else if (streq(req->method, "Hang up"))
		p->b = rpc_free(r);
}

static void on_closed(struct rpc *r, int num, void *data)
{
	struct peer *p = data;

	(void)num;
	p->closed++;
	if (r == p->a)
		p->a = rpc_free(r);
	else
		p->b = rpc_free(r);
}

static void on_done(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct peer *p = data;

	p->answers++;
	p->last_num = err ? err->num : 0;
	p->was_open = rpc_is_open(p->a);
	p->last_len = err ? strlen(err->msg) : len;
	snprintf(p->last, sizeof(p->last), "%.*s", err ? (int)strlen(err->msg) : (int)len,
		 err ? err->msg : (const char *)payload);
}

static void setup(struct peer *p)
{
	int sv[2];

	*p = (struct peer){};
	ASSERT_OK(loop_new(&p->loop));
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	ASSERT_OK(rpc_new(p->loop, sv[0], NULL, on_closed, p, &p->a));
	ASSERT_OK(rpc_new(p->loop, sv[1], serve, on_closed, p, &p->b));
}

static void teardown(struct peer *p)
{
	p->a = rpc_free(p->a);
	p->b = rpc_free(p->b);
	loop_free(p->loop);
}

static void run_until_answers(struct peer *p, int n)
{
	uint64_t deadline = clock_monotonic_ns() + 100 * NS_PER_SEC;

	while (p->answers < n && clock_monotonic_ns() < deadline)
		ASSERT_OK(loop_step(p->loop, deadline));
	ASSERT_EQ(p->answers, n);
}

static int call(struct peer *p, const char *method, const char *text, uint64_t deadline)
{
	return rpc_call(p->a, "test", method, text, strlen(text), deadline, on_done, p, NULL);
}

TEST(a_call_gets_its_answer)
{
	struct peer p;

	setup(&p);
	ASSERT_OK(call(&p, "Echo", "hello", UINT64_MAX));
	run_until_answers(&p, 1);
	ASSERT_EQ(p.last_num, 0);
	ASSERT_STREQ(p.last, "hello");
	ASSERT(p.was_open);
	teardown(&p);
}

TEST(a_status_arrives_as_an_error_with_its_message)
{
	struct peer p;

	setup(&p);
	ASSERT_OK(call(&p, "Fail", "", UINT64_MAX));
	run_until_answers(&p, 1);
	ASSERT_EQ(p.last_num, ENOENT);
	ASSERT_STREQ(p.last, "no such thing");
	teardown(&p);
}

TEST(a_status_steers_no_terminal_and_is_bounded)
{
	struct peer p;

	setup(&p);
	ASSERT_OK(call(&p, "Rave", "", UINT64_MAX));
	run_until_answers(&p, 1);
	ASSERT_EQ(p.last_num, EINVAL);
	ASSERT_EQ(strncmp(p.last, "?[2J???aaa", 10), 0);
	ASSERT(p.last_len < 3000);
	teardown(&p);
}

TEST(answers_may_come_out_of_order)
{
	struct peer p;

	setup(&p);
	ASSERT_OK(call(&p, "Hold", "", UINT64_MAX));
	ASSERT_OK(call(&p, "Echo", "second", UINT64_MAX));
	run_until_answers(&p, 1);
	ASSERT_STREQ(p.last, "second");
	rpc_reply(p.b, p.held_stream, "first", 5);
	run_until_answers(&p, 2);
	ASSERT_STREQ(p.last, "first");
	teardown(&p);
}

TEST(a_deadline_answers_and_the_late_response_is_dropped)
{
	struct peer p;

	setup(&p);
	ASSERT_OK(call(&p, "Hold", "", clock_monotonic_ns() + 20 * NS_PER_MS));
	run_until_answers(&p, 1);
	ASSERT_EQ(p.last_num, ETIMEDOUT);
	rpc_reply(p.b, p.held_stream, "late", 4);
	ASSERT_OK(call(&p, "Echo", "next", UINT64_MAX));
	run_until_answers(&p, 2);
	ASSERT_STREQ(p.last, "next");
	teardown(&p);
}

TEST(the_end_of_the_connection_answers_every_pending_call_once)
{
	struct peer p;

	setup(&p);
	for (int i = 0; i < 3; i++)
		ASSERT_OK(call(&p, "Hold", "", UINT64_MAX));
	ASSERT_OK(call(&p, "Hang up", "", UINT64_MAX));
	run_until_answers(&p, 4);
	ASSERT_EQ(p.last_num, ECONNRESET);
	ASSERT(!p.was_open);
	ASSERT_EQ(p.closed, 1);
	ASSERT(p.a == NULL);
	teardown(&p);
}

TEST(a_cancelled_call_is_never_answered)
{
	struct peer p;
	int id;

	setup(&p);
	id = call(&p, "Hold", "", UINT64_MAX);
	ASSERT_OK(id);
	rpc_cancel(p.a, id);
	ASSERT_OK(call(&p, "Echo", "x", UINT64_MAX));
	run_until_answers(&p, 1);
	rpc_reply(p.b, p.held_stream, "y", 1);
	ASSERT_OK(call(&p, "Echo", "z", UINT64_MAX));
	run_until_answers(&p, 2);
	ASSERT_STREQ(p.last, "z");
	teardown(&p);
}

TEST(a_megabyte_goes_through_in_pieces)
{
	_cleanup_free_ char *big = xcalloc(1, (1 << 20) + 1);
	struct peer p;

	memset(big, 'x', 1 << 20);
	setup(&p);
	ASSERT_OK(rpc_call(p.a, "test", "Echo", big, 1 << 20, UINT64_MAX, on_done, &p, NULL));
	run_until_answers(&p, 1);
	ASSERT_EQ(p.last_num, 0);
	teardown(&p);
}

/* A connection with one end, which serves or calls; on the other a test writes frames and reads answers. */
static int raw_end(struct peer *p, rpc_request_fn on_request, struct rpc **ret)
{
	int sv[2];

	setup(p);
	p->a = rpc_free(p->a);
	p->b = rpc_free(p->b);
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	ASSERT_OK(rpc_new(p->loop, sv[0], on_request, on_closed, p, ret));
	return sv[1];
}

static int raw_peer(struct peer *p)
{
	return raw_end(p, serve, &p->b);
}

TEST(a_peer_that_speaks_something_else_is_hung_up_on)
{
	struct peer p;
	int fd = raw_end(&p, NULL, &p.a);

	ASSERT_OK(call(&p, "Echo", "", UINT64_MAX));
	ASSERT_EQ(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	run_until_answers(&p, 1);
	ASSERT_EQ(p.closed, 1);
	close(fd);
	teardown(&p);
}

/* Steps until a whole answer is there: its status. */
static int32_t raw_answer(struct peer *p, int fd, uint32_t stream)
{
	uint64_t deadline = clock_monotonic_ns() + 100 * NS_PER_SEC;
	_cleanup_buf_ struct buf in = {};

	for (;;) {
		struct ttrpc_response a;
		struct ttrpc_frame f;
		ssize_t n = read(fd, buf_reserve(&in, 4096), 4096);
		int32_t code;
		size_t used;

		ASSERT(n != 0);
		if (n > 0)
			buf_commit(&in, (size_t)n);
		/* Our decoder takes no stream 0, which others' may answer on. */
		if (in.len >= TTRPC_HEADER_SIZE && !memcmp(in.p + 4, "\0\0\0", 4))
			in.p[7] = 99;
		if (ttrpc_decode(&in, &f, &used) != 1) {
			ASSERT(clock_monotonic_ns() < deadline);
			ASSERT_OK(loop_step(p->loop, clock_monotonic_ns() + 10 * NS_PER_MS));
			continue;
		}
		ASSERT_EQ(f.stream_id, stream);
		ASSERT_EQ(used, in.len);
		ASSERT_OK(ttrpc_response_decode(&f, &a));
		code = a.code;
		ttrpc_response_done(&a);
		return code;
	}
}

static void raw_request(int fd, uint32_t stream)
{
	_cleanup_buf_ struct buf b = {};

	ASSERT_OK(ttrpc_request_encode(&b, stream, "test", "Echo", "x", 1, 0));
	ASSERT_EQ(write(fd, b.p, b.len), (long long)b.len);
}

TEST(what_breaks_the_rules_is_answered_and_the_connection_goes_on)
{
	struct peer p;
	int fd = raw_peer(&p);

	raw_request(fd, 3);
	ASSERT_EQ(raw_answer(&p, fd, 3), TTRPC_OK);
	raw_request(fd, 4);
	ASSERT_EQ(raw_answer(&p, fd, 4), TTRPC_INVALID_ARGUMENT);
	raw_request(fd, 0);
	ASSERT_EQ(raw_answer(&p, fd, 99), TTRPC_INVALID_ARGUMENT);
	raw_request(fd, 3);
	ASSERT_EQ(raw_answer(&p, fd, 3), TTRPC_INVALID_ARGUMENT);
	raw_request(fd, 1);
	ASSERT_EQ(raw_answer(&p, fd, 1), TTRPC_INVALID_ARGUMENT);
	/* Data that belongs to no stream, and a request that is none. */
	ASSERT_EQ(write(fd, "\0\0\0\1\0\0\0\3\3\0d", 11), 11);
	ASSERT_EQ(raw_answer(&p, fd, 3), TTRPC_INVALID_ARGUMENT);
	ASSERT_EQ(write(fd, "\0\0\0\1\0\0\0\5\1\0\377", 11), 11);
	ASSERT_EQ(raw_answer(&p, fd, 5), TTRPC_INVALID_ARGUMENT);
	/* Types that are not ours are for later versions. */
	ASSERT_EQ(write(fd, "\0\0\0\2\0\0\0\7\11\0ab", 12), 12);
	raw_request(fd, 9);
	ASSERT_EQ(raw_answer(&p, fd, 9), TTRPC_OK);
	ASSERT_EQ(p.closed, 0);
	close(fd);
	teardown(&p);
}

TEST(what_is_too_large_is_answered_at_once_and_left_out)
{
	_cleanup_free_ char *data = xcalloc(1, 64 << 10);
	size_t left = (5 << 20) + 3;
	struct peer p;
	int fd = raw_peer(&p);

	ASSERT_EQ(write(fd, "\0\x50\0\3\0\0\0\1\1\0", 10), 10);
	ASSERT_EQ(raw_answer(&p, fd, 1), TTRPC_RESOURCE_EXHAUSTED);
	memset(data, 1, 64 << 10);
	while (left) {
		ssize_t n = write(fd, data, left < 64 << 10 ? left : 64 << 10);

		if (n > 0)
			left -= (size_t)n;
		ASSERT_OK(loop_step(p.loop, clock_monotonic_ns()));
	}
	raw_request(fd, 3);
	ASSERT_EQ(raw_answer(&p, fd, 3), TTRPC_OK);
	close(fd);
	teardown(&p);
}

/* A guest is not answered, which would have us keep what it does not read. */
TEST(a_request_to_who_serves_nothing_ends_the_connection)
{
	struct peer p;
	int fd = raw_end(&p, NULL, &p.a);

	ASSERT_EQ(write(fd, "\0\0\0\0\0\0\0\1\1\0", 10), 10);
	ASSERT_OK(loop_step(p.loop, clock_monotonic_ns() + 100 * NS_PER_SEC));
	ASSERT_EQ(p.closed, 1);
	close(fd);
	teardown(&p);
}

TEST(who_does_not_read_its_answers_is_not_heard_for_a_while)
{
	enum { LARGE = 256 << 10, REQUESTS = 100 };
	_cleanup_free_ char *text = xcalloc(1, LARGE);
	_cleanup_buf_ struct buf b = {};
	size_t sent = 0, answers = 0;
	uint64_t deadline = clock_monotonic_ns() + 100 * NS_PER_SEC;
	struct peer p;
	int fd = raw_peer(&p), idle = 0;

	memset(text, 'x', LARGE);
	for (unsigned i = 0; i < REQUESTS; i++)
		ASSERT_OK(ttrpc_request_encode(&b, 2 * i + 1, "test", "Echo", text, LARGE, 0));
	/* Until neither side goes on. */
	while (idle < 100) {
		ssize_t n = sent < b.len ? write(fd, b.p + sent, b.len - sent) : -1;

		sent += n > 0 ? (size_t)n : 0;
		idle = n > 0 ? 0 : idle + 1;
		ASSERT_OK(loop_step(p.loop, clock_monotonic_ns()));
	}
	ASSERT(sent < b.len);
	ASSERT(rpc_backlog(p.b) < 2 << 20);
	/* It reads, and all is answered. */
	while (answers < (size_t)REQUESTS * LARGE) {
		ssize_t n = sent < b.len ? write(fd, b.p + sent, b.len - sent) : 0;

		sent += n > 0 ? (size_t)n : 0;
		n = read(fd, text, LARGE);
		answers += n > 0 ? (size_t)n : 0;
		ASSERT_OK(loop_step(p.loop, clock_monotonic_ns()));
		ASSERT(clock_monotonic_ns() < deadline);
	}
	close(fd);
	teardown(&p);
}

TEST(a_client_that_speaks_something_else_is_hung_up_on)
{
	struct peer p;
	int fd = raw_peer(&p);
	uint64_t deadline = clock_monotonic_ns() + 100 * NS_PER_SEC;

	ASSERT_EQ(write(fd, "GET / HTTP/1.1\r\n\r\n", 18), 18);
	while (!p.closed && clock_monotonic_ns() < deadline)
		ASSERT_OK(loop_step(p.loop, deadline));
	ASSERT_EQ(p.closed, 1);
	close(fd);
	teardown(&p);
}
