#include "base/flusher.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/thread.h"

/* So much has come together before the thread is woken for it. */
enum { STEP = 16 << 20 };

struct range {
	uint64_t from, to;
};

struct flusher {
	int fd; /* borrowed */
	/* The caller's own. */
	struct range noted;
	uint64_t noted_bytes;
	pthread_t thread;
	bool running, failed; /* failed: there is no thread to be had; nothing is begun early then */
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	/* Under the mutex. */
	struct range due; /* empty = nothing */
	bool sync, stop;
	int result; /* of the last sync */
};

struct flusher *flusher_new(int fd)
{
	struct flusher *f = xnew(struct flusher);

	f->fd = fd;
	pthread_mutex_init(&f->mutex, NULL);
	pthread_cond_init(&f->changed, NULL);
	return f;
}

static int sync_file(int fd)
{
	return fsync(fd) < 0 ? -errno : 0;
}

static void *run(void *data)
{
	struct flusher *f = data;

	pthread_mutex_lock(&f->mutex);
	while (!f->stop) {
		struct range r = f->due;
		int result;

		if (f->sync) {
			pthread_mutex_unlock(&f->mutex);
			result = sync_file(f->fd);
			pthread_mutex_lock(&f->mutex);
			f->result = result;
			f->sync = false;
			pthread_cond_broadcast(&f->changed);
		} else if (r.from < r.to) {
			f->due = (struct range){};
			pthread_mutex_unlock(&f->mutex);
			(void)sync_file_range(f->fd, (off_t)r.from, (off_t)(r.to - r.from), SYNC_FILE_RANGE_WRITE);
			pthread_mutex_lock(&f->mutex);
		} else {
			pthread_cond_wait(&f->changed, &f->mutex);
		}
	}
	pthread_mutex_unlock(&f->mutex);
	return NULL;
}

static bool start(struct flusher *f)
{
	if (f->running || f->failed)
		return f->running;
	f->running = thread_start(&f->thread, run, f) >= 0;
	f->failed = !f->running;
	return f->running;
}

static void widen(struct range *r, const struct range *by)
{
	if (r->from == r->to) {
		*r = *by;
		return;
	}
	if (by->from < r->from)
		r->from = by->from;
	if (by->to > r->to)
		r->to = by->to;
}

void flusher_note(struct flusher *f, uint64_t offset, uint64_t n)
{
	widen(&f->noted, &(struct range){ offset, offset + n });
	f->noted_bytes += n;
	if (f->noted_bytes < STEP)
		return;
	if (start(f)) {
		pthread_mutex_lock(&f->mutex);
		widen(&f->due, &f->noted);
		pthread_cond_broadcast(&f->changed);
		pthread_mutex_unlock(&f->mutex);
	}
	f->noted = (struct range){};
	f->noted_bytes = 0;
}

void flusher_sync_begin(struct flusher *f)
{
	if (!start(f)) {
		f->result = sync_file(f->fd);
		return;
	}
	pthread_mutex_lock(&f->mutex);
	f->sync = true;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->mutex);
}

int flusher_sync_end(struct flusher *f)
{
	int r;

	pthread_mutex_lock(&f->mutex);
	while (f->sync)
		pthread_cond_wait(&f->changed, &f->mutex);
	r = f->result;
	pthread_mutex_unlock(&f->mutex);
	return r;
}

struct flusher *flusher_free(struct flusher *f)
{
	if (!f)
		return NULL;
	if (f->running) {
		pthread_mutex_lock(&f->mutex);
		f->stop = true;
		pthread_cond_broadcast(&f->changed);
		pthread_mutex_unlock(&f->mutex);
		(void)pthread_join(f->thread, NULL);
	}
	pthread_mutex_destroy(&f->mutex);
	pthread_cond_destroy(&f->changed);
	free(f);
	return NULL;
}
