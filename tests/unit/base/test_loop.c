#include "base/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/process.h"
#include "test.h"

static struct loop *new_loop(void)
{
	struct loop *l;

	ASSERT_OK(loop_new(&l));
	return l;
}

static void new_pipe(int p[2])
{
	ASSERT_OK(pipe2(p, O_CLOEXEC | O_NONBLOCK));
}

struct counter {
	struct loop *l;
	struct loop_source *source, *other;
	int calls, sum, leave_after;
	uint32_t events;
};

static int read_one(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct counter *c = data;
	char byte;

	(void)s;
	c->calls++;
	c->events = events;
	if (read(fd, &byte, 1) == 1)
		c->sum += byte;
	if (c->calls == c->leave_after)
		loop_exit(c->l, c->sum);
	return 0;
}

static int count_timer(struct loop_source *s, void *data)
{
	struct counter *c = data;

	(void)s;
	if (++c->calls == c->leave_after)
		loop_exit(c->l, c->calls);
	return 0;
}

TEST(a_readable_descriptor_is_reported)
{
	struct loop *l = new_loop();
	struct counter c = { .l = l, .leave_after = 3 };
	int p[2];

	new_pipe(p);
	ASSERT_OK(loop_add_fd(l, &c.source, p[0], EPOLLIN, read_one, &c));
	ASSERT_EQ(write(p[1], "\1\2\3", 3), 3);
	ASSERT_EQ(loop_run(l), 6);
	ASSERT_EQ(c.events, EPOLLIN);
	c.source = loop_source_free(c.source);
	ASSERT_EQ(write(p[1], "x", 1), 1);
	ASSERT_EQ(loop_step(l, 0), 0);
	ASSERT(!loop_free(l));
}

TEST(a_step_ends_at_its_deadline)
{
	struct loop *l = new_loop();
	uint64_t began = clock_monotonic_ns();

	ASSERT_EQ(loop_step(l, 0), 0);
	ASSERT_EQ(loop_step(l, began + 20 * NS_PER_MS), 0);
	ASSERT(clock_monotonic_ns() - began >= 20 * NS_PER_MS);
	loop_free(l);
}

static int fail(struct loop_source *s, void *data)
{
	(void)s;
	(void)data;
	return -EPROTO;
}

TEST(a_failing_callback_ends_the_loop)
{
	struct loop *l = new_loop();
	struct loop_source *t;

	ASSERT_OK(loop_add_timer(l, &t, 0, fail, NULL));
	ASSERT_EQ(loop_run(l), -EPROTO);
	loop_source_free(t);
	loop_free(l);
}

TEST(exit_before_run_counts_and_the_loop_can_run_again)
{
	struct loop *l = new_loop();
	struct counter c = { .l = l, .leave_after = 1 };

	loop_exit(l, 7);
	ASSERT_EQ(loop_run(l), 7);
	ASSERT_OK(loop_add_timer(l, &c.source, 0, count_timer, &c));
	ASSERT_EQ(loop_run(l), 1);
	loop_source_free(c.source);
	loop_free(l);
}

struct order {
	struct loop *l;
	struct loop_source *timers[5];
	int seen[5], n;
	uint64_t deadlines[5];
};

static int note_order(struct loop_source *s, void *data)
{
	struct order *o = data;

	for (int i = 0; i < 5; i++)
		if (o->timers[i] == s) {
			ASSERT(clock_monotonic_ns() >= o->deadlines[i]);
			o->seen[o->n++] = i;
		}
	if (o->n == 5)
		loop_exit(o->l, 0);
	return 0;
}

TEST(timers_fire_in_order_and_never_early)
{
	static const unsigned ms[5] = { 30, 10, 20, 10, 0 };
	static const int want[5] = { 4, 1, 3, 2, 0 };
	struct order o = { .l = new_loop() };
	uint64_t now = clock_monotonic_ns();

	for (int i = 0; i < 5; i++) {
		o.deadlines[i] = now + ms[i] * NS_PER_MS;
		ASSERT_OK(loop_add_timer(o.l, &o.timers[i], o.deadlines[i], note_order, &o));
	}
	ASSERT_OK(loop_run(o.l));
	for (int i = 0; i < 5; i++) {
		ASSERT_EQ(o.seen[i], want[i]);
		loop_source_free(o.timers[i]);
	}
	loop_free(o.l);
}

