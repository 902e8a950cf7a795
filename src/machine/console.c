#include "machine/console.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"

enum {
	LOG_MAX = 16 << 20,    /* then console.log becomes console.log.1 */
	SCROLLBACK = 16 << 10, /* shown to whoever attaches */
	WATCHERS_MAX = 32,
	WATCHER_BACKLOG = 256 << 10, /* a watcher that reads nothing loses output beyond this, the guest never waits */
	INPUT_BACKLOG = 64 << 10,
	CHUNK = 16 << 10,
};

struct watcher {
	struct console *console; /* borrowed: owns us */
	int fd;
	struct loop_source *source;
	struct buf out;
	struct watcher *next;
};

struct console {
	struct loop *loop; /* borrowed */
	int engine_fd, listen_fd, log_fd;
	int machine_fd; /* borrowed */
	uint64_t log_bytes;
	struct loop_source *engine_source, *listen_source;
	struct buf input; /* for the guest */
	struct buf scrollback;
	struct watcher *watchers;
	unsigned n_watchers;
};

static void open_log(struct console *c)
{
	struct stat st;

	c->log_fd = openat(c->machine_fd, "console.log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	c->log_bytes = c->log_fd >= 0 && fstat(c->log_fd, &st) == 0 ? (uint64_t)st.st_size : 0;
}

static void write_log(struct console *c, const void *p, size_t n)
{
	int r;

	if (c->log_bytes + n > LOG_MAX) {
		c->log_fd = safe_close(c->log_fd);
		(void)renameat(c->machine_fd, "console.log", c->machine_fd, "console.log.1");
		open_log(c);
	}
	if (c->log_fd < 0)
		return;
	/* A full disk must not stop the machine. */
	r = write_full(c->log_fd, p, n);
	if (r >= 0)
		c->log_bytes += n;
	else
		log_debug("console.log: %s", strerror(-r));
}

static struct watcher *watcher_free(struct watcher *w)
{
	struct console *c = w->console;

	for (struct watcher **p = &c->watchers; *p; p = &(*p)->next)
		if (*p == w) {
			*p = w->next;
			c->n_watchers--;
			break;
		}
	loop_source_free(w->source);
	safe_close(w->fd);
	buf_done(&w->out);
	free(w);
	return NULL;
}

/* Returns false when the watcher has gone. */
static bool watcher_flush(struct watcher *w)
{
	while (w->out.len) {
		ssize_t n = send(w->fd, w->out.p, w->out.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno != EAGAIN) {
			watcher_free(w);
			return false;
		}
		if (n < 0)
			break;
		buf_consume(&w->out, (size_t)n);
	}
	(void)loop_set_events(w->source, EPOLLIN | (w->out.len ? (uint32_t)EPOLLOUT : 0));
	return true;
}

static void engine_flush(struct console *c)
{
	while (c->input.len) {
		ssize_t n = send(c->engine_fd, c->input.p, c->input.len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			if (errno != EAGAIN)
				buf_truncate(&c->input, 0);
			break;
		}
		buf_consume(&c->input, (size_t)n);
	}
	if (c->engine_source)
		(void)loop_set_events(c->engine_source, EPOLLIN | (c->input.len ? (uint32_t)EPOLLOUT : 0));
}

static int on_watcher(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct watcher *w = data;
	struct console *c = w->console;
	char p[4096];
	ssize_t n;

	(void)s;
	if ((events & EPOLLOUT) && !watcher_flush(w))
		return 0;
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	n = recv(fd, p, sizeof(p), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		watcher_free(w);
		return 0;
	}
	if (n > 0 && c->engine_fd >= 0 && c->input.len + (size_t)n <= INPUT_BACKLOG) {
		buf_add(&c->input, p, (size_t)n);
		engine_flush(c);
	}
	return 0;
}

static int on_listen(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct console *c = data;
	struct watcher *w;
	int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)s;
	(void)events;
	if (peer < 0)
		return 0;
	if (c->n_watchers >= WATCHERS_MAX) {
		safe_close(peer);
		return 0;
	}
	w = xnew(struct watcher);
	*w = (struct watcher){ .console = c, .fd = peer, .next = c->watchers };
	c->watchers = w;
	c->n_watchers++;
	if (loop_add_fd(c->loop, &w->source, peer, EPOLLIN, on_watcher, w) < 0) {
		watcher_free(w);
		return 0;
	}
	buf_add(&w->out, c->scrollback.p, c->scrollback.len);
	watcher_flush(w);
	return 0;
}

void console_log(struct console *c, const void *p, size_t n)
{
	struct watcher *w, *next;

	write_log(c, p, n);
	buf_add(&c->scrollback, p, n);
	if (c->scrollback.len > 2 * (size_t)SCROLLBACK)
		buf_consume(&c->scrollback, c->scrollback.len - SCROLLBACK);
	for (w = c->watchers; w; w = next) {
		next = w->next;
		if (w->out.len + n > WATCHER_BACKLOG)
			continue;
		buf_add(&w->out, p, n);
		watcher_flush(w);
	}
}

static int on_engine(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct console *c = data;
	char p[CHUNK];
	ssize_t n;

	(void)s;
	if (events & EPOLLOUT)
		engine_flush(c);
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return 0;
	n = recv(fd, p, sizeof(p), MSG_DONTWAIT);
	if (n > 0)
		console_log(c, p, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		c->engine_source = loop_source_free(c->engine_source);
	return 0;
}

int console_new(struct loop *l, int engine_fd, int machine_fd, int run_fd, struct console **ret)
{
	struct console *c = xnew(struct console);
	int r;

	*c = (struct console){ .loop = l, .engine_fd = engine_fd, .listen_fd = -EBADF, .machine_fd = machine_fd };
	open_log(c);
	c->listen_fd = unix_listen_at(run_fd, "console.sock", 8);
	r = c->listen_fd;
	if (r >= 0)
		r = loop_add_fd(l, &c->listen_source, c->listen_fd, EPOLLIN, on_listen, c);
	if (r >= 0 && engine_fd >= 0)
		r = loop_add_fd(l, &c->engine_source, engine_fd, EPOLLIN, on_engine, c);
	if (r < 0) {
		console_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct console *console_free(struct console *c)
{
	char p[CHUNK];
	ssize_t n;

	if (!c)
		return NULL;
	/* What the engine said last matters most: it is still in the socket. */
	while (c->engine_source && (n = recv(c->engine_fd, p, sizeof(p), MSG_DONTWAIT)) > 0)
		console_log(c, p, (size_t)n);
	while (c->watchers) {
		struct watcher *w = c->watchers;

		if (watcher_flush(w))
			watcher_free(w);
	}
	loop_source_free(c->engine_source);
	loop_source_free(c->listen_source);
	safe_close(c->engine_fd);
	safe_close(c->listen_fd);
	safe_close(c->log_fd);
	buf_done(&c->input);
	buf_done(&c->scrollback);
	free(c);
	return NULL;
}
