#include "cli/console_join.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/file.h"
#include "base/loop.h"
#include "base/memory.h"
#include "base/process.h"
#include "cli/output.h"
#include "machine/machine.h"
#include "machine/terminal.h"

enum { CHUNK = 64 << 10, DETACH_KEY = 0x1d };

struct console_session {
	struct loop *loop;
	struct loop_source *input;
	int sock;
	bool terminal;
	bool detached, interrupted;
};

static int on_output(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct console_session *c = data;
	_cleanup_buf_ struct buf b = {};
	ssize_t n = read(fd, buf_reserve(&b, CHUNK), CHUNK);

	(void)source;
	(void)events;
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		loop_exit(c->loop, 0);
		return 0;
	}
	return output_all(b.p, (size_t)n);
}

static int on_input(struct loop_source *source, int fd, uint32_t events, void *data)
{
	struct console_session *c = data;
	char b[4096];
	ssize_t n = read(fd, b, sizeof(b));
	char *key;

	(void)source;
	(void)events;
	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return 0;
	if (n <= 0) {
		/* Input is over, output goes on. */
		c->input = loop_source_free(c->input);
		return 0;
	}
	key = c->terminal ? memchr(b, DETACH_KEY, (size_t)n) : NULL;
	if (key) {
		n = key - b;
		c->detached = true;
		loop_exit(c->loop, 0);
	}
	return n ? write_full(c->sock, b, (size_t)n) : 0;
}

static int on_signal(struct loop_source *source, const struct signalfd_siginfo *si, void *data)
{
	struct console_session *c = data;

	(void)source;
	(void)si;
	c->interrupted = true;
	loop_exit(c->loop, 0);
	return 0;
}

static int console_attach(const char *name, int sock, struct error *err)
{
	static const int ending[] = { SIGTERM, SIGHUP, SIGINT };
	_cleanup_raw_terminal_ struct raw_terminal raw = RAW_TERMINAL_INIT;
	struct console_session c = { .sock = sock, .terminal = isatty(STDIN_FILENO) };
	struct loop_source *output = NULL, *signals[ARRAY_SIZE(ending)] = {};
	int r = loop_new(&c.loop);

	if (r >= 0)
		r = loop_add_fd(c.loop, &output, sock, EPOLLIN, on_output, &c);
	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(ending); i++)
		if (!signal_ignored(ending[i]))
			r = loop_add_signal(c.loop, &signals[i], ending[i], on_signal, &c);
	/* A file or nothing as input: then this only watches. */
	if (r >= 0)
		(void)loop_add_fd(c.loop, &c.input, STDIN_FILENO, EPOLLIN, on_input, &c);
	if (r < 0) {
		error_set_errno(err, r, "cannot make an event loop");
	} else {
		if (c.terminal)
			output_notice("console of '%s': Ctrl-] leaves it", name);
		r = raw_terminal_enter(&raw, STDIN_FILENO, err);
		if (r >= 0) {
			r = loop_run(c.loop);
			if (r < 0)
				error_set_errno(err, r, "machine '%s': console", name);
		}
	}
	raw_terminal_restore(&raw);
	loop_source_free(c.input);
	loop_source_free(output);
	for (size_t i = 0; i < ARRAY_SIZE(ending); i++)
		loop_source_free(signals[i]);
	loop_free(c.loop);
	if (r < 0)
		return r;
	if (c.terminal)
		output_notice(c.detached ? "left the console; machine '%s' runs on" : "the console of '%s' has ended",
			      name);
	return c.interrupted ? CONSOLE_INTERRUPTED : c.detached ? CONSOLE_LEFT : CONSOLE_ENDED;
}

int console_join(const struct store *s, const struct name *name, struct error *err)
{
	_cleanup_close_ int dir = -EBADF, sock = -EBADF;
	_cleanup_free_ char *path = NULL;
	int r = machine_path(s, name, "run", &path, err);

	if (r < 0)
		return r;
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (dir < 0)
		return error_set_errno(err, errno, "machine '%s': cannot open '%s'", name->s, path);
	sock = unix_connect_at(dir, "console.sock");
	if (sock < 0)
		return error_set_errno(err, sock, "machine '%s': cannot reach its console", name->s);
	return console_attach(name->s, sock, err);
}