TEST(a_timer_fires_once_and_can_be_moved)
{
	struct loop *l = new_loop();
	struct counter c = { .l = l };
	uint64_t now = clock_monotonic_ns();

	ASSERT_OK(loop_add_timer(l, &c.source, UINT64_MAX, count_timer, &c));
	ASSERT_EQ(loop_step(l, now + 10 * NS_PER_MS), 0);
	ASSERT_OK(loop_set_deadline(c.source, now + 3600 * NS_PER_SEC));
	ASSERT_EQ(loop_step(l, 0), 0);
	ASSERT_OK(loop_set_deadline(c.source, 1));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(c.calls, 1);
	ASSERT_EQ(loop_step(l, clock_monotonic_ns() + 10 * NS_PER_MS), 0);
	ASSERT_OK(loop_set_deadline(c.source, 0));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(c.calls, 2);
	ASSERT_OK(loop_set_deadline(c.source, clock_monotonic_ns() + NS_PER_MS));
	ASSERT_OK(loop_set_deadline(c.source, UINT64_MAX));
	ASSERT_EQ(loop_step(l, clock_monotonic_ns() + 10 * NS_PER_MS), 0);
	loop_source_free(c.source);
	loop_free(l);
}

static int rearm(struct loop_source *s, void *data)
{
	struct counter *c = data;

	c->calls++;
	return loop_set_deadline(s, 0);
}

TEST(a_timer_that_is_always_due_starves_nobody)
{
	struct loop *l = new_loop();
	struct counter t = { .l = l }, c = { .l = l, .leave_after = 1 };
	int p[2];

	new_pipe(p);
	ASSERT_OK(loop_add_timer(l, &t.source, 0, rearm, &t));
	ASSERT_OK(loop_add_fd(l, &c.source, p[0], EPOLLIN, read_one, &c));
	for (int i = 0; i < 10; i++)
		ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(t.calls, 10);
	ASSERT_EQ(write(p[1], "\5", 1), 1);
	ASSERT_EQ(loop_run(l), 5);
	loop_source_free(t.source);
	loop_source_free(c.source);
	loop_free(l);
}

TEST(an_idle_loop_does_not_wake)
{
	struct loop *l = new_loop();
	struct counter a = { .l = l }, b = { .l = l };
	struct rusage before, after;
	uint64_t due_ns, span_ms = 5;
	int p[2], fired;

	new_pipe(p);
	ASSERT_OK(loop_add_fd(l, &a.source, p[0], EPOLLIN, read_one, &a));
	ASSERT_OK(loop_add_timer(l, &b.source, UINT64_MAX, count_timer, &b));
	/* The timer that was moved away must not fire for nothing either. Who is held up until it is due begins anew. */
	do {
		b.calls = 0;
		span_ms *= 2;
		due_ns = clock_monotonic_ns() + span_ms * NS_PER_MS;
		ASSERT_OK(loop_set_deadline(b.source, due_ns));
		fired = loop_step(l, 0);
		ASSERT_OK(fired);
	} while (fired);
	ASSERT_OK(loop_set_deadline(b.source, UINT64_MAX));
	getrusage(RUSAGE_SELF, &before);
	ASSERT_EQ(loop_step(l, due_ns + 100 * NS_PER_MS), 0);
	getrusage(RUSAGE_SELF, &after);
	ASSERT(after.ru_nvcsw - before.ru_nvcsw <= 2);
	ASSERT_EQ(a.calls + b.calls, 0);
	loop_source_free(a.source);
	loop_source_free(b.source);
	loop_free(l);
}

static int free_both(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct counter *c = data;

	(void)fd;
	(void)events;
	c->calls++;
	ASSERT(s == c->source || s == c->other);
	c->source = loop_source_free(c->source);
	c->other = loop_source_free(c->other);
	return 0;
}

TEST(a_callback_may_free_itself_and_others_with_events)
{
	struct loop *l = new_loop();
	struct counter c = { .l = l };
	int a[2], b[2];

	new_pipe(a);
	new_pipe(b);
	ASSERT_EQ(write(a[1], "x", 1), 1);
	ASSERT_EQ(write(b[1], "x", 1), 1);
	ASSERT_OK(loop_add_fd(l, &c.source, a[0], EPOLLIN, free_both, &c));
	ASSERT_OK(loop_add_fd(l, &c.other, b[0], EPOLLIN, free_both, &c));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(loop_step(l, 0), 0);
	ASSERT_EQ(c.calls, 1);
	loop_free(l);
}

