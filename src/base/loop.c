/* How it works. epoll watches the sources' descriptors, one timerfd and one signalfd; each round takes ONE event from the kernel and
 * calls one callback. A batch would save a system call here and there, and cost the guarantee that no callback ever sees an event
 * that an earlier callback of the same batch has made stale (drained the descriptor, closed it, changed its events, freed the source,
 * ran a nested round). The kernel rotates its ready list, so nobody starves.
 *
 * Timers are a list sorted by deadline; the timerfd is set before waiting when the first deadline is not the one it is set to, so
 * that moving a deadline costs no system call, and an idle loop does not wake.
 *
 * A source that is freed while a callback runs (maybe its own, maybe one further up the stack) leaves every list at once, but its
 * memory stays until the outermost round has ended. */
#include "base/loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/timerfd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/memory.h"

enum source_type { SOURCE_FD, SOURCE_TIMER, SOURCE_SIGNAL, SOURCE_CHILD };

struct loop_source {
	struct loop *loop; /* outlives the source */
	enum source_type type;
	bool dead;
	bool watched; /* in epoll */
	bool is_file; /* FD that epoll does not take: always ready */
	union {
		loop_fd_fn on_fd;
		loop_timer_fn on_timer;
		loop_signal_fn on_signal;
		loop_child_fn on_child;
	};
	void *data;
	int fd;                           /* FD, CHILD: borrowed */
	int sig;                          /* SIGNAL */
	uint64_t delivery;                /* SIGNAL: the last one it had */
	uint32_t events;                  /* FD */
	uint64_t deadline_ns;             /* TIMER */
	struct loop_source *next, **link; /* in one of the loop's lists; link NULL = in none */
};

struct loop {
	int epoll_fd, timer_fd, signal_fd; /* owned; the latter two exist once needed */
	sigset_t signals;
	uint64_t armed_ns;            /* what the timerfd is set to; UINT64_MAX = nothing */
	struct loop_source *timers;   /* sorted by deadline */
	struct loop_source *handlers; /* signal sources */
	struct loop_source *files;    /* fd sources that epoll does not take: always ready */
	struct loop_source *dead;     /* owned: memory to give back when no callback runs */
	unsigned n_sources, depth;
	uint64_t deliveries; /* signals so far */
	bool leaving;
	int value;
};

static void list_insert(struct loop_source **at, struct loop_source *s)
{
	s->next = *at;
	s->link = at;
	if (s->next)
		s->next->link = &s->next;
	*at = s;
}

static void list_remove(struct loop_source *s)
{
	if (!s->link)
		return;
	*s->link = s->next;
	if (s->next)
		s->next->link = s->link;
	s->link = NULL;
	s->next = NULL;
}

static void list_append(struct loop_source **list, struct loop_source *s)
{
	while (*list)
		list = &(*list)->next;
	list_insert(list, s);
}

static int watch(struct loop *l, int fd, uint32_t events, void *tag)
{
	struct epoll_event ev = { .events = events, .data.ptr = tag };

	return epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0 ? -errno : 0;
}

