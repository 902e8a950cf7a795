/* One event loop: epoll, timerfd, signalfd, pidfds. No threads, no signal handlers, no polling: an idle loop wakes nobody.
 * The same file serves the monitor, the command line and the guest's PID 1. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>

struct loop;
struct loop_source;

/* A callback may free any source, its own included. A negative return ends the loop with that value. */
typedef int (*loop_fd_fn)(struct loop_source *s, int fd, uint32_t events, void *data);
typedef int (*loop_timer_fn)(struct loop_source *s, void *data);
typedef int (*loop_signal_fn)(struct loop_source *s, const struct signalfd_siginfo *si, void *data);
typedef int (*loop_child_fn)(struct loop_source *s, int pidfd, void *data);

int loop_new(struct loop **ret);
struct loop *loop_free(struct loop *l); /* sources must be gone; accepts NULL; returns NULL */

/* @fd is borrowed and must stay open while the source lives; @events are EPOLLIN and so on (level triggered). With events 0 nothing is
 * reported, also no hang-up. A regular file, which epoll refuses, counts as always ready. */
int loop_add_fd(struct loop *l, struct loop_source **ret, int fd, uint32_t events, loop_fd_fn fn, void *data);
int loop_set_events(struct loop_source *s, uint32_t events);
/* One shot at @deadline_ns of CLOCK_MONOTONIC (UINT64_MAX = not armed); loop_set_deadline arms it again. All timers share one
 * timerfd. */
int loop_add_timer(struct loop *l, struct loop_source **ret, uint64_t deadline_ns, loop_timer_fn fn, void *data);
int loop_set_deadline(struct loop_source *s, uint64_t deadline_ns);
/* Blocks @sig (for good: it stays blocked when the source is freed) and delivers it here, to every source of that signal. */
int loop_add_signal(struct loop *l, struct loop_source **ret, int sig, loop_signal_fn fn, void *data);
/* Fires once when the process behind @pidfd (borrowed) has exited; reaping is the callback's (pidfd_reap). */
int loop_add_child(struct loop *l, struct loop_source **ret, int pidfd, loop_child_fn fn, void *data);
struct loop_source *loop_source_free(struct loop_source *s); /* removes it; accepts NULL; returns NULL */
static inline void loop_source_freep(struct loop_source **s)
{
	*s = loop_source_free(*s);
}

/* Runs until loop_exit() or a callback fails; returns the exit value. */
int loop_run(struct loop *l);
/* One round: waits until @deadline_ns at the most. Returns >0 dispatched, 0 timed out, <0 as loop_run. */
int loop_step(struct loop *l, uint64_t deadline_ns);
void loop_exit(struct loop *l, int value);
