#include "engine/qemu/qmp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/process.h"
#include "base/spawn.h"
#include "engine/qemu/schema.h"
#include "test.h"

/* A scripted peer on the other end of a socket pair. What the client wrote is read as lines; answers are written by the test. */
struct peer {
	struct loop *loop;
	struct qmp *qmp;
	int fd;
	int ready, ready_num;
	int closed, closed_num;
	int events;
	char last_event[64];
	int free_on; /* 1 = in the event, 2 = in ready, 3 = in closed */
};

#define GREETING "{\"QMP\":{\"version\":{},\"capabilities\":[\"oob\"]}}\r\n"
#define SOON     (100 * NS_PER_SEC)

static void maybe_free(struct peer *p, int where)
{
	if (p->free_on == where)
		p->qmp = qmp_free(p->qmp);
}

static void on_event(const char *event, const struct json *data, void *userdata)
{
	struct peer *p = userdata;

	(void)data;
	p->events++;
	snprintf(p->last_event, sizeof(p->last_event), "%s", event);
	maybe_free(p, 1);
}

static void on_ready(const struct error *err, struct json *value, void *userdata)
{
	struct peer *p = userdata;

	ASSERT(!err != !value);
	p->ready++;
	p->ready_num = err ? err->num : 0;
	maybe_free(p, 2);
}

static void on_closed(const struct error *why, void *userdata)
{
	struct peer *p = userdata;

	p->closed++;
	p->closed_num = why->num;
	maybe_free(p, 3);
}

static void start(struct peer *p, uint64_t timeout_ns)
{
	struct qmp_callbacks cb = { .event = on_event, .ready = on_ready, .closed = on_closed, .userdata = p };
	int pair[2];

	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	ASSERT_OK(loop_new(&p->loop));
	p->fd = pair[1];
	ASSERT_OK(qmp_new(p->loop, pair[0], &cb, timeout_ns, &p->qmp, NULL));
}

static void finish(struct peer *p)
{
	p->qmp = qmp_free(p->qmp);
	if (p->fd >= 0)
		close(p->fd);
	p->loop = loop_free(p->loop);
}

static void say(struct peer *p, const char *text)
{
	ASSERT_EQ(send(p->fd, text, strlen(text), MSG_NOSIGNAL), (long long)strlen(text));
}

/* Serves the client until nothing is left to do at once. */
static void turn(struct peer *p)
{
	while (loop_step(p->loop, clock_monotonic_ns() + 2 * NS_PER_MS) > 0)
		;
}

static void hears(struct peer *p, const char *word)
{
	char text[4096];
	ssize_t n = recv(p->fd, text, sizeof(text) - 1, 0);

	ASSERT(n > 0);
	text[n] = 0;
	ASSERT_CONTAINS(text, word);
}

static void negotiate(struct peer *p)
{
	start(p, SOON);
	say(p, GREETING);
	turn(p);
	hears(p, "qmp_capabilities");
	ASSERT_EQ(p->ready, 0);
	say(p, "{\"return\":{},\"id\":0}\n");
	turn(p);
	ASSERT_EQ(p->ready, 1);
	ASSERT_EQ(p->ready_num, 0);
}

struct answer {
	int n, num;
	uint64_t value;
	char msg[256];
	struct peer *free_peer;
};

static void on_answer(const struct error *err, struct json *value, void *userdata)
{
	struct answer *a = userdata;

	a->n++;
	a->num = err ? err->num : 0;
	if (err)
		snprintf(a->msg, sizeof(a->msg), "%s", err->msg);
	else if (!json_u64(value, &a->value))
		a->value = 0;
	if (a->free_peer)
		a->free_peer->qmp = qmp_free(a->free_peer->qmp);
}

TEST(greeting_and_negotiation_make_it_ready)
{
	struct peer p = {};

	negotiate(&p);
	finish(&p);
	ASSERT_EQ(p.closed, 0);
}