static int drop_timers(struct loop_source *s, void *data)
{
	struct counter *c = data;

	(void)s;
	c->calls++;
	c->source = loop_source_free(c->source);
	c->other = loop_source_free(c->other);
	return 0;
}

TEST(due_timers_may_free_each_other)
{
	struct loop *l = new_loop();
	struct counter c = { .l = l };

	ASSERT_OK(loop_add_timer(l, &c.source, 1, drop_timers, &c));
	ASSERT_OK(loop_add_timer(l, &c.other, 1, drop_timers, &c));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(loop_step(l, clock_monotonic_ns() + 5 * NS_PER_MS), 0);
	ASSERT_EQ(c.calls, 1);
	loop_free(l);
}

static int nest(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct counter *c = data;
	char byte;

	(void)events;
	ASSERT_EQ(read(fd, &byte, 1), 1);
	c->calls++;
	if (c->calls == 1) {
		/* The inner round frees the source whose callback this is. */
		ASSERT(loop_step(c->l, UINT64_MAX) > 0);
		ASSERT(!c->source);
		ASSERT_EQ(loop_step(c->l, 0), 0);
	} else {
		ASSERT(s == c->source);
		c->source = loop_source_free(c->source);
	}
	return 0;
}

TEST(nested_rounds_may_free_the_outer_source)
{
	struct loop *l = new_loop();
	struct counter c = { .l = l };
	int p[2];

	new_pipe(p);
	ASSERT_EQ(write(p[1], "ab", 2), 2);
	ASSERT_OK(loop_add_fd(l, &c.source, p[0], EPOLLIN, nest, &c));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(c.calls, 2);
	loop_free(l);
}

TEST(events_can_be_changed_and_switched_off)
{
	struct loop *l = new_loop();
	struct counter c = { .l = l };
	int s[2];

	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, s));
	ASSERT_OK(loop_add_fd(l, &c.source, s[0], 0, read_one, &c));
	close(s[1]);
	/* A hang-up that nobody asked for must not make the loop spin. */
	ASSERT_EQ(loop_step(l, 0), 0);
	ASSERT_OK(loop_set_events(c.source, EPOLLOUT));
	ASSERT(loop_step(l, 0) > 0);
	ASSERT(c.events & EPOLLOUT);
	ASSERT_OK(loop_set_events(c.source, EPOLLIN));
	ASSERT(loop_step(l, 0) > 0);
	ASSERT(c.events & EPOLLIN);
	ASSERT_OK(loop_set_events(c.source, 0));
	ASSERT_EQ(loop_step(l, 0), 0);
	ASSERT_OK(loop_set_events(c.source, EPOLLIN));
	ASSERT(loop_step(l, 0) > 0);
	ASSERT_EQ(loop_set_deadline(c.source, 1), -EINVAL);
	loop_source_free(c.source);
	loop_free(l);
}

TEST(a_regular_file_is_always_ready)
{
	struct loop *l = new_loop();
	struct counter c = { .l = l }, p = { .l = l };
	int fd = open(test_tmpdir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), fds[2];

	ASSERT_EQ(pwrite(fd, "\1\2\3", 3, 0), 3);
	new_pipe(fds);
	ASSERT_OK(loop_add_fd(l, &c.source, fd, EPOLLIN, read_one, &c));
	ASSERT_OK(loop_add_fd(l, &p.source, fds[0], EPOLLIN, read_one, &p));
	ASSERT_EQ(write(fds[1], "\7", 1), 1);
	for (int i = 0; i < 3; i++)
		ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(c.sum, 6);
	ASSERT_EQ(p.sum, 7);
	ASSERT_OK(loop_set_events(c.source, 0));
	ASSERT_EQ(loop_step(l, 0), 0);
	ASSERT_EQ(c.calls, 3);
	loop_source_free(c.source);
	loop_source_free(p.source);
	loop_free(l);
}

TEST(a_bad_descriptor_is_an_error)
{
	struct loop *l = new_loop();
	struct loop_source *s = NULL;

	ASSERT_EQ(loop_add_fd(l, &s, 9999, EPOLLIN, read_one, NULL), -EBADF);
	ASSERT_EQ(loop_add_fd(l, &s, -1, EPOLLIN, read_one, NULL), -EBADF);
	ASSERT_EQ(loop_add_child(l, &s, -1, NULL, NULL), -EBADF);
	ASSERT(!s);
	loop_free(l);
}

