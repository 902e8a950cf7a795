#include "image/transfers.h"

#include <errno.h>

#include "test.h"
#include "web.h"

enum { N = 9, PLACES = 4, BREAKS = 2 };

static struct shared {
	int running, most, asked[N], breaks;
	bool breaks_off, stalls;
} * shared;

static void answer(const struct web_request *q, struct web_answer *a, void *data)
{
	int i = q->target[1] - '0', now = __atomic_add_fetch(&shared->running, 1, __ATOMIC_SEQ_CST), most;

	(void)data;
	while (now > (most = __atomic_load_n(&shared->most, __ATOMIC_SEQ_CST)))
		(void)__atomic_compare_exchange_n(&shared->most, &most, now, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	(void)__atomic_add_fetch(&shared->asked[i], 1, __ATOMIC_SEQ_CST);
	(void)__atomic_sub_fetch(&shared->running, 1, __ATOMIC_SEQ_CST);
	a->body = "x";
	a->len = 1;
	a->stall_s = shared->stalls ? 60 : 0;
	if (shared->breaks_off && __atomic_add_fetch(&shared->breaks, 1, __ATOMIC_SEQ_CST) <= BREAKS)
		a->status = 0;
}

struct errand {
	struct transfer transfer; /* first */
	struct http *http;
	unsigned *started, order;
	long status;
	unsigned tries;
};

static int start(struct transfer *t, struct error *err)
{
	struct errand *e = (struct errand *)t;

	if (!e->tries++)
		e->order = (*e->started)++;
	return transfer_begin(t, e->http, err);
}

static int answered(struct transfer *t, const struct http_answer *a, bool transient, struct error *err)
{
	(void)transient;
	(void)err;
	((struct errand *)t)->status = a->status;
	t->state = TRANSFER_DONE;
	return 0;
}

static bool again(struct transfer *t, uint64_t asked_ns)
{
	struct errand *e = (struct errand *)t;

	(void)asked_ns;
	if (e->tries > BREAKS)
		return false;
	transfer_wait(t, 0);
	return true;
}

static const struct transfer_ops ops = { start, answered, again };

static int run(struct errand *errands, size_t n, const atomic_bool *stop, struct error *err)
{
	static char urls[N][64];
	_cleanup_strv_ struct strv plain = {};
	struct http_settings hs = { .plain_hosts = &plain };
	_cleanup_(http_freep) struct http *h = NULL;
	struct transfer *all[N];
	unsigned started = 0;
	int port = web_start(answer, NULL), r;

	strv_addf(&plain, "127.0.0.1:%d", port);
	ASSERT_OK(http_new(&hs, &h, NULL));
	for (size_t i = 0; i < n; i++) {
		snprintf(urls[i], sizeof(urls[i]), "http://127.0.0.1:%d/%zu", port, i);
		errands[i].http = h;
		errands[i].started = &started;
		errands[i].transfer.what = xasprintf("errand %zu", i);
		errands[i].transfer.req = (struct http_request){ .url = urls[i], .body_fd = -1, .limit = 10 };
		all[i] = &errands[i].transfer;
	}
	r = transfers_run(all, n, &ops, h, stop, err);
	for (size_t i = 0; i < n; i++)
		transfer_done(all[i]);
	return r;
}

TEST(all_are_carried_in_order_and_not_too_many_at_once)
{
	struct errand errands[N] = {};

	shared = web_shared(sizeof(*shared));
	ASSERT_OK(run(errands, N, NULL, NULL));
	ASSERT(shared->most <= PLACES);
	for (unsigned i = 0; i < N; i++) {
		ASSERT_EQ(shared->asked[i], 1);
		ASSERT_EQ(errands[i].status, 200);
		ASSERT_EQ(errands[i].order, i);
	}
}

TEST(what_breaks_off_is_tried_again)
{
	struct errand errands[1] = {};

	shared = web_shared(sizeof(*shared));
	shared->breaks_off = true;
	ASSERT_OK(run(errands, 1, NULL, NULL));
	ASSERT_EQ(errands[0].status, 200);
	ASSERT_EQ(errands[0].tries, BREAKS + 1);
}

TEST(the_one_that_fails_is_named)
{
	struct errand errands[2] = {};
	_cleanup_error_ struct error e = {};

	shared = web_shared(sizeof(*shared));
	shared->breaks_off = true;
	errands[0].tries = BREAKS;
	ASSERT(run(errands, 1, NULL, &e) < 0);
	ASSERT_CONTAINS(e.msg, "errand 0: ");
}

TEST(what_nobody_wants_ends)
{
	struct errand errands[N] = {};
	_cleanup_error_ struct error e = {};
	atomic_bool stop = true;

	shared = web_shared(sizeof(*shared));
	shared->stalls = true;
	ASSERT_EQ(run(errands, N, &stop, &e), -ECANCELED);
}
