#include "image/arrivals.h"

#include <errno.h>

#include "base/memory.h"
#include "base/thread.h"

struct arrivals {
	arrivals_bring_fn bring;
	void *data; /* borrowed */
	pthread_t thread;
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	atomic_bool stop, ended;
	struct strv here, fresh; /* under the mutex: digests; the fresh ones are in both */
	int result;              /* the thread's, until it has ended */
	struct error error;      /* owned; likewise */
	bool thread_runs;
};

static void *run(void *data)
{
	struct arrivals *a = data;

	a->result = a->bring(a, a->data, &a->error);
	pthread_mutex_lock(&a->mutex);
	atomic_store(&a->ended, true);
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->mutex);
	return NULL;
}

int arrivals_start(arrivals_bring_fn bring, void *data, struct arrivals **ret, struct error *err)
{
	_cleanup_(arrivals_freep) struct arrivals *a = xnew(struct arrivals);
	int r;

	a->bring = bring;
	a->data = data;
	pthread_mutex_init(&a->mutex, NULL);
	pthread_cond_init(&a->changed, NULL);
	r = thread_start(&a->thread, run, a);
	if (r < 0)
		return error_set_errno(err, r, "cannot start a thread");
	a->thread_runs = true;
	*ret = TAKE_PTR(a);
	return 0;
}

static void join(struct arrivals *a)
{
	if (a->thread_runs)
		(void)pthread_join(a->thread, NULL);
	a->thread_runs = false;
}

struct arrivals *arrivals_free(struct arrivals *a)
{
	if (!a)
		return NULL;
	atomic_store(&a->stop, true);
	join(a);
	pthread_mutex_destroy(&a->mutex);
	pthread_cond_destroy(&a->changed);
	strv_done(&a->here);
	strv_done(&a->fresh);
	error_done(&a->error);
	free(a);
	return NULL;
}

void arrivals_add(struct arrivals *a, const char *digest, bool fresh)
{
	if (!a)
		return;
	pthread_mutex_lock(&a->mutex);
	strv_add(&a->here, digest);
	if (fresh)
		strv_add(&a->fresh, digest);
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->mutex);
}

const atomic_bool *arrivals_stop_flag(const struct arrivals *a)
{
	return a ? &a->stop : NULL;
}

int arrivals_wait(struct arrivals *a, const char *digest, bool *ret_fresh, struct error *err)
{
	bool here;

	pthread_mutex_lock(&a->mutex);
	while (!(here = strv_has(&a->here, digest)) && !atomic_load(&a->ended))
		pthread_cond_wait(&a->changed, &a->mutex);
	*ret_fresh = strv_has(&a->fresh, digest);
	pthread_mutex_unlock(&a->mutex);
	return here ? 0 : error_set(err, ECANCELED, "blob %.19s has not come", digest);
}

bool arrivals_have_ended(const struct arrivals *a)
{
	return atomic_load(&a->ended);
}

int arrivals_finish(struct arrivals *a, bool stop, struct error *err)
{
	if (stop)
		atomic_store(&a->stop, true);
	join(a);
	return a->result < 0 ? error_move(err, &a->error) : a->result;
}
