#include "machine/guest_clock.h"

#include <errno.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/loop.h"
#include "base/memory.h"
#include "machine/client.h"
#include "machine/rpc.h"

struct guest_clock {
	int fd;
	struct loop_source *source; /* owned */
	void (*changed)(void *data);
	void *data;
};

/* The timer is there for its cancellation alone (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET). Its time must not come: a time that is over fires at
 * once, for ever. */
static int arm(int fd)
{
	enum { YEAR_S = 31556952, YEARS_FROM_1970 = 250 };
	struct itimerspec never = { .it_value = { .tv_sec = (time_t)YEAR_S * YEARS_FROM_1970 } };

	return timerfd_settime(fd, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, NULL) < 0 ? -errno : 0;
}

static int on_set(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct guest_clock *c = data;
	uint64_t n;

	(void)s;
	(void)events;
	(void)!read(fd, &n, sizeof(n));
	(void)arm(fd);
	c->changed(c->data);
	return 0;
}

int guest_clock_new(struct loop *l, void (*changed)(void *data), void *data, struct guest_clock **ret)
{
	struct guest_clock *c = xnew(struct guest_clock);
	int r;

	*c = (struct guest_clock){ .changed = changed, .data = data };
	c->fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
	r = c->fd < 0 ? -errno : arm(c->fd);
	if (r >= 0)
		r = loop_add_fd(l, &c->source, c->fd, EPOLLIN, on_set, c);
	if (r < 0) {
		guest_clock_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct guest_clock *guest_clock_free(struct guest_clock *c)
{
	if (!c)
		return NULL;
	loop_source_free(c->source);
	safe_close(c->fd);
	free(c);
	return NULL;
}

void guest_clock_tell(struct rpc *agent)
{
	Skerry__Agent__V1__SetTimeRequest req = SKERRY__AGENT__V1__SET_TIME_REQUEST__INIT;
	uint8_t packed[32];

	if (!agent)
		return;
	req.realtime_ns = clock_realtime_ns();
	(void)rpc_call(agent, AGENT_SERVICE, "SetTime", packed, skerry__agent__v1__set_time_request__pack(&req, packed),
		       UINT64_MAX, NULL, NULL, NULL);
}