static int count_signal(struct loop_source *s, const struct signalfd_siginfo *si, void *data)
{
	struct counter *c = data;

	c->calls++;
	c->sum = (int)si->ssi_signo;
	if (c->other && s == c->source)
		c->other = loop_source_free(c->other);
	return 0;
}

TEST(signals_are_delivered_here)
{
	struct loop *l = new_loop();
	struct counter one = { .l = l }, two = { .l = l };

	ASSERT_OK(loop_add_signal(l, &one.source, SIGTERM, count_signal, &one));
	ASSERT_OK(loop_add_signal(l, &two.source, SIGUSR1, count_signal, &two));
	ASSERT_OK(kill(getpid(), SIGTERM));
	ASSERT_OK(kill(getpid(), SIGUSR1));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(one.calls, 1);
	ASSERT_EQ(one.sum, SIGTERM);
	ASSERT_EQ(two.calls, 1);
	ASSERT_EQ(two.sum, SIGUSR1);
	loop_source_free(one.source);
	/* Nobody listens any more: it stays blocked and is dropped. */
	ASSERT_OK(kill(getpid(), SIGTERM));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(loop_step(l, 0), 0);
	ASSERT_EQ(loop_add_signal(l, &one.source, 999, count_signal, &one), -EINVAL);
	loop_source_free(two.source);
	loop_free(l);
}

TEST(two_may_listen_to_one_signal_and_free_each_other)
{
	struct loop *l = new_loop();
	struct counter a = { .l = l }, b = { .l = l };

	ASSERT_OK(loop_add_signal(l, &a.source, SIGUSR1, count_signal, &a));
	ASSERT_OK(loop_add_signal(l, &b.source, SIGUSR1, count_signal, &b));
	ASSERT_OK(kill(getpid(), SIGUSR1));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(a.calls + b.calls, 2);
	a.other = b.source;
	ASSERT_OK(kill(getpid(), SIGUSR1));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(a.calls, 2);
	ASSERT_EQ(b.calls, 1);
	ASSERT(!a.other);
	loop_source_free(a.source);
	loop_free(l);
}

static int child_ended(struct loop_source *s, int pidfd, void *data)
{
	struct counter *c = data;
	int status = -1;

	(void)s;
	c->calls++;
	ASSERT_OK(pidfd_reap(pidfd, &status));
	c->sum = status >> 8;
	return 0;
}

TEST(a_child_is_reported_once)
{
	struct loop *l = new_loop();
	struct counter c = { .l = l };
	pid_t pid = fork();
	int pidfd;

	if (pid == 0)
		_exit(5);
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	ASSERT_OK(loop_add_child(l, &c.source, pidfd, child_ended, &c));
	ASSERT(loop_step(l, UINT64_MAX) > 0);
	ASSERT_EQ(c.sum, 5);
	ASSERT_EQ(loop_step(l, clock_monotonic_ns() + 5 * NS_PER_MS), 0);
	ASSERT_EQ(c.calls, 1);
	loop_source_free(c.source);
	close(pidfd);
	loop_free(l);
}

TEST(freeing_nothing_is_fine)
{
	ASSERT(!loop_source_free(NULL));
	ASSERT(!loop_free(NULL));
}

static int shuffle(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct loop_source **all = data;
	static unsigned seed = 1;
	char byte;

	(void)s;
	(void)events;
	(void)!read(fd, &byte, 1);
	for (int k = 0; k < 3; k++) {
		seed = seed * 1103515245 + 12345;
		all[seed >> 16 & 31] = loop_source_free(all[seed >> 16 & 31]);
	}
	return 0;
}

TEST(random_frees_and_adds_stay_sound)
{
	struct loop *l = new_loop();
	struct loop_source *all[32] = {};
	int pipes[32][2];

	for (int i = 0; i < 32; i++)
		new_pipe(pipes[i]);
	for (int round = 0; round < 2000; round++) {
		int i = round * 7 % 32;

		if (!all[i])
			ASSERT_OK(loop_add_fd(l, &all[i], pipes[i][0], EPOLLIN, shuffle, all));
		(void)!write(pipes[i][1], "x", 1);
		ASSERT_OK(loop_step(l, 0));
	}
	for (int i = 0; i < 32; i++)
		loop_source_free(all[i]);
	loop_free(l);
}
