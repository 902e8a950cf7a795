#include "machine/guest_clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/loop.h"
#include "base/memory.h"
#include "machine/rpc.h"
#include "test.h"

struct told {
	int n;
	uint64_t realtime_ns;
};

static void on_request(struct rpc *r, uint32_t stream, const struct ttrpc_request *req, void *data)
{
	struct told *t = data;
	Skerry__Agent__V1__SetTimeRequest *q =
		skerry__agent__v1__set_time_request__unpack(NULL, req->payload_len, req->payload);

	ASSERT_STREQ(req->method, "SetTime");
	ASSERT(q != NULL);
	t->n++;
	t->realtime_ns = q->realtime_ns;
	skerry__agent__v1__set_time_request__free_unpacked(q, NULL);
	rpc_reply(r, stream, NULL, 0);
}

static void on_closed(struct rpc *r, int num, void *data)
{
	(void)r;
	(void)num;
	(void)data;
}

TEST(an_agent_is_told_the_hosts_time)
{
	uint64_t before = clock_realtime_ns();
	struct rpc *host, *guest;
	struct told t = {};
	struct loop *l;
	int sv[2];

	ASSERT_OK(loop_new(&l));
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv), 0);
	ASSERT_OK(rpc_new(l, sv[0], NULL, on_closed, NULL, &host));
	ASSERT_OK(rpc_new(l, sv[1], on_request, on_closed, &t, &guest));
	guest_clock_tell(host);
	while (loop_step(l, clock_monotonic_ns() + 100 * NS_PER_MS) > 0)
		;
	ASSERT_EQ(t.n, 1);
	ASSERT(t.realtime_ns >= before && t.realtime_ns <= clock_realtime_ns());
	/* Before there is one. */
	guest_clock_tell(NULL);
	rpc_free(host);
	rpc_free(guest);
	loop_free(l);
}

/* What the kernel tells of this process's timer of the host's clock (proc(5), fdinfo); owned, NULL when there is none. */
static char *timer_info(void)
{
	DIR *d = opendir("/proc/self/fdinfo");
	const struct dirent *e;
	char *found = NULL;

	ASSERT(d != NULL);
	while (!found && (e = readdir(d))) {
		struct buf b = {};

		if (file_read_at(dirfd(d), e->d_name, 4096, &b) >= 0 && strstr(b.p, "clockid: 0\n"))
			found = xstrdup(b.p);
		buf_done(&b);
	}
	closedir(d);
	return found;
}

static void on_changed(void *data)
{
	(*(int *)data)++;
}

TEST(only_a_clock_that_is_set_is_heard_of)
{
	enum { CENTURY_S = 100 * 31556952U };
	_cleanup_free_ char *info = NULL, *after = NULL;
	struct guest_clock *c;
	unsigned long long left_s;
	const char *value;
	struct loop *l;
	int n = 0;

	ASSERT_OK(loop_new(&l));
	ASSERT_OK(guest_clock_new(l, on_changed, &n, &c));
	ASSERT_EQ(loop_step(l, clock_monotonic_ns() + 50 * NS_PER_MS), 0);
	ASSERT_EQ(n, 0);
	info = timer_info();
	ASSERT(info != NULL);
	/* Absolute, and ended by every change of the clock. */
	ASSERT_CONTAINS(info, "settime flags: 03");
	value = strstr(info, "it_value: (");
	ASSERT(value != NULL);
	ASSERT_EQ(sscanf(value, "it_value: (%llu,", &left_s), 1); /* lint: proc(5) */
	ASSERT(left_s > CENTURY_S);
	c = guest_clock_free(c);
	ASSERT(c == NULL);
	after = timer_info();
	ASSERT(after == NULL);
	loop_free(l);
}