TEST(replies_may_come_out_of_order_between_events_and_in_pieces)
{
	struct answer a[3] = {};
	struct peer p = {};
	const char last[] = "{\"return\": 22, \"id\": 2}\n";

	negotiate(&p);
	for (int i = 0; i < 3; i++)
		qmp_call(p.qmp, "query-x", NULL, SOON, on_answer, &a[i]);
	turn(&p);
	hears(&p, "\"id\":3");
	say(&p,
	    "{\"return\": 33, \"id\": 3}\n{\"event\":\"RESUME\",\"data\":{}}\n{\"error\":{\"class\":\"GenericError\","
	    "\"desc\":\"no such thing\"},\"id\":1}\n");
	turn(&p);
	ASSERT_EQ(a[2].value, 33);
	ASSERT_EQ(a[0].num, EIO);
	ASSERT_STREQ(a[0].msg, "query-x: no such thing");
	ASSERT_EQ(a[1].n, 0);
	ASSERT_EQ(p.events, 1);
	for (size_t i = 0; i < strlen(last); i++) {
		ASSERT_EQ(send(p.fd, last + i, 1, 0), 1);
		turn(&p);
	}
	ASSERT_EQ(a[1].value, 22);
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(a[i].n, 1);
	finish(&p);
	for (int i = 0; i < 3; i++)
		ASSERT_EQ(a[i].n, 1);
}

TEST(unknown_ids_events_and_messages_are_ignored)
{
	struct answer a = {};
	struct peer p = {};

	negotiate(&p);
	say(&p,
	    "{\"return\":{},\"id\":77}\n{\"return\":{},\"id\":\"x\"}\n{\"return\":{}}\n{\"event\":\"NEW_IN_2040\"}\n"
	    "{\"error\":{\"desc\":\"parse\"}}\n\r\n{}\n{\"return\":{},\"id\":0}\n");
	turn(&p);
	ASSERT_EQ(p.closed, 0);
	ASSERT_EQ(p.ready, 1);
	ASSERT_STREQ(p.last_event, "NEW_IN_2040");
	qmp_call(p.qmp, "stop", NULL, SOON, on_answer, &a);
	say(&p, "{\"id\":1,\"return\":{}}\n{\"id\":1,\"return\":{}}\n");
	turn(&p);
	ASSERT_EQ(a.n, 1);
	finish(&p);
}

TEST(the_end_of_the_connection_answers_everybody_once)
{
	struct answer a[2] = {}, late = {};
	struct peer p = {};

	negotiate(&p);
	qmp_call(p.qmp, "query-status", NULL, SOON, on_answer, &a[0]);
	qmp_call(p.qmp, "quit", NULL, SOON, on_answer, &a[1]);
	turn(&p);
	close(p.fd);
	p.fd = -1;
	turn(&p);
	ASSERT_EQ(p.closed, 1);
	ASSERT_EQ(p.closed_num, ECONNRESET);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(a[i].n, 1);
		ASSERT_EQ(a[i].num, ECONNRESET);
	}
	ASSERT_CONTAINS(a[1].msg, "quit");
	qmp_call(p.qmp, "stop", json_object(), SOON, on_answer, &late);
	ASSERT_EQ(late.num, ENOTCONN);
	finish(&p);
	ASSERT_EQ(a[0].n + a[1].n + late.n, 3);
	ASSERT_EQ(p.closed, 1);
}

TEST(freeing_answers_pending_calls_with_cancelled)
{
	struct answer a = {};
	struct peer p = {};

	negotiate(&p);
	qmp_call(p.qmp, "stop", NULL, SOON, on_answer, &a);
	finish(&p);
	ASSERT_EQ(a.n, 1);
	ASSERT_EQ(a.num, ECANCELED);
	ASSERT_EQ(p.closed, 0);
}

