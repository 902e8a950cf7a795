#include "machine/agent_link.h"

#include <fcntl.h>
#include <sys/socket.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "test.h"
#include "wire/ttrpc.h"

static const uint8_t token[SYNC_TOKEN_SIZE] = "0123456789abcdef";

struct seen {
	int ready, ending, lost;
	enum agent_ending how;
	char version[32], error[64];
};

static void on_ready(const char *version, const char *error, void *data)
{
	struct seen *s = data;

	s->ready++;
	snprintf(s->error, sizeof(s->error), "%s", error);
	snprintf(s->version, sizeof(s->version), "%s", version);
}
static void on_ending(enum agent_ending how, void *data)
{
	struct seen *s = data;

	s->ending++;
	s->how = how;
}
static void on_lost(void *data)
{
	((struct seen *)data)->lost++;
}
static const struct agent_link_events events = { on_ready, on_ending, on_lost };

static void steps(struct loop *l, const int *counter)
{
	uint64_t deadline = clock_monotonic_ns() + 100 * NS_PER_SEC;

	while (!*counter && clock_monotonic_ns() < deadline)
		ASSERT_OK(loop_step(l, deadline));
	ASSERT_EQ(*counter, 1);
}

/* Plays the guest: answers the host's sync after some bytes that a dead host left in the pipe. */
static void answer_sync(int fd)
{
	uint8_t got[SYNC_SIZE];
	struct buf out = {};

	ASSERT_EQ(recv(fd, got, sizeof(got), MSG_WAITALL), SYNC_SIZE);
	ASSERT_MEMEQ(got, token, SYNC_TOKEN_SIZE);
	buf_adds(&out, "half a frame of an older conversation");
	buf_add(&out, token, 7);
	sync_encode(&out, token, got + SYNC_TOKEN_SIZE);
	ASSERT_EQ(send(fd, out.p, out.len, 0), (ssize_t)out.len);
	buf_done(&out);
}

static void reply(int fd, uint32_t stream, const ProtobufCMessage *m)
{
	uint8_t packed[256];
	struct buf out = {};

	ASSERT_OK(ttrpc_response_encode(&out, stream, 0, "", packed, protobuf_c_message_pack(m, packed)));
	ASSERT_EQ(send(fd, out.p, out.len, 0), (ssize_t)out.len);
	buf_done(&out);
}

TEST(finds_the_guest_behind_leftovers_and_hears_its_notices)
{
	Skerry__Agent__V1__HelloResponse hello = SKERRY__AGENT__V1__HELLO_RESPONSE__INIT;
	Skerry__Agent__V1__ShutdownNotice notice = SKERRY__AGENT__V1__SHUTDOWN_NOTICE__INIT;
	char version[] = "1.2.3", error[] = "\033]0;hosts\a: read-only";
	struct seen s = {};
	struct agent_link *a;
	struct loop *l;
	int sv[2];

	ASSERT_OK(loop_new(&l));
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	ASSERT_OK(agent_link_new(l, sv[0], token, &events, &s, &a));
	answer_sync(sv[1]);
	ASSERT_OK(loop_step(l, clock_monotonic_ns() + NS_PER_SEC));
	ASSERT(agent_link_rpc(a) == NULL);
	hello.version = version;
	hello.error = error;
	reply(sv[1], 1, &hello.base);
	steps(l, &s.ready);
	ASSERT_STREQ(s.version, "1.2.3");
	ASSERT_STREQ(s.error, "?]0;hosts?: read-only");
	ASSERT(agent_link_rpc(a) != NULL);
	notice.mode = SKERRY__AGENT__V1__SHUTDOWN_REQUEST__MODE__REBOOT;
	reply(sv[1], 3, &notice.base);
	steps(l, &s.ending);
	ASSERT_EQ(s.how, AGENT_ENDING_REBOOT);
	close(sv[1]);
	steps(l, &s.lost);
	agent_link_free(a);
	loop_free(l);
}

TEST(a_guest_without_the_token_is_never_ready)
{
	struct seen s = {};
	struct agent_link *a;
	struct loop *l;
	int sv[2];

	ASSERT_OK(loop_new(&l));
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	ASSERT_OK(agent_link_new(l, sv[0], token, &events, &s, &a));
	ASSERT_EQ(send(sv[1], "0123456789abcdef wrong nonce, whatever", 38, 0), 38);
	ASSERT_OK(loop_step(l, clock_monotonic_ns() + NS_PER_SEC));
	ASSERT_EQ(s.ready, 0);
	close(sv[1]);
	steps(l, &s.lost);
	ASSERT_EQ(s.ready, 0);
	agent_link_free(a);
	loop_free(l);
}

/* Each of the fields that nobody knows costs its reader some tens of bytes for two. */
TEST(a_hello_that_would_take_much_memory_is_refused)
{
	enum { FIELDS = 2000000, UNKNOWN_VARINT = 0x78 };
	Skerry__Agent__V1__ShutdownNotice notice = SKERRY__AGENT__V1__SHUTDOWN_NOTICE__INIT;
	char *payload = calloc(FIELDS, 2);
	struct seen s = {};
	struct buf out = {};
	struct agent_link *a;
	struct loop *l;
	size_t sent = 0;
	int sv[2];

	ASSERT(payload != NULL);
	for (size_t i = 0; i < FIELDS; i++)
		payload[2 * i] = UNKNOWN_VARINT;
	ASSERT_OK(loop_new(&l));
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv), 0);
	ASSERT_OK(agent_link_new(l, sv[0], token, &events, &s, &a));
	answer_sync(sv[1]);
	ASSERT_OK(loop_step(l, clock_monotonic_ns() + NS_PER_SEC));
	ASSERT_OK(ttrpc_response_encode(&out, 1, 0, "", payload, 2 * (size_t)FIELDS));
	while (sent < out.len) {
		ssize_t n = send(sv[1], out.p + sent, out.len - sent, MSG_DONTWAIT);

		if (n > 0)
			sent += (size_t)n;
		ASSERT_OK(loop_step(l, clock_monotonic_ns() + 100 * NS_PER_MS));
	}
	notice.mode = SKERRY__AGENT__V1__SHUTDOWN_REQUEST__MODE__REBOOT;
	reply(sv[1], 3, &notice.base);
	steps(l, &s.ending);
	ASSERT_EQ(s.ready, 0);
	ASSERT_EQ(s.lost, 0);
	buf_done(&out);
	free(payload);
	close(sv[1]);
	agent_link_free(a);
	loop_free(l);
}
