/* How this works: a target is asked for when somebody waits for it and nobody has asked, and is kept while it leads somewhere. The list is short
 * (512) and searched from its most recent end. When it is full, the stalest that nobody uses makes room and is released: a neighbour that tries
 * every port of the container does not fill the engine with forwards. One that was asked for stays until the answer has come, whoever waits for it
 * still: only then is it known whether there is something to be released. */
#include "base/log.h"
#include "docker/relay_parts.h"

static struct target *unlink_target(struct target **at)
{
	struct target *t = *at;

	*at = t->next;
	t->next = NULL;
	return t;
}

static void push(struct relay *r, struct target *t)
{
	t->next = r->targets;
	r->targets = t;
}

static bool make_room(struct relay *r)
{
	struct target **stalest = NULL, *t;

	if (r->n_targets < r->options.targets)
		return true;
	for (struct target **p = &r->targets; *p; p = &(*p)->next)
		if ((*p)->users == 0 && (*p)->ticket == 0 && ((*p)->loopback_port == 0 || r->options.release))
			stalest = p;
	if (!stalest)
		return false;
	t = unlink_target(stalest);
	r->n_targets--;
	if (t->loopback_port && r->options.release)
		r->options.release(t->udp, t->guest_port, r->options.data);
	free(t);
	return true;
}

struct target *target_use(struct relay *r, bool udp, uint16_t guest_port)
{
	struct target *t = NULL;

	for (struct target **p = &r->targets; *p; p = &(*p)->next)
		if ((*p)->guest_port == guest_port && (*p)->udp == udp) {
			t = unlink_target(p);
			break;
		}
	if (!t) {
		if (!make_room(r))
			return NULL;
		t = xnew(struct target);
		*t = (struct target){ .relay = r, .udp = udp, .guest_port = guest_port };
		r->n_targets++;
	}
	push(r, t);
	t->users++;
	return t;
}

void target_unuse(struct target *t)
{
	t->users--;
}

static void waiter_unlink(struct waiter *w)
{
	*w->link = w->next;
	if (w->next)
		w->next->link = w->link;
	w->link = NULL;
	w->next = NULL;
}

/* A waiter may end, and end its use of the target, but the target stays: only target_use() makes room. */
static void answer(struct target *t, uint16_t loopback_port)
{
	struct waiter *waiting = t->waiters;

	t->waiters = NULL;
	if (waiting)
		waiting->link = &waiting;
	while (waiting) {
		struct waiter *w = waiting;

		waiter_unlink(w);
		w->fn(w, loopback_port);
	}
}

void target_wait(struct target *t, struct waiter *w)
{
	if (t->loopback_port) {
		w->fn(w, t->loopback_port);
		return;
	}
	w->next = t->waiters;
	w->link = &t->waiters;
	if (w->next)
		w->next->link = &w->next;
	t->waiters = w;
	if (t->ticket)
		return;
	t->ticket = ++t->relay->last_ticket;
	t->relay->options.resolve(t->relay, t->ticket, t->udp, t->guest_port, t->relay->options.data);
}

void waiter_cancel(struct waiter *w)
{
	if (w->link)
		waiter_unlink(w);
}

void target_stale(struct target *t, uint16_t loopback_port)
{
	if (t->loopback_port == loopback_port)
		t->loopback_port = 0;
}

void relay_resolved(struct relay *r, uint64_t ticket, uint16_t loopback_port)
{
	struct target *t = ticket ? r->targets : NULL;

	while (t && t->ticket != ticket)
		t = t->next;
	if (!t)
		return;
	t->ticket = 0;
	t->loopback_port = loopback_port;
	log_debug("relay: port %u/%s of the guest is 127.0.0.1:%u", t->guest_port, t->udp ? "udp" : "tcp",
		  loopback_port);
	answer(t, loopback_port);
}

void relay_forget(struct relay *r)
{
	for (struct target *t = r->targets; t; t = t->next)
		t->loopback_port = 0;
}

void targets_free(struct relay *r)
{
	while (r->targets)
		free(unlink_target(&r->targets));
	r->n_targets = 0;
}