static void ends_with(const char *text, int num)
{
	struct peer p = {};

	start(&p, SOON);
	say(&p, text);
	turn(&p);
	ASSERT_EQ(p.ready, 1);
	ASSERT_EQ(p.ready_num, num);
	ASSERT_EQ(p.closed, 1);
	ASSERT_EQ(p.closed_num, num);
	finish(&p);
}

TEST(a_peer_that_is_not_qemu_is_left)
{
	ends_with("SSH-2.0-OpenSSH_9.2\r\n", EBADMSG);
	ends_with("{\"hello\":1}\n", EPROTO);
	ends_with("[]\n", EPROTO);
	ends_with("{\"QMP\":1}\n", EPROTO);
	ends_with("\xff\xfe\n", EBADMSG);
	ends_with(GREETING "{\"id\":0,\"error\":{\"desc\":\"no\"}}\n", EIO);
}

TEST(garbage_after_negotiation_ends_it_and_answers)
{
	struct answer a = {};
	struct peer p = {};

	negotiate(&p);
	qmp_call(p.qmp, "stop", NULL, SOON, on_answer, &a);
	say(&p, "{\"return\":{},\"id\":1\n");
	turn(&p);
	ASSERT_EQ(a.n, 1);
	ASSERT_EQ(a.num, EBADMSG);
	ASSERT_EQ(p.closed, 1);
	finish(&p);
}

TEST(a_line_without_end_ends_at_the_limit)
{
	static char chunk[1 << 20];
	struct peer p = {};
	int r = 0, n;

	negotiate(&p);
	memset(chunk, 'x', sizeof(chunk));
	for (n = 0; r == 0 && n < 20; n++)
		r = qmp_feed(p.qmp, chunk, sizeof(chunk));
	ASSERT_EQ(r, -EMSGSIZE);
	ASSERT(n <= 9);
	ASSERT_EQ(p.closed_num, EMSGSIZE);
	ASSERT_EQ(qmp_feed(p.qmp, "{}\n", 3), -ESHUTDOWN);
	finish(&p);
}

TEST(a_call_has_its_deadline_and_a_late_reply_is_ignored)
{
	struct answer fast = {}, slow = {};
	struct peer p = {};

	negotiate(&p);
	qmp_call(p.qmp, "slow", NULL, SOON, on_answer, &slow);
	qmp_call(p.qmp, "fast", NULL, 10 * NS_PER_MS, on_answer, &fast);
	while (fast.n == 0)
		ASSERT(loop_step(p.loop, clock_monotonic_ns() + SOON) > 0);
	ASSERT_EQ(fast.num, ETIMEDOUT);
	ASSERT_CONTAINS(fast.msg, "fast");
	say(&p, "{\"return\":{},\"id\":2}\n{\"return\":5,\"id\":1}\n");
	turn(&p);
	ASSERT_EQ(fast.n, 1);
	ASSERT_EQ(slow.value, 5);
	finish(&p);
}

TEST(a_silent_peer_is_given_up)
{
	struct peer p = {};

	start(&p, 10 * NS_PER_MS);
	while (p.ready == 0)
		ASSERT(loop_step(p.loop, clock_monotonic_ns() + SOON) > 0);
	ASSERT_EQ(p.ready_num, ETIMEDOUT);
	ASSERT_EQ(p.closed, 1);
	finish(&p);
}

TEST(callbacks_may_free_the_client)
{
	for (int where = 1; where <= 3; where++) {
		struct peer p = { .free_on = where };

		start(&p, SOON);
		say(&p, GREETING "{\"event\":\"A\"}\n{\"event\":\"B\"}\n{\"id\":0,\"return\":{}}\nnonsense\n");
		turn(&p);
		ASSERT(!p.qmp);
		ASSERT(p.events <= 2);
		finish(&p);
	}
	struct peer p = {};
	struct answer a = { .free_peer = &p }, b = {};

	negotiate(&p);
	qmp_call(p.qmp, "x", NULL, SOON, on_answer, &a);
	qmp_call(p.qmp, "y", NULL, SOON, on_answer, &b);
	say(&p, "{\"id\":1,\"return\":{}}\n{\"id\":2,\"return\":{}}\n");
	turn(&p);
	ASSERT(!p.qmp);
	ASSERT_EQ(a.n, 1);
	ASSERT_EQ(b.num, ECANCELED);
	finish(&p);
}

