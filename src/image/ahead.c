#include "image/ahead.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/thread.h"

/* Whole blocks of a tar, so that no header of one is torn. */
enum { PIECE = 256 << 10, PIECES = 16 };

struct ahead {
	ahead_fill_fn fill;
	void *data; /* borrowed */
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	uint8_t *memory; /* owned; PIECES of PIECE bytes */
	/* Under the mutex: pieces [first, end) are full, counted from the beginning; the reader holds piece first - 1. */
	uint64_t first, end;
	size_t sizes[PIECES];
	bool ended, stop;
	int result;          /* of the last fill */
	struct error error;  /* owned */
	bool thread_started; /* the reader's */
};

static uint8_t *piece_at(const struct ahead *a, uint64_t i)
{
	return a->memory + i % PIECES * PIECE;
}

/* Waits for room. False when the reader has gone. */
static bool wait_for_room(struct ahead *a)
{
	bool go_on;

	pthread_mutex_lock(&a->mutex);
	/* One less than there are: one is in the reader's hands. */
	while (!a->stop && a->end - a->first >= PIECES - 1)
		pthread_cond_wait(&a->changed, &a->mutex);
	go_on = !a->stop;
	pthread_mutex_unlock(&a->mutex);
	return go_on;
}

static void hand_over(struct ahead *a, int r, size_t n, struct error *e)
{
	pthread_mutex_lock(&a->mutex);
	if (r < 0 || n == 0) {
		a->ended = true;
		a->result = r;
		a->error = *e;
	} else {
		a->sizes[a->end++ % PIECES] = n;
	}
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->mutex);
}

static void *run(void *data)
{
	struct ahead *a = data;
	size_t n = 1;
	int r = 0;

	while (r >= 0 && n && wait_for_room(a)) {
		struct error e = {};

		n = 0;
		r = a->fill(a->data, piece_at(a, a->end), PIECE, &n, &e);
		hand_over(a, r, n, &e);
	}
	return NULL;
}

int ahead_start(ahead_fill_fn fill, void *data, struct ahead **ret, struct error *err)
{
	_cleanup_(ahead_freep) struct ahead *a = xnew(struct ahead);
	int r;

	a->fill = fill;
	a->data = data;
	a->memory = xcalloc(PIECES, PIECE);
	pthread_mutex_init(&a->mutex, NULL);
	pthread_cond_init(&a->changed, NULL);
	r = thread_start(&a->thread, run, a);
	if (r < 0)
		return error_set_errno(err, r, "cannot start a thread");
	a->thread_started = true;
	*ret = TAKE_PTR(a);
	return 0;
}

static int copy_error(const struct ahead *a, struct error *err)
{
	if (a->result >= 0)
		return 0;
	return error_set_kind(err, a->error.kind, -a->result, "%s", a->error.msg ? a->error.msg : "");
}

int ahead_read(struct ahead *a, const void **ret, size_t *ret_n, struct error *err)
{
	int r = 0;

	*ret_n = 0;
	pthread_mutex_lock(&a->mutex);
	while (a->first == a->end && !a->ended)
		pthread_cond_wait(&a->changed, &a->mutex);
	if (a->first < a->end) {
		*ret = piece_at(a, a->first);
		*ret_n = a->sizes[a->first++ % PIECES];
	} else {
		r = copy_error(a, err);
	}
	pthread_cond_signal(&a->changed);
	pthread_mutex_unlock(&a->mutex);
	return r;
}

struct ahead *ahead_free(struct ahead *a)
{
	if (!a)
		return NULL;
	if (a->thread_started) {
		pthread_mutex_lock(&a->mutex);
		a->stop = true;
		pthread_cond_signal(&a->changed);
		pthread_mutex_unlock(&a->mutex);
		(void)pthread_join(a->thread, NULL);
	}
	pthread_mutex_destroy(&a->mutex);
	pthread_cond_destroy(&a->changed);
	error_done(&a->error);
	free(a->memory);
	free(a);
	return NULL;
}
