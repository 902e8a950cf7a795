#include "docker/teller.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "docker/exchange.h"
#include "net/neighbour.h"
#include "wire/ndp.h"

/* How this works: each interface has a TAP, what is read from it was sent by the guest, and what is written to it goes to the guest. One TUN leads to the
 * container's stack. Nothing here waits for anything: a guest that gets no answer asks again. */

enum { AT_ONCE = 32 };
#define EVERY_NS (NDP_EVERY_S * NS_PER_SEC)

struct teller_nic {
	struct teller *teller;
	struct exchange exchange;
	char *gateway;  /* owned: whose hardware address the exchange wants; NULL = nobody's */
	unsigned index; /* the interface that it is behind */
	int fd;         /* owned: the TAP aside */
	struct loop_source *source;
};

struct teller {
	struct loop *loop;       /* borrowed */
	struct teller_nic *nics; /* owned */
	size_t n;
	struct teller_nic *control; /* of nics; NULL = none */
	int stack;                  /* owned: the TUN; -EBADF = none */
	struct loop_source *stack_source, *timer;
	uint8_t *in, *out; /* owned: PACKET_MAX */
};

static void give(int fd, const uint8_t *p, size_t n)
{
	ssize_t k = n ? write(fd, p, n) : 0;

	/* Whoever misses it asks again. */
	if (k < 0)
		log_debug("interfaces: %s", strerror(errno));
}

/* Looks it up, and sees to it that it can be found next time. */
static void look_for_gateway(struct teller_nic *n)
{
	struct exchange *x = &n->exchange;

	x->wants_gateway = false;
	if (!n->gateway)
		return;
	x->knows_gateway = net_neighbour_find(n->index, n->gateway, x->gateway) == 0 || x->knows_gateway;
	(void)net_neighbour_ask(n->index, n->gateway);
}

static int on_guest(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct teller_nic *n = data;
	struct teller *t = n->teller;

	(void)s;
	(void)events;
	for (int i = 0; i < AT_ONCE; i++) {
		ssize_t got = read(fd, t->in, PACKET_MAX);
		enum exchange_way way;
		size_t size;

		if (got <= 0)
			break;
		way = exchange_from_guest(&n->exchange, t->in, (size_t)got, t->out, PACKET_MAX, &size);
		if (n->exchange.wants_gateway) {
			look_for_gateway(n);
			way = exchange_from_guest(&n->exchange, t->in, (size_t)got, t->out, PACKET_MAX, &size);
			n->exchange.wants_gateway = false;
		}
		if (way == EXCHANGE_TO_GUEST)
			give(fd, t->out, size);
		else if (way == EXCHANGE_TO_STACK && t->stack >= 0)
			give(t->stack, t->out, size);
	}
	return 0;
}

static int on_stack(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct teller *t = data;

	(void)s;
	(void)events;
	for (int i = 0; i < AT_ONCE; i++) {
		ssize_t got = read(fd, t->in, PACKET_MAX);

		if (got <= 0)
			break;
		give(t->control->fd, t->out,
		     exchange_from_stack(&t->control->exchange, t->in, (size_t)got, t->out, PACKET_MAX));
	}
	return 0;
}

/* A router that is not heard of for long is taken for gone, and its hardware address may have changed. */
static int on_timer(struct loop_source *s, void *data)
{
	struct teller *t = data;

	for (size_t i = 0; i < t->n; i++) {
		look_for_gateway(&t->nics[i]);
		give(t->nics[i].fd, t->out, exchange_advertise(&t->nics[i].exchange, t->out, PACKET_MAX));
	}
	return loop_set_deadline(s, clock_monotonic_ns() + EVERY_NS);
}

/* ---- All of it ---- */

static int open_nic(struct teller *t, struct teller_nic *n, const struct net_takeover_nic *nic,
		    const struct teller_options *o, struct error *err)
{
	const char *gateway = NULL;
	int r;

	*n = (struct teller_nic){ .teller = t, .index = nic->index, .fd = -EBADF };
	told_from_nic(nic, o, &n->exchange.told, &n->exchange.control, &gateway);
	n->gateway = xstrdup(gateway);
	r = net_takeover_aside(nic, &n->fd, err);
	if (r >= 0 && loop_add_fd(t->loop, &n->source, n->fd, EPOLLIN, on_guest, n) < 0)
		r = error_set_errno(err, ENOMEM, "event loop");
	if (n->exchange.control)
		t->control = n;
	if (r >= 0)
		look_for_gateway(n);
	return r;
}

static int open_stack(struct teller *t, struct error *err)
{
	int r = net_takeover_control(t->control->exchange.told.mtu, &t->stack, err);

	if (r >= 0 && loop_add_fd(t->loop, &t->stack_source, t->stack, EPOLLIN, on_stack, t) < 0)
		r = error_set_errno(err, ENOMEM, "event loop");
	return r;
}

int teller_new(struct loop *loop, const struct teller_options *o, struct teller **ret, struct error *err)
{
	struct teller *t = xnew(struct teller);
	int r = 0;

	*t = (struct teller){ .loop = loop,
			      .stack = -EBADF,
			      .nics = xnew_n(struct teller_nic, o->plan->taken.n),
			      .in = xnew_n(uint8_t, PACKET_MAX),
			      .out = xnew_n(uint8_t, PACKET_MAX) };
	for (size_t i = 0; i < o->plan->taken.n && r >= 0; i++)
		r = open_nic(t, &t->nics[t->n++], &o->plan->taken.nics[i], o, err);
	if (r >= 0 && t->control)
		r = open_stack(t, err);
	if (r >= 0 && loop_add_timer(loop, &t->timer, clock_monotonic_ns() + EVERY_NS, on_timer, t) < 0)
		r = error_set_errno(err, ENOMEM, "event loop");
	if (r < 0) {
		teller_free(t);
		return r;
	}
	*ret = t;
	return 0;
}

struct teller *teller_free(struct teller *t)
{
	if (!t)
		return NULL;
	for (size_t i = 0; i < t->n; i++) {
		loop_source_free(t->nics[i].source);
		safe_close(t->nics[i].fd);
		free(t->nics[i].gateway);
	}
	loop_source_free(t->stack_source);
	loop_source_free(t->timer);
	safe_close(t->stack);
	free(t->nics);
	free(t->in);
	free(t->out);
	free(t);
	return NULL;
}
