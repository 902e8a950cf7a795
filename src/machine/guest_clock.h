/* The guest's clock beside the host's. A guest that is stopped misses the time that passes, and a clock that is set on the host is not set in the
 * guest: in both cases the agent is told the time. */
#pragma once

struct guest_clock;
struct loop;
struct rpc;

/* @changed is called when the host's clock was set or the host woke up from sleep, and at no other time: nothing is polled.
 * Errors: those of timerfd_create(2) and epoll_ctl(2). */
int guest_clock_new(struct loop *l, void (*changed)(void *data), void *data, struct guest_clock **ret);
struct guest_clock *guest_clock_free(struct guest_clock *c); /* accepts NULL; returns NULL */

/* Tells the agent behind @agent the host's time, without waiting for an answer. NULL: nobody is there to be told. */
void guest_clock_tell(struct rpc *agent);
