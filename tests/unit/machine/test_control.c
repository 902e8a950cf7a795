#include "machine/control.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "machine/client.h"
#include "test.h"

struct fixture {
	struct loop *loop;
	struct control *control;
	struct rpc *agent, *guest; /* the monitor's end, the guest's end */
	struct rpc *command;       /* what `skerry` would hold */
	int dir;
	uint64_t ticket;
	char released[16], guest_saw[64];
	int answers, last_num;
	char last[64];
	uint32_t held;
	bool dials_refused;
};

static void on_request(uint64_t ticket, const char *method, const uint8_t *payload, size_t len, void *data)
{
	struct fixture *f = data;

	if (streq(method, "Echo"))
		control_reply(f->control, ticket, payload, len);
	else
		f->ticket = ticket;
}
static struct rpc *agent(void *data)
{
	return ((struct fixture *)data)->agent;
}
static void released(const char *id, void *data)
{
	struct fixture *f = data;

	snprintf(f->released, sizeof(f->released), "%s", id);
}
static const struct control_handler handler = { on_request, agent, released };

static void guest_request(struct rpc *r, uint32_t stream, const struct ttrpc_request *req, void *data)
{
	struct fixture *f = data;
	size_t used = strlen(f->guest_saw);

	snprintf(f->guest_saw + used, sizeof(f->guest_saw) - used, "%s ", req->method);
	if (streq(req->method, "Wait"))
		f->held = stream;
	else if (streq(req->method, "Dial") && f->dials_refused)
		rpc_reply_error(r, stream, ECONNREFUSED, "nobody listens");
	else
		rpc_reply(r, stream, "from guest", 10);
}
static void on_closed(struct rpc *r, int num, void *data)
{
	(void)r;
	(void)num;
	(void)data;
}
static void on_done(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct fixture *f = data;

	f->answers++;
	f->last_num = err ? err->num : 0;
	snprintf(f->last, sizeof(f->last), "%.*s", err ? 0 : (int)len, err ? "" : (const char *)payload);
}

static void settle(struct fixture *f)
{
	while (loop_step(f->loop, clock_monotonic_ns() + 20 * NS_PER_MS) > 0)
		;
}

static void setup(struct fixture *f, bool with_agent)
{
	int sv[2];

	*f = (struct fixture){};
	ASSERT_OK(loop_new(&f->loop));
	f->dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(control_new(f->loop, f->dir, &handler, f, &f->control));
	if (with_agent) {
		ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
		ASSERT_OK(rpc_new(f->loop, sv[0], NULL, on_closed, f, &f->agent));
		ASSERT_OK(rpc_new(f->loop, sv[1], guest_request, on_closed, f, &f->guest));
	}
	ASSERT_OK(rpc_new(f->loop, unix_connect_at(f->dir, "control.sock"), NULL, on_closed, f, &f->command));
}

static void teardown(struct fixture *f)
{
	f->command = rpc_free(f->command);
	settle(f);
	f->agent = rpc_free(f->agent);
	f->guest = rpc_free(f->guest);
	control_free(f->control);
	loop_free(f->loop);
	close(f->dir);
}

static void call_with_id(struct fixture *f, const char *method, const char *id)
{
	Skerry__Agent__V1__IdRequest req = SKERRY__AGENT__V1__ID_REQUEST__INIT;
	_cleanup_free_ char *copy = xstrdup(id);
	uint8_t packed[128];

	req.id = copy;
	ASSERT_OK(rpc_call(f->command, AGENT_SERVICE, method, packed, skerry__agent__v1__id_request__pack(&req, packed),
			   UINT64_MAX, on_done, f, NULL));
	settle(f);
}

TEST(the_monitors_own_calls_are_answered_by_it)
{
	struct fixture f;

	setup(&f, false);
	ASSERT_OK(rpc_call(f.command, MONITOR_SERVICE, "Echo", "hi", 2, UINT64_MAX, on_done, &f, NULL));
	settle(&f);
	ASSERT_EQ(f.answers, 1);
	ASSERT_STREQ(f.last, "hi");
	teardown(&f);
}

