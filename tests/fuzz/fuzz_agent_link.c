/* What a hostile guest can send to its monitor. The first byte is the size of the pieces in which the rest arrives, its top bit whether the
 * guest answers the synchronisation first; calls are in flight. Every call must be answered exactly once. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "machine/agent_link.h"
#include "machine/client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CALLS = 4 };

struct state {
	unsigned lost, answered[CALLS];
};

struct slot {
	struct state *state;
	unsigned i;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_ready(const char *version, const char *error, void *data)
{
	(void)data;
	check(version && error);
}

static void on_ending(enum agent_ending how, void *data)
{
	(void)data;
	check(how == AGENT_ENDING_POWER_OFF || how == AGENT_ENDING_REBOOT);
}

static void on_lost(void *data)
{
	struct state *s = data;

	check(++s->lost == 1);
}

static void on_answer(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct slot *s = data;

	check(err || !len || payload);
	check(++s->state->answered[s->i] == 1);
}

static void settle(struct loop *l)
{
	while (loop_step(l, 0) > 0)
		;
}

static void send_pieces(struct loop *l, int fd, const uint8_t *data, size_t size, size_t piece)
{
	while (size) {
		size_t n = size < piece ? size : piece;
		ssize_t sent = send(fd, data, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent <= 0)
			return;
		data += sent;
		size -= (size_t)sent;
		settle(l);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t token[SYNC_TOKEN_SIZE] = "0123456789abcdef";
	static const struct agent_link_events events = { on_ready, on_ending, on_lost };
	struct state state = {};
	struct slot slots[CALLS];
	struct agent_link *link;
	struct rpc *rpc;
	unsigned made = 0;
	uint8_t hello[SYNC_SIZE];
	struct loop *loop;
	int sv[2];

	if (size < 2 || loop_new(&loop) < 0)
		return 0;
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == 0);
	check(agent_link_new(loop, sv[0], token, &events, &state, &link) == 0);
	check(recv(sv[1], hello, sizeof(hello), 0) == sizeof(hello));
	if (data[0] & 0x80) {
		check(send(sv[1], hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello));
		settle(loop);
	}
	send_pieces(loop, sv[1], data + 1, size / 2, (data[0] & 0x7f) + 1);
	rpc = state.lost ? NULL : agent_link_rpc(link);
	for (; rpc && made < CALLS; made++) {
		slots[made] = (struct slot){ &state, made };
		if (rpc_call(rpc, AGENT_SERVICE, "Read", "x", 1, UINT64_MAX, on_answer, &slots[made], NULL) < 0)
			break;
	}
	if (!state.lost)
		send_pieces(loop, sv[1], data + 1 + size / 2, size - 1 - size / 2, (data[0] & 0x7f) + 1);
	(void)close(sv[1]);
	settle(loop);
	check(state.lost == 1);
	agent_link_free(link);
	for (unsigned i = 0; i < made; i++)
		check(state.answered[i] == 1);
	loop_free(loop);
	return 0;
}
