/* The real skerry-init as an agent on a socketpair: how it answers, whatever is sent. */
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "agent_peer.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"
#include "wire/ttrpc.h"

TEST(hello_tells_who_is_there)
{
	struct agent_peer p = agent_start();
	Skerry__Agent__V1__HelloResponse *m;

	m = agent_take(&p, agent_send(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor);
	ASSERT_STREQ(m->version, SKERRY_VERSION);
	ASSERT(m->kernel[0]);
	ASSERT(m->uptime_ns > 0);
	ASSERT(!m->init_is_agent);
	ASSERT_STREQ(m->error, "");
	message_free(m);
	agent_stop(&p);
}

TEST(bad_requests_are_refused_and_nothing_ends)
{
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf garbage = { 0 };
	Skerry__Agent__V1__ExecRequest m;
	Skerry__Agent__V1__DialRequest dial;
	Skerry__Agent__V1__AcceptRequest accept;
	char id[] = "";

	agent_assert_fails(&p, agent_send(&p, "Nonsense", NULL), TTRPC_UNIMPLEMENTED, "Nonsense");
	skerry__agent__v1__exec_request__init(&m);
	agent_assert_fails(&p, agent_send(&p, "Exec", &m.base), TTRPC_INVALID_ARGUMENT, "no command");
	agent_assert_fails(&p, agent_send_exec(&p, &(struct agent_command){ .id = id, .script = "true" }),
			   TTRPC_INVALID_ARGUMENT, "id");
	agent_assert_fails(
		&p, agent_send_exec(&p, &(struct agent_command){ .id = "a", .script = "true", .user = "no-such-user" }),
		TTRPC_NOT_FOUND, "no-such-user");
	agent_assert_fails(&p, agent_send_read(&p, "none", 1, 1), TTRPC_NOT_FOUND, "'none'");
	agent_run(&p, &(struct agent_command){ .id = "a", .script = "true" });
	agent_assert_fails(&p, agent_send_exec(&p, &(struct agent_command){ .id = "a", .script = "true" }),
			   TTRPC_ALREADY_EXISTS, "'a'");
	agent_assert_fails(&p, agent_send_read(&p, "a", 3, 1), TTRPC_INVALID_ARGUMENT, "stream 3");
	agent_assert_fails(&p, agent_send_id(&p, "Resize", "a"), TTRPC_INVALID_ARGUMENT, "terminal");
	skerry__agent__v1__dial_request__init(&dial);
	dial.port = 70000;
	agent_assert_fails(&p, agent_send(&p, "Dial", &dial.base), TTRPC_INVALID_ARGUMENT, "70000");
	skerry__agent__v1__accept_request__init(&accept);
	agent_assert_fails(&p, agent_send(&p, "Accept", &accept.base), TTRPC_NOT_FOUND, "no container");
	ttrpc_encode(&garbage, 999, TTRPC_REQUEST, 0, "\xff\xff", 2);
	ASSERT_OK(write_full(p.fd, garbage.p, garbage.len));
	agent_assert_fails(&p, 999, TTRPC_INVALID_ARGUMENT, "not a request");
	message_free(agent_take(&p, agent_send(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor));
	agent_stop(&p);
}

TEST(stat_and_stats_answer)
{
	struct agent_peer p = agent_start();
	Skerry__Agent__V1__StatRequest q;
	Skerry__Agent__V1__StatResponse *st;
	Skerry__Agent__V1__StatsResponse *m;
	char dir[] = "/usr", none[] = "/no/such/thing", link[] = "/proc/self/exe";

	skerry__agent__v1__stat_request__init(&q);
	q.path = dir;
	st = agent_take(&p, agent_send(&p, "Stat", &q.base), &skerry__agent__v1__stat_response__descriptor);
	ASSERT(st->exists && st->directory);
	message_free(st);
	q.path = none;
	st = agent_take(&p, agent_send(&p, "Stat", &q.base), &skerry__agent__v1__stat_response__descriptor);
	ASSERT(!st->exists && !st->directory);
	message_free(st);
	q.path = link;
	st = agent_take(&p, agent_send(&p, "Stat", &q.base), &skerry__agent__v1__stat_response__descriptor);
	ASSERT(st->exists && !st->directory);
	message_free(st);
	m = agent_take(&p, agent_send(&p, "Stats", NULL), &skerry__agent__v1__stats_response__descriptor);
	ASSERT(m->memory_total_bytes > m->memory_available_bytes);
	ASSERT(m->memory_available_bytes > 0);
	ASSERT(m->cpu_busy_ns > 0 && m->uptime_ns > 0 && m->processes > 0);
	ASSERT(m->root_total_bytes >= m->root_used_bytes && m->root_used_bytes > 0);
	message_free(m);
	agent_stop(&p);
}

/* A host that died in the middle of a frame, and the next one. */
TEST(a_new_host_starts_afresh_in_the_middle_of_a_frame)
{
	static const uint8_t nonce[SYNC_NONCE_SIZE] = "NONCE-12";
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf b = { 0 };
	Skerry__Agent__V1__HelloResponse *m;
	struct agent_answer a;
	uint32_t id;

	agent_run(&p, &(struct agent_command){ .id = "a", .script = "cat", .input = true });
	(void)agent_send_id(&p, "Wait", "a");
	(void)agent_send_read(&p, "a", 1, 10);
	buf_add(&b, "\0\0\1\0\0\0\0\1\1\0half", 14);
	sync_encode(&b, agent_token, nonce);
	for (size_t i = 0; i < b.len; i += 5)
		ASSERT_OK(write_full(p.fd, b.p + i, b.len - i < 5 ? b.len - i : 5));
	while (!sync_await(&p.in, agent_token, nonce)) {
		ssize_t n = read(p.fd, buf_reserve(&p.in, 100), 100);

		ASSERT(n > 0);
		buf_commit(&p.in, (size_t)n);
	}
	p.next_id = 1;
	m = agent_take(&p, agent_send(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor);
	message_free(m);
	/* The process is still there, and nobody else's read takes its bytes. */
	agent_write_all(&p, "a", "kept", 4);
	id = agent_send_read(&p, "a", 1, 10);
	ASSERT_EQ(agent_next(&p, &a), id);
	ASSERT_EQ(a.code, TTRPC_OK);
	agent_answer_done(&a);
	agent_stop(&p);
}

TEST(an_overlong_frame_is_survived_by_a_sync)
{
	static const uint8_t nonce[SYNC_NONCE_SIZE] = "NONCE-34";
	struct agent_peer p = agent_start();
	_cleanup_buf_ struct buf b = { 0 };

	buf_add(&b, "\xff\xff\xff\xff\0\0\0\1\1\0garbage", 17);
	sync_encode(&b, agent_token, nonce);
	ASSERT_OK(write_full(p.fd, b.p, b.len));
	while (!sync_await(&p.in, agent_token, nonce)) {
		ssize_t n = read(p.fd, buf_reserve(&p.in, 100), 100);

		ASSERT(n > 0);
		buf_commit(&p.in, (size_t)n);
	}
	message_free(agent_take(&p, agent_send(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor));
	agent_stop(&p);
}

TEST(an_idle_agent_sleeps)
{
	struct agent_peer p = agent_start();
	_cleanup_free_ char *path = xasprintf("/proc/%d/schedstat", p.pid);
	_cleanup_buf_ struct buf before = { 0 }, after = { 0 };

	message_free(agent_take(&p, agent_send(&p, "Hello", NULL), &skerry__agent__v1__hello_response__descriptor));
	agent_run(&p, &(struct agent_command){ .id = "a", .script = "sleep 100", .input = true });
	/* What was begun settles some time; who woke up again and again would do so in every span. */
	for (int span = 0; span < 5 && (!after.p || strcmp(after.p, before.p) != 0); span++) {
		buf_truncate(&before, 0);
		buf_truncate(&after, 0);
		if (file_read_at(AT_FDCWD, path, 100, &before) < 0)
			test_skip("no schedstat");
		poll(NULL, 0, 1000); /* lint: the span is what is measured */
		ASSERT_OK(file_read_at(AT_FDCWD, path, 100, &after));
	}
	ASSERT_STREQ(after.p, before.p);
	agent_stop(&p);
}
