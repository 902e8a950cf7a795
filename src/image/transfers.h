/* Several transfers at once over the connections of one registry. Each waits (for a place among those that run, for a pause to end, for somebody
 * else), runs, and is done; what it carries is its owner's affair. Linked into skerry-image only. */
#pragma once

#include <stdatomic.h>

#include "image/http.h"
#include "image/retry.h"

enum transfer_state { TRANSFER_WAITS, TRANSFER_RUNS, TRANSFER_DONE };

/* The first member of whatever is carried. Zero but for @what: it waits for nothing but a place. */
struct transfer {
	enum transfer_state state;
	uint64_t deadline_ns;       /* when waiting ends; CLOCK_MONOTONIC */
	char *what;                 /* owned; begins messages; NULL = they speak for themselves */
	struct http_request req;    /* what it points at is borrowed from the owner */
	struct http_transfer *http; /* owned while it runs */
	struct retry retry;
};

struct transfer_ops {
	/* It is its turn: calls transfer_begin(), or sets the state (by transfer_wait() for one), for there may be nothing to carry. */
	int (*start)(struct transfer *t, struct error *err);
	/* The other side has answered; the state is still TRANSFER_RUNS and must be another afterwards. */
	int (*answered)(struct transfer *t, const struct http_answer *a, bool transient, struct error *err);
	/* It broke off in a way that may pass: lets it wait for another try, @asked_ns long where the other side has said so (UINT64_MAX = it
	 * has not). False when that was enough of them. */
	bool (*again)(struct transfer *t, uint64_t asked_ns);
};

/* Sends @t->req; it runs from now on. */
int transfer_begin(struct transfer *t, struct http *h, struct error *err);
void transfer_wait(struct transfer *t, uint64_t span_ns);
/* Gives up what runs, frees what is owned. Safe to call twice. */
void transfer_done(struct transfer *t);

/* Until all are done, in this order where there are more than may run at the same time. The first one that fails ends it; the others stay as they
 * are, for transfer_done(). @stop (may be NULL): ends it within half a second with -ECANCELED. */
int transfers_run(struct transfer *const *all, size_t n, const struct transfer_ops *ops, struct http *h,
		  const atomic_bool *stop, struct error *err);
