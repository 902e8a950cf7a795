#include "docker/output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

/* A pipe that is ready takes PIPE_BUF without blocking. */
enum { PIECE = 4096, BACKLOG_MAX = 1 << 20 };
/* A full terminal says that it is ready all the same (its line discipline counts otherwise than its buffer): it is looked at again. */
enum { AGAIN_MS = 20 };

struct output {
	int own_fd; /* owned: an open file of our own, which does not block; -EBADF where there can be none */
	int fd;     /* the one that is written to */
	struct loop_source *source, *again;
	struct buf buf;
	void (*on_room)(void *data);
	void *data;
};

static void set_events(struct output *o)
{
	(void)loop_set_events(o->source, o->buf.len ? (uint32_t)EPOLLOUT : 0);
}

/* A piece. False: it takes none now. */
static bool write_some(struct output *o)
{
	size_t n = o->buf.len < PIECE ? o->buf.len : PIECE;
	ssize_t k = write(o->fd, o->buf.p, n);

	if (k < 0 && errno == EINTR)
		return true;
	if (k < 0 && errno == EAGAIN)
		return false;
	if (k < 0)
		buf_truncate(&o->buf, 0); /* nobody listens any more */
	else
		buf_consume(&o->buf, (size_t)k);
	return true;
}

static int on_ready(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct output *o = data;

	(void)fd;
	(void)events;
	if (o->buf.len && !write_some(o)) {
		(void)loop_set_events(source, 0);
		return loop_set_deadline(o->again, clock_monotonic_ns() + AGAIN_MS * NS_PER_MS);
	}
	set_events(o);
	if (o->on_room)
		o->on_room(o->data);
	return 0;
}

static int on_again(struct loop_source *source, void *data)
{
	(void)source;
	set_events(data);
	return 0;
}

/* O_NONBLOCK belongs to the open file, which others have as well: what reads our standard input from the same terminal, a shell that started us. A
 * regular file never blocks, and has its place. */
static int open_own(int fd)
{
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", fd);
	struct stat st;

	if (fstat(fd, &st) < 0 || !(S_ISFIFO(st.st_mode) || isatty(fd)))
		return -EBADF;
	return open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

int output_new(struct loop *l, int fd, void (*on_room)(void *data), void *data, struct output **ret)
{
	struct output *o = xnew(struct output);
	int r;

	o->own_fd = open_own(fd);
	o->fd = o->own_fd >= 0 ? o->own_fd : fd;
	o->on_room = on_room;
	o->data = data;
	r = loop_add_fd(l, &o->source, o->fd, 0, on_ready, o);
	if (r >= 0)
		r = loop_add_timer(l, &o->again, UINT64_MAX, on_again, o);
	if (r < 0) {
		output_free(o);
		return r;
	}
	*ret = o;
	return 0;
}

struct buf *output_buf(struct output *o)
{
	return &o->buf;
}

void output_added(struct output *o)
{
	set_events(o);
}

bool output_has_room(const struct output *o)
{
	return o->buf.len < BACKLOG_MAX;
}

void output_finish(struct output *o, uint64_t deadline_ns)
{
	struct pollfd p = { o->fd, POLLOUT, 0 };

	while (o->buf.len && poll(&p, 1, clock_poll_timeout(deadline_ns)) > 0 && clock_monotonic_ns() < deadline_ns)
		if (!write_some(o))
			(void)poll(NULL, 0, AGAIN_MS); /* lint: nothing tells when a full terminal is not */
}

struct output *output_free(struct output *o)
{
	if (!o)
		return NULL;
	loop_source_free(o->source);
	loop_source_free(o->again);
	safe_close(o->own_fd);
	buf_done(&o->buf);
	free(o);
	return NULL;
}
