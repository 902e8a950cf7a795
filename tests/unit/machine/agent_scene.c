#include "agent_scene.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "machine/agent_link.h"
#include "test.h"

static bool ready;

static void on_ready(const char *version, const char *error, void *data)
{
	(void)version;
	(void)error;
	(void)data;
	ready = true;
}

static void on_ending(enum agent_ending how, void *data)
{
	(void)how;
	(void)data;
}

static void on_lost(void *data)
{
	struct client *c = data;

	c->rpc = NULL;
}

static const struct agent_link_events events = { on_ready, on_ending, on_lost };
pid_t agent_pid;

__attribute__((used)) static struct client kept_client;
__attribute__((used)) static struct agent_link *kept_link;

void connect_agent(struct client *c)
{
	static const uint8_t token[SYNC_TOKEN_SIZE] = { 0xab };
	const char *program = getenv("SKERRY_INIT");
	struct agent_link *link;
	int pair[2];

	ASSERT(program);
	signal(SIGPIPE, SIG_IGN);
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	agent_pid = fork();
	ASSERT_OK(agent_pid);
	if (agent_pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(pair[1], 9);
		execl(program, program, "agent", "--fd", "9", "--token", "ab000000000000000000000000000000", NULL);
		_exit(1);
	}
	close(pair[1]);
	*c = (struct client){ .name = xstrdup("test") };
	ASSERT_OK(loop_new(&c->loop));
	ASSERT_OK(agent_link_new(c->loop, pair[0], token, &events, c, &link));
	while (!ready)
		ASSERT(loop_step(c->loop, clock_monotonic_ns() + 100 * NS_PER_SEC) > 0);
	c->rpc = agent_link_rpc(link);
	ASSERT(c->rpc);
	/* It lives as long as the test's process does: reachable to the end, so no leak. */
	kept_client = *c;
	kept_link = link;
}

void *pattern(void)
{
	uint8_t *p = xcalloc(1, LARGE);

	for (size_t i = 0; i < LARGE; i++)
		p[i] = (uint8_t)(i * 31 + (i >> 11));
	return p;
}
