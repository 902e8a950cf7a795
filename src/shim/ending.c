#include "shim/ending.h"

#include "agent.pb-c.h"
#include "base/clock.h"
#include "shim/shim.h"

#define TICK_NS (20 * NS_PER_MS)

static bool runs(const struct container *k)
{
	const struct process *init = container_init(k);

	return !k->sandbox && init && init->started && !init->published;
}

static void terminate(struct container *k)
{
	Skerry__Agent__V1__KillContainerRequest q = SKERRY__AGENT__V1__KILL_CONTAINER_REQUEST__INIT;

	q.id = k->id;
	q.session = container_init(k)->session;
	q.signal = SIGTERM;
	(void)guest_signal(k->shim, &q.base, NULL, NULL, NULL);
}

static bool any_runs(const struct shim *s)
{
	for (const struct container *k = s->containers; k; k = k->next)
		if (runs(k))
			return true;
	return false;
}

static bool any_releases(const struct shim *s)
{
	for (const struct container *k = s->containers; k; k = k->next)
		if (k->releasing)
			return true;
	return false;
}

static int on_release_tick(struct loop_source *src, void *data)
{
	struct shim *s = data;
	uint64_t now = clock_monotonic_ns();

	if (vm_agent(s->vm) && any_releases(s) && now < s->ending_deadline_ns)
		return loop_set_deadline(src, now + TICK_NS);
	shim_shut_down(s);
	return 0;
}

/* What is shared is the host's already; but what its files are on a disk of the guest's own, or still open, is not. */
static void release(struct shim *s)
{
	uint64_t now = clock_monotonic_ns();

	for (struct container *k = s->containers; k; k = k->next)
		if (k->root || runs(k))
			container_release(k);
	s->ending_deadline_ns = now + s->limits.write_back_ns;
	s->ending_timer = loop_source_free(s->ending_timer);
	if (loop_add_timer(s->loop, &s->ending_timer, now, on_release_tick, s) < 0)
		shim_shut_down(s);
}

static int on_tick(struct loop_source *src, void *data)
{
	struct shim *s = data;
	uint64_t now = clock_monotonic_ns();

	if (vm_agent(s->vm) && any_runs(s) && now < s->ending_deadline_ns)
		return loop_set_deadline(src, now + TICK_NS);
	release(s);
	return 0;
}

void ending_begin(struct shim *s)
{
	uint64_t now = clock_monotonic_ns();

	if (s->ending || s->shutting_down)
		return;
	s->ending = true;
	s->ending_deadline_ns = now + s->limits.ending_ns;
	for (struct container *k = s->containers; k; k = k->next)
		if (runs(k) && vm_agent(s->vm))
			terminate(k);
	if (loop_add_timer(s->loop, &s->ending_timer, now, on_tick, s) < 0)
		shim_shut_down(s);
}