static void unwatch(struct loop_source *s)
{
	/* Fails when the owner has closed the descriptor already, which has removed it. */
	if (s->watched)
		(void)epoll_ctl(s->loop->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	s->watched = false;
}

int loop_new(struct loop **ret)
{
	struct loop *l;
	int fd = epoll_create1(EPOLL_CLOEXEC);

	if (fd < 0)
		return -errno;
	l = xnew(struct loop);
	l->epoll_fd = fd;
	l->timer_fd = l->signal_fd = -EBADF;
	l->armed_ns = UINT64_MAX;
	sigemptyset(&l->signals);
	*ret = l;
	return 0;
}

static void bury(struct loop *l)
{
	while (l->dead) {
		struct loop_source *s = l->dead;

		list_remove(s);
		free(s);
	}
}

struct loop *loop_free(struct loop *l)
{
	if (!l)
		return NULL;
	assert(!l->depth && !l->n_sources);
	bury(l);
	safe_close(l->epoll_fd);
	safe_close(l->timer_fd);
	safe_close(l->signal_fd);
	free(l);
	return NULL;
}

static struct loop_source *source_new(struct loop *l, enum source_type type, void *data)
{
	struct loop_source *s = xnew(struct loop_source);

	s->loop = l;
	s->type = type;
	s->data = data;
	s->fd = -EBADF;
	s->deadline_ns = UINT64_MAX;
	l->n_sources++;
	return s;
}

struct loop_source *loop_source_free(struct loop_source *s)
{
	if (!s || s->dead)
		return NULL;
	unwatch(s);
	list_remove(s);
	s->dead = true;
	s->loop->n_sources--;
	list_insert(&s->loop->dead, s);
	if (!s->loop->depth)
		bury(s->loop);
	return NULL;
}

int loop_add_fd(struct loop *l, struct loop_source **ret, int fd, uint32_t events, loop_fd_fn fn, void *data)
{
	struct loop_source *s = source_new(l, SOURCE_FD, data);
	int r;

	s->on_fd = fn;
	s->fd = fd;
	s->events = events;
	r = watch(l, fd, events, s);
	if (r == -EPERM) {
		s->is_file = true;
		list_append(&l->files, s);
	} else if (r < 0) {
		loop_source_free(s);
		return r;
	} else {
		s->watched = true;
		if (!events)
			unwatch(s);
	}
	*ret = s;
	return 0;
}

int loop_set_events(struct loop_source *s, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = s };
	int r;

	if (s->type != SOURCE_FD || s->dead)
		return -EINVAL;
	if (s->events == events)
		return 0;
	if (s->is_file) {
		s->events = events;
		return 0;
	}
	/* epoll reports a hang-up even to those who asked for nothing, again and again: whoever wants nothing is taken out. */
	if (!events) {
		unwatch(s);
	} else if (!s->watched) {
		r = watch(s->loop, s->fd, events, s);
		if (r < 0)
			return r;
		s->watched = true;
	} else if (epoll_ctl(s->loop->epoll_fd, EPOLL_CTL_MOD, s->fd, &ev) < 0) {
		return -errno;
	}
	s->events = events;
	return 0;
}

int loop_add_child(struct loop *l, struct loop_source **ret, int pidfd, loop_child_fn fn, void *data)
{
	struct loop_source *s = source_new(l, SOURCE_CHILD, data);
	int r;

	s->on_child = fn;
	s->fd = pidfd;
	r = watch(l, pidfd, EPOLLIN, s);
	if (r < 0) {
		loop_source_free(s);
		return r;
	}
	s->watched = true;
	*ret = s;
	return 0;
}

int loop_set_deadline(struct loop_source *s, uint64_t deadline_ns)
{
	struct loop_source **at = &s->loop->timers;

	if (s->type != SOURCE_TIMER || s->dead)
		return -EINVAL;
	list_remove(s);
	s->deadline_ns = deadline_ns;
	if (deadline_ns == UINT64_MAX)
		return 0;
	while (*at && (*at)->deadline_ns <= deadline_ns)
		at = &(*at)->next;
	list_insert(at, s);
	return 0;
}

int loop_add_timer(struct loop *l, struct loop_source **ret, uint64_t deadline_ns, loop_timer_fn fn, void *data)
{
	struct loop_source *s;
	int r;

	if (l->timer_fd < 0) {
		int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

		if (fd < 0)
			return -errno;
		r = watch(l, fd, EPOLLIN, &l->timer_fd);
		if (r < 0) {
			safe_close(fd);
			return r;
		}
		l->timer_fd = fd;
	}
	s = source_new(l, SOURCE_TIMER, data);
	s->on_timer = fn;
	(void)loop_set_deadline(s, deadline_ns);
	*ret = s;
	return 0;
}

