#include "engine/qemu/qemu.h"

#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "engine/engine.h"
#include "test.h"

/* A scripted peer in QEMU's place: no real one can be made to fail at will. */
struct peer {
	struct loop *loop;
	struct engine_vm *vm;
	int fd;
	int ready;
	char events[128];
	char why[128]; /* the guest was stopped */
};

static void on_event(enum engine_event ev, const char *detail, void *data)
{
	static const char *const names[] = {
		[ENGINE_EVENT_STARTED] = "started",   [ENGINE_EVENT_PAUSED] = "paused",
		[ENGINE_EVENT_RESUMED] = "resumed",   [ENGINE_EVENT_RESET] = "reset",
		[ENGINE_EVENT_SHUTDOWN] = "end",      [ENGINE_EVENT_PANIC] = "panic",
		[ENGINE_EVENT_DISCONNECTED] = "gone",
	};
	struct peer *p = data;
	size_t n = strlen(p->events);

	if (ev == ENGINE_EVENT_PAUSED)
		snprintf(p->why, sizeof(p->why), "%s", detail ? detail : "");
	snprintf(p->events + n, sizeof(p->events) - n, "%s ", names[ev]);
}

static void on_ready(const struct error *err, uint64_t value, void *data)
{
	struct peer *p = data;

	(void)value;
	ASSERT(err == NULL);
	p->ready++;
}

static void say(struct peer *p, const char *text)
{
	ASSERT_EQ(send(p->fd, text, strlen(text), MSG_NOSIGNAL), (long long)strlen(text));
	while (loop_step(p->loop, clock_monotonic_ns() + 2 * NS_PER_MS) > 0)
		;
}

static void hears(struct peer *p, const char *word)
{
	char text[4096];
	ssize_t n = recv(p->fd, text, sizeof(text) - 1, 0);

	ASSERT(n > 0);
	text[n] = '\0';
	ASSERT_CONTAINS(text, word);
}

/* Connects to one whose state is @status. */
static void start(struct peer *p, const char *status)
{
	char answer[128];
	int pair[2];

	*p = (struct peer){};
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	ASSERT_OK(loop_new(&p->loop));
	p->fd = pair[1];
	ASSERT_OK(engine_qemu.connect(p->loop, pair[0], on_event, on_ready, p, &p->vm, NULL));
	say(p, "{\"QMP\":{\"version\":{},\"capabilities\":[]}}\r\n");
	hears(p, "qmp_capabilities");
	say(p, "{\"return\":{},\"id\":0}\n");
	hears(p, "query-status");
	snprintf(answer, sizeof(answer), "{\"return\":{\"status\":\"%s\",\"running\":false},\"id\":1}\n", status);
	say(p, answer);
	ASSERT_EQ(p->ready, 1);
}

static void finish(struct peer *p)
{
	p->vm = engine_qemu.vm_free(p->vm);
	close(p->fd);
	p->loop = loop_free(p->loop);
}

TEST(a_guest_that_stopped_for_a_failed_disk_is_paused_and_goes_on)
{
	static const char *const states[] = { "paused", "io-error", "internal-error" };

	for (size_t i = 0; i < ARRAY_SIZE(states); i++) {
		struct peer p;

		start(&p, states[i]);
		ASSERT_STREQ(p.events, "paused ");
		ASSERT_STREQ(p.why, i ? states[i] : "");
		say(&p, "{\"event\":\"RESUME\"}\n");
		ASSERT_STREQ(p.events, "paused resumed ");
		finish(&p);
	}
}

TEST(a_disk_s_failure_is_told_and_ends_nothing)
{
	struct peer p;

	start(&p, "running");
	say(&p, "{\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"device\":\"system\",\"operation\":\"write\","
		"\"action\":\"stop\",\"reason\":\"No space left on device\"}}\n{\"event\":\"STOP\"}\n"
		"{\"event\":\"BLOCK_IO_ERROR\",\"data\":{\"device\":7}}\n{\"event\":\"BLOCK_IO_ERROR\"}\n");
	ASSERT_STREQ(p.events, "started paused ");
	ASSERT_STREQ(p.why, "disk 'system': write failed: No space left on device");
	say(&p, "{\"event\":\"RESUME\"}\n");
	ASSERT_STREQ(p.events, "started paused resumed ");
	/* Another time it is somebody's wish. */
	say(&p, "{\"event\":\"STOP\"}\n");
	ASSERT_STREQ(p.events, "started paused resumed paused ");
	ASSERT_STREQ(p.why, "");
	finish(&p);
}
