#include "image/transfers.h"

#include <errno.h>

#include "base/clock.h"

enum { PARALLEL = 4, ROUND_MS = 500 };

int transfer_begin(struct transfer *t, struct http *h, struct error *err)
{
	int r = http_begin(h, &t->req, &t->http, err);

	if (r >= 0)
		t->state = TRANSFER_RUNS;
	return r;
}

void transfer_wait(struct transfer *t, uint64_t span_ns)
{
	t->state = TRANSFER_WAITS;
	t->deadline_ns = clock_monotonic_ns() + span_ns;
}

void transfer_done(struct transfer *t)
{
	_cleanup_answer_ struct http_answer a = {};

	if (t->http)
		(void)http_end(TAKE_PTR(t->http), &a, NULL, NULL);
	free(t->what);
	t->what = NULL;
}

static int ended(struct transfer *t, const struct transfer_ops *ops, struct error *err)
{
	_cleanup_answer_ struct http_answer a = {};
	_cleanup_error_ struct error e = {};
	bool transient;
	int r = http_end(TAKE_PTR(t->http), &a, &transient, &e);

	if (r >= 0)
		return ops->answered(t, &a, transient, err);
	return transient && ops->again(t, UINT64_MAX) ? 0 : error_move(err, &e);
}

static int look_at(struct transfer *t, const struct transfer_ops *ops, size_t *running, struct error *err)
{
	int r = 0;

	if (t->state == TRANSFER_RUNS && http_has_ended(t->http)) {
		r = ended(t, ops, err);
		*running -= t->state != TRANSFER_RUNS;
	}
	if (r >= 0 && t->state == TRANSFER_WAITS && *running < PARALLEL && clock_monotonic_ns() >= t->deadline_ns) {
		r = ops->start(t, err);
		*running += t->state == TRANSFER_RUNS;
	}
	return r < 0 && t->what ? error_prefix(err, "%s", t->what) : r;
}

/* Until the next one of them wants to be looked at. */
static int round_ms(struct transfer *const *all, size_t n, size_t running)
{
	int ms = ROUND_MS;

	for (size_t i = 0; i < n; i++)
		if (all[i]->state == TRANSFER_WAITS && running < PARALLEL) {
			int left_ms = clock_poll_timeout(all[i]->deadline_ns);

			ms = left_ms < ms ? left_ms : ms;
		}
	return ms;
}

int transfers_run(struct transfer *const *all, size_t n, const struct transfer_ops *ops, struct http *h,
		  const atomic_bool *stop, struct error *err)
{
	size_t running = 0;
	bool left = true;
	int r = 0;

	while (r >= 0 && left) {
		left = false;
		if (stop && atomic_load(stop))
			return error_set(err, ECANCELED, "nobody wants it any more");
		for (size_t i = 0; r >= 0 && i < n; i++) {
			r = look_at(all[i], ops, &running, err);
			left |= all[i]->state != TRANSFER_DONE;
		}
		if (r >= 0 && left)
			r = http_pump(h, round_ms(all, n, running), err);
	}
	return r;
}