int loop_add_signal(struct loop *l, struct loop_source **ret, int sig, loop_signal_fn fn, void *data)
{
	struct loop_source *s;
	sigset_t signals = l->signals, one;
	int fd, r;

	sigemptyset(&one);
	if (sigaddset(&one, sig) < 0 || sigaddset(&signals, sig) < 0)
		return -errno;
	if (sigprocmask(SIG_BLOCK, &one, NULL) < 0)
		return -errno;
	fd = signalfd(l->signal_fd < 0 ? -1 : l->signal_fd, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (l->signal_fd < 0) {
		r = watch(l, fd, EPOLLIN, &l->signal_fd);
		if (r < 0) {
			safe_close(fd);
			return r;
		}
		l->signal_fd = fd;
	}
	l->signals = signals;
	s = source_new(l, SOURCE_SIGNAL, data);
	s->on_signal = fn;
	s->sig = sig;
	s->delivery = l->deliveries;
	list_append(&l->handlers, s);
	*ret = s;
	return 0;
}

/* One due timer. Others that are due follow in the next rounds, because the timerfd is then set to a time that has passed. */
static int dispatch_timer(struct loop *l)
{
	struct loop_source *s = l->timers;
	uint64_t expirations;

	if (read(l->timer_fd, &expirations, sizeof(expirations)) < 0 && errno != EAGAIN && errno != EINTR)
		return -errno;
	l->armed_ns = UINT64_MAX;
	if (!s || s->deadline_ns > clock_monotonic_ns())
		return 0;
	list_remove(s);
	s->deadline_ns = UINT64_MAX;
	return s->on_timer(s, s->data);
}

/* One signal, to everybody who asked for it. A callback may free or add any source, so the list is begun anew after each; the number
 * of the delivery tells who has had it. */
static int dispatch_signal(struct loop *l)
{
	struct signalfd_siginfo si;
	struct loop_source *s;
	ssize_t n = read(l->signal_fd, &si, sizeof(si));
	uint64_t delivery;
	int r = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	delivery = ++l->deliveries;
	do {
		for (s = l->handlers; s; s = s->next)
			if (s->sig == (int)si.ssi_signo && s->delivery < delivery)
				break;
		if (s) {
			s->delivery = delivery;
			r = s->on_signal(s, &si, s->data);
		}
	} while (s && r >= 0);
	return r;
}

static int dispatch(struct loop *l, const struct epoll_event *ev)
{
	struct loop_source *s = ev->data.ptr;

	if (ev->data.ptr == &l->timer_fd)
		return dispatch_timer(l);
	if (ev->data.ptr == &l->signal_fd)
		return dispatch_signal(l);
	if (s->type == SOURCE_CHILD) {
		unwatch(s);
		return s->on_child(s, s->fd, s->data);
	}
	return s->on_fd(s, s->fd, ev->events, s->data);
}

/* The first always-ready file that somebody wants to hear of; it goes to the list's end, for the others' sake. */
static struct loop_source *next_file(struct loop *l)
{
	for (struct loop_source *s = l->files; s; s = s->next)
		if (s->events & (EPOLLIN | EPOLLOUT)) {
			list_remove(s);
			list_append(&l->files, s);
			return s;
		}
	return NULL;
}

static int arm(struct loop *l)
{
	uint64_t first = l->timers ? l->timers->deadline_ns : UINT64_MAX;
	struct itimerspec t = {};

	if (first == l->armed_ns || l->timer_fd < 0)
		return 0;
	/* All zero would disarm it. */
	if (first == 0)
		t.it_value.tv_nsec = 1;
	else if (first != UINT64_MAX)
		t.it_value = (struct timespec){ .tv_sec = (time_t)(first / NS_PER_SEC),
						.tv_nsec = (long)(first % NS_PER_SEC) };
	if (timerfd_settime(l->timer_fd, TFD_TIMER_ABSTIME, &t, NULL) < 0)
		return -errno;
	l->armed_ns = first;
	return 0;
}

int loop_step(struct loop *l, uint64_t deadline_ns)
{
	struct loop_source *file = next_file(l);
	struct epoll_event ev;
	int n, r;

	r = arm(l);
	if (r < 0)
		return r;
	for (;;) {
		n = epoll_wait(l->epoll_fd, &ev, 1, file ? 0 : clock_poll_timeout(deadline_ns));
		if (n > 0 || file)
			break;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && clock_poll_timeout(deadline_ns) == 0)
			return 0;
	}
	l->depth++;
	r = 0;
	if (n > 0)
		r = dispatch(l, &ev);
	if (r >= 0 && file && !file->dead && (file->events & (EPOLLIN | EPOLLOUT)))
		r = file->on_fd(file, file->fd, file->events & (EPOLLIN | EPOLLOUT), file->data);
	if (--l->depth == 0)
		bury(l);
	return r < 0 ? r : 1;
}

int loop_run(struct loop *l)
{
	int r = 0;

	while (!l->leaving && r >= 0)
		r = loop_step(l, UINT64_MAX);
	if (r >= 0)
		r = l->value;
	l->leaving = false;
	l->value = 0;
	return r;
}

void loop_exit(struct loop *l, int value)
{
	l->leaving = true;
	l->value = value;
}