TEST(an_answer_may_come_later_and_may_come_for_somebody_who_left)
{
	struct fixture f;

	setup(&f, false);
	ASSERT_OK(rpc_call(f.command, MONITOR_SERVICE, "Wait", "", 0, UINT64_MAX, on_done, &f, NULL));
	settle(&f);
	ASSERT_EQ(f.answers, 0);
	control_reply(f.control, f.ticket, "now", 3);
	settle(&f);
	ASSERT_STREQ(f.last, "now");
	ASSERT_OK(rpc_call(f.command, MONITOR_SERVICE, "Wait", "", 0, UINT64_MAX, on_done, &f, NULL));
	settle(&f);
	f.command = rpc_free(f.command);
	settle(&f);
	control_reply(f.control, f.ticket, "too late", 8);
	settle(&f);
	teardown(&f);
}

TEST(the_agents_calls_go_to_the_guest_and_back)
{
	struct fixture f;

	setup(&f, true);
	call_with_id(&f, "Exec", "abc");
	ASSERT_STREQ(f.guest_saw, "Exec ");
	ASSERT_STREQ(f.last, "from guest");
	teardown(&f);
}

TEST(without_an_agent_the_answer_is_try_again)
{
	struct fixture f;

	setup(&f, false);
	call_with_id(&f, "Exec", "abc");
	ASSERT_EQ(f.answers, 1);
	ASSERT(f.last_num != 0);
	teardown(&f);
}

TEST(a_command_that_goes_away_releases_its_processes_but_not_the_main_one)
{
	struct fixture f;

	setup(&f, true);
	call_with_id(&f, "Exec", "abc");
	call_with_id(&f, "Read", "main");
	f.command = rpc_free(f.command);
	settle(&f);
	ASSERT_STREQ(f.guest_saw, "Exec Read Release ");
	ASSERT_STREQ(f.released, "main");
	teardown(&f);
}

TEST(pending_calls_about_the_main_process_are_counted)
{
	struct fixture f;

	setup(&f, true);
	call_with_id(&f, "Wait", "main");
	ASSERT_EQ(control_pending_main(f.control), 1);
	ASSERT(control_main_attached(f.control));
	rpc_reply(f.guest, f.held, "", 0);
	settle(&f);
	ASSERT_EQ(control_pending_main(f.control), 0);
	ASSERT_STREQ(f.released, "main");
	teardown(&f);
}

/* As many as one connection may have of them at once. */
enum { SESSIONS = 64 };

TEST(what_failed_or_was_released_does_not_count)
{
	struct fixture f;
	char id[16];

	setup(&f, true);
	f.dials_refused = true;
	for (int i = 0; i <= SESSIONS; i++) {
		snprintf(id, sizeof(id), "probe-%d", i);
		call_with_id(&f, "Dial", id);
		ASSERT_EQ(f.last_num, ECONNREFUSED);
	}
	f.dials_refused = false;
	for (int i = 0; i <= SESSIONS; i++) {
		snprintf(id, sizeof(id), "open-%d", i);
		call_with_id(&f, "Dial", id);
		ASSERT_EQ(f.last_num, 0);
		call_with_id(&f, "Release", id);
		ASSERT_EQ(f.last_num, 0);
	}
	f.guest_saw[0] = '\0';
	call_with_id(&f, "Dial", "last");
	f.command = rpc_free(f.command);
	settle(&f);
	ASSERT_STREQ(f.guest_saw, "Dial Release ");
	teardown(&f);
}

TEST(what_is_held_is_bounded)
{
	struct fixture f;
	char id[16];

	setup(&f, true);
	for (int i = 0; i < SESSIONS; i++) {
		snprintf(id, sizeof(id), "open-%d", i);
		call_with_id(&f, "Dial", id);
		ASSERT_EQ(f.last_num, 0);
	}
	call_with_id(&f, "Dial", "another");
	ASSERT(f.last_num != 0);
	teardown(&f);
}

TEST(an_unknown_service_is_refused)
{
	struct fixture f;

	setup(&f, true);
	ASSERT_OK(rpc_call(f.command, "evil.v1.Evil", "Do", "", 0, UINT64_MAX, on_done, &f, NULL));
	settle(&f);
	ASSERT_EQ(f.answers, 1);
	ASSERT(f.last_num != 0);
	ASSERT_STREQ(f.guest_saw, "");
	teardown(&f);
}