TEST(a_peer_that_does_not_read_blocks_nobody)
{
	struct answer a[64] = {};
	struct peer p = {};
	char *text = malloc(65536);

	negotiate(&p);
	memset(text, 'x', 65535);
	text[65535] = 0;
	for (size_t i = 0; i < ARRAY_SIZE(a); i++) {
		struct json *args = json_object();

		json_set_string(args, "data", text);
		qmp_call(p.qmp, "big", args, SOON, on_answer, &a[i]);
	}
	turn(&p);
	ASSERT_EQ(a[0].n, 0);
	close(p.fd);
	p.fd = -1;
	turn(&p);
	for (size_t i = 0; i < ARRAY_SIZE(a); i++)
		ASSERT_EQ(a[i].n, 1);
	free(text);
	finish(&p);
}

TEST(a_real_qemu_answers_describes_itself_and_quits)
{
	_cleanup_free_ char *qemu = program_find("qemu-system-x86_64");
	const char *const argv[] = {
		qemu,   "-nodefaults", "-no-user-config", "-display",          "none", "-machine",
		"none", "-S",          "-chardev",        "socket,id=q,fd=10", "-mon", "chardev=q,mode=control",
		NULL
	};
	struct spawn s = SPAWN_INIT;
	struct qmp_callbacks cb = {};
	struct json *value = NULL;
	struct error e = {};
	struct loop *loop;
	struct spawn_fd pass;
	struct qmp *q;
	int pair[2], pidfd;

	if (!qemu)
		test_skip("qemu-system-x86_64 is not installed");
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	pass = (struct spawn_fd){ pair[1], 10 };
	s.argv = argv;
	s.fds = &pass;
	s.n_fds = 1;
	s.death_signal = 9;
	ASSERT_OK(spawn_start(&s, NULL, &pidfd, &e));
	close(pair[1]);
	ASSERT_OK(loop_new(&loop));
	ASSERT_OK(qmp_new(loop, pair[0], &cb, SOON, &q, &e));
	ASSERT_OK(qmp_wait_ready(q, loop, &e));
	ASSERT_OK(qmp_call_wait(q, loop, "query-status", NULL, SOON, &value, &e));
	ASSERT_STREQ(json_string(json_get(value, "status")), "prelaunch");
	value = json_free(value);
	ASSERT_OK(qmp_call_wait(q, loop, "query-qmp-schema", NULL, SOON, &value, &e));
	ASSERT(qmp_schema_has(value, "netdev_add/type/stream"));
	ASSERT(qmp_schema_has(value, "blockdev-add/detect-zeroes/unmap"));
	ASSERT(qmp_schema_has(value, "blockdev-add/filename"));
	ASSERT(qmp_schema_has(value, "SHUTDOWN/reason/guest-shutdown"));
	ASSERT(!qmp_schema_has(value, "blockdev-add/filename2"));
	value = json_free(value);
	ASSERT_EQ(qmp_call_wait(q, loop, "no-such-command", NULL, SOON, NULL, &e), -EIO);
	ASSERT_CONTAINS(e.msg, "no-such-command");
	error_done(&e);
	ASSERT_OK(qmp_call_wait(q, loop, "quit", NULL, SOON, NULL, &e));
	ASSERT_OK(pidfd_wait_exit(pidfd, clock_monotonic_ns() + SOON));
	ASSERT_OK(pidfd_reap(pidfd, NULL));
	close(pidfd);
	qmp_free(q);
	loop_free(loop);
}
