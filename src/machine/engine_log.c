#include "machine/engine_log.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

enum { SIZE_MAX_BYTES = 1 << 20 };
#define LOOK_NS (60 * NS_PER_SEC)

struct engine_log {
	int dir_fd, log_fd; /* borrowed */
	int notify_fd;
	struct loop_source *source;
};

int engine_log_open(int dir_fd)
{
	int fd = openat(dir_fd, ENGINE_LOG, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);

	return fd < 0 ? -errno : fd;
}

static int copy_aside(int dir_fd)
{
	_cleanup_close_ int from = openat(dir_fd, ENGINE_LOG, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int to =
		openat(dir_fd, ENGINE_LOG_1, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	/* What is written meanwhile is not waited for. */
	return from < 0 || to < 0 ? -errno : file_copy_range(from, to, 0, SIZE_MAX_BYTES);
}

/* The engine holds its descriptor: the file stays the one that it is. */
static void turn_over(struct engine_log *e)
{
	struct stat st;

	if (fstat(e->log_fd, &st) < 0 || st.st_size <= SIZE_MAX_BYTES)
		return;
	(void)copy_aside(e->dir_fd);
	(void)!ftruncate(e->log_fd, 0);
}

static int on_written(struct loop_source *s, int fd, uint32_t events, void *data)
{
	char all[4096];

	(void)s;
	(void)events;
	while (read(fd, all, sizeof(all)) > 0)
		;
	turn_over(data);
	return 0;
}

static int on_time(struct loop_source *s, void *data)
{
	turn_over(data);
	return loop_set_deadline(s, clock_monotonic_ns() + LOOK_NS);
}

int engine_log_watch(struct loop *l, int dir_fd, int log_fd, struct engine_log **ret)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", log_fd);
	struct engine_log *e = xnew(struct engine_log);
	int r;

	*e = (struct engine_log){ .dir_fd = dir_fd, .log_fd = log_fd };
	e->notify_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	/* A user has 128 of them, and may have more machines. */
	if (e->notify_fd < 0 || inotify_add_watch(e->notify_fd, path, IN_MODIFY) < 0)
		r = loop_add_timer(l, &e->source, clock_monotonic_ns() + LOOK_NS, on_time, e);
	else
		r = loop_add_fd(l, &e->source, e->notify_fd, EPOLLIN, on_written, e);
	if (r < 0) {
		engine_log_free(e);
		return r;
	}
	turn_over(e);
	*ret = e;
	return 0;
}

struct engine_log *engine_log_free(struct engine_log *e)
{
	if (!e)
		return NULL;
	loop_source_free(e->source);
	safe_close(e->notify_fd);
	free(e);
	return NULL;
}
