/* Events on their way to a daemon that is the test, and away for a while. */
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "containerd.pb-c.h"
#include "machine/rpc.h"
#include "shim/events.h"
#include "test.h"
#include "wire/message.h"

enum { PUBLISHED = 12, EXITS = 900 };

struct daemon {
	struct loop *loop;
	struct rpc *peer;
	char topics[PUBLISHED][16];
	unsigned n;
	bool counts_only;
	unsigned n_exits;
};

static void on_request(struct rpc *r, uint32_t stream, const struct ttrpc_request *q, void *data)
{
	_cleanup_message_ Containerd__ForwardRequest *f =
		message_unpack(&containerd__forward_request__descriptor, q->payload, q->payload_len);
	struct daemon *d = data;

	ASSERT(f && f->envelope);
	if (d->counts_only) {
		bool exit = strcmp(f->envelope->topic, "/tasks/exit") == 0;

		d->n_exits += exit;
		d->n += !exit;
	} else {
		ASSERT(d->n < PUBLISHED);
		(void)snprintf(d->topics[d->n++], sizeof(d->topics[0]), "%s", f->envelope->topic);
	}
	rpc_reply(r, stream, NULL, 0);
}

static int on_connection(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct daemon *d = data;
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)s;
	(void)events;
	ASSERT_OK(peer);
	return rpc_new(d->loop, peer, on_request, NULL, d, &d->peer);
}

TEST(new_events_do_not_use_up_the_tries_of_those_before)
{
	uint64_t deadline = clock_monotonic_ns() + 100 * NS_PER_SEC;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	Containerd__TaskContainer m = CONTAINERD__TASK_CONTAINER__INIT;
	struct loop_source *source = NULL;
	struct events *e = NULL;
	struct daemon d = {};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/daemon", test_tmpdir());
	ASSERT_OK(loop_new(&d.loop));
	ASSERT_OK(events_new(d.loop, a.sun_path, "ns", &e));
	for (int i = 0; i < PUBLISHED; i++) {
		_cleanup_free_ char *topic = xasprintf("/tasks/%d", i);

		events_publish(e, topic, "containerd.events.TaskOOM", &m.base);
	}
	ASSERT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(fd, 4));
	ASSERT_OK(loop_add_fd(d.loop, &source, fd, EPOLLIN, on_connection, &d));
	while (events_pending(e) && clock_monotonic_ns() < deadline)
		ASSERT_OK(loop_step(d.loop, deadline));
	ASSERT_EQ(d.n, PUBLISHED);
	for (int i = 0; i < PUBLISHED; i++) {
		_cleanup_free_ char *topic = xasprintf("/tasks/%d", i);

		ASSERT_STREQ(d.topics[i], topic);
	}
	events_free(e);
	rpc_free(d.peer);
	loop_source_free(source);
	loop_free(d.loop);
	close(fd);
}

/* What so many containers are said to have met, each again and again, before their exits: how many of those claims are sent on. All exits are. */
static unsigned claims_sent(unsigned containers)
{
	enum { CLAIMS = 3 };
	uint64_t deadline = clock_monotonic_ns() + 100 * NS_PER_SEC;
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct loop_source *source = NULL;
	struct events *e = NULL;
	struct daemon d = { .counts_only = true };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	(void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/daemon", test_tmpdir());
	ASSERT_OK(loop_new(&d.loop));
	ASSERT_OK(events_new(d.loop, a.sun_path, "ns", &e));
	for (unsigned i = 0; i < containers * CLAIMS; i++) {
		Containerd__TaskContainer m = CONTAINERD__TASK_CONTAINER__INIT;
		_cleanup_free_ char *id = xasprintf("c%u", i % containers);

		m.container_id = id;
		events_publish_once(e, "/tasks/oom", "containerd.events.TaskOOM", &m.base);
	}
	for (int i = 0; i < EXITS; i++) {
		Containerd__TaskExit m = CONTAINERD__TASK_EXIT__INIT;

		events_publish(e, "/tasks/exit", "containerd.events.TaskExit", &m.base);
	}
	ASSERT_OK(bind(fd, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_OK(listen(fd, 4));
	ASSERT_OK(loop_add_fd(d.loop, &source, fd, EPOLLIN, on_connection, &d));
	while (events_pending(e) && clock_monotonic_ns() < deadline)
		ASSERT_OK(loop_step(d.loop, deadline));
	ASSERT_EQ(d.n_exits, EXITS);
	events_free(e);
	rpc_free(d.peer);
	loop_source_free(source);
	loop_free(d.loop);
	close(fd);
	return d.n;
}

TEST(what_is_claimed_again_and_again_is_sent_once)
{
	ASSERT_EQ(claims_sent(500), 500u);
}

TEST(what_is_claimed_of_many_leaves_the_others_their_places)
{
	unsigned n = claims_sent(1500);

	ASSERT(n > 0 && n < 1500);
}
