/* Programs that run to their end. The input is handed over as a memory file and the output collected here, so that neither side can
 * wait for the other. A helper that leaves a daemon behind, holding our pipes, ends when the helper itself does. */
#include "base/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"

struct stream {
	int fd;         /* owned: reading end, -EBADF = closed or not asked for */
	struct buf *to; /* NULL = it is told of, by @s */
	const struct spawn *s;
};

static int stream_open(struct stream *st, int *ret_write)
{
	int fds[2];

	if (!st->to && !st->s)
		return 0;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	st->fd = fds[0];
	*ret_write = fds[1];
	/* Only our end: a program need not expect EAGAIN on its own. */
	return fcntl(st->fd, F_SETFL, O_NONBLOCK) < 0 ? -errno : 0;
}

/* Takes what is there, up to @limit in all; closes the stream at its end. At most a few rounds, so that a fast writer does not keep
 * us from looking at the clock. */
static void stream_drain(struct stream *st, size_t limit)
{
	char bytes[16384];

	for (int i = 0; i < 16 && st->fd >= 0; i++) {
		ssize_t n = read(st->fd, bytes, sizeof(bytes));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0) {
			st->fd = safe_close(st->fd);
			return;
		}
		if (st->s)
			st->s->on_out(bytes, (size_t)n, st->s->on_out_data);
		else if (st->to->len < limit)
			buf_add(st->to, bytes, (size_t)n < limit - st->to->len ? (size_t)n : limit - st->to->len);
	}
}

/* Returns when the process has ended and what it wrote is read. */
static int collect(int pidfd, struct stream streams[2], size_t limit, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p[3] = {
			{ .fd = streams[0].fd, .events = POLLIN },
			{ .fd = streams[1].fd, .events = POLLIN },
			{ .fd = pidfd, .events = POLLIN },
		};
		int n = poll(p, 3, clock_poll_timeout(deadline_ns));

		if (n < 0 && errno != EINTR)
			return -errno;
		if (n > 0 && p[2].revents) {
			/* A pipe holds 64 KiB, which one call reads, unless a daemon left behind goes on writing. */
			stream_drain(&streams[0], limit);
			stream_drain(&streams[1], limit);
			return 0;
		}
		for (int i = 0; i < 2 && n > 0; i++)
			if (p[i].revents)
				stream_drain(&streams[i], limit);
		if (clock_poll_timeout(deadline_ns) == 0)
			return -ETIMEDOUT;
	}
}

static int input_file(const struct buf *input)
{
	_cleanup_close_ int fd = memfd_create("input", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = pwrite_full(fd, input->p, input->len, 0);
	return r < 0 ? r : TAKE_FD(fd);
}

int spawn_run(const struct spawn *s, const struct buf *input, struct buf *out, struct buf *errout, size_t limit,
	      uint64_t timeout_ns, int *ret_status, struct error *err)
{
	_cleanup_close_ int in_fd = -EBADF, out_write = -EBADF, err_write = -EBADF, pidfd = -EBADF;
	struct stream streams[2] = { { .fd = -EBADF, .to = out, .s = s->on_out ? s : NULL },
				     { .fd = -EBADF, .to = errout } };
	struct spawn copy = *s;
	int r, status;
	uint64_t deadline_ns = UINT64_MAX;

	if (timeout_ns && __builtin_add_overflow(clock_monotonic_ns(), timeout_ns, &deadline_ns))
		deadline_ns = UINT64_MAX;
	r = stream_open(&streams[0], &out_write);
	if (r == 0)
		r = stream_open(&streams[1], &err_write);
	if (r == 0 && input) {
		in_fd = input_file(input);
		r = in_fd < 0 ? in_fd : 0;
		copy.stdio[0] = in_fd;
	}
	if (r < 0) {
		r = error_set_errno(err, r, "%s: cannot set up its input and output", s->argv[0]);
		goto out;
	}
	if (out_write >= 0)
		copy.stdio[1] = out_write;
	if (err_write >= 0)
		copy.stdio[2] = err_write;
	r = spawn_start(&copy, NULL, &pidfd, err);
	if (r < 0)
		goto out;
	out_write = safe_close(out_write);
	err_write = safe_close(err_write);
	r = collect(pidfd, streams, limit, deadline_ns);
	if (r < 0) {
		(void)pidfd_kill(pidfd, SIGKILL);
		(void)pidfd_wait_exit(pidfd, UINT64_MAX);
		(void)pidfd_reap(pidfd, NULL);
		r = r == -ETIMEDOUT ? error_set(err, ETIMEDOUT, "%s: no end after %llu ms, killed", s->argv[0],
						(unsigned long long)(timeout_ns / NS_PER_MS))
				    : error_set_errno(err, r, "%s: cannot wait for it", s->argv[0]);
		goto out;
	}
	r = pidfd_reap(pidfd, &status);
	if (r < 0)
		error_set_errno(err, r, "%s: cannot reap it", s->argv[0]);
	else if (ret_status)
		*ret_status = status;
out:
	safe_close(streams[0].fd);
	safe_close(streams[1].fd);
	return r;
}

/* The last line that says something, without what cannot be shown. */
static char *last_line(struct buf *b)
{
	size_t end, begin;

	while (b->len && (unsigned char)b->p[b->len - 1] <= ' ')
		buf_truncate(b, b->len - 1);
	end = begin = b->len;
	while (begin && b->p[begin - 1] != '\n')
		begin--;
	if (end - begin > 400)
		end = begin + 400;
	for (size_t i = begin; i < end; i++)
		if ((unsigned char)b->p[i] < ' ' || b->p[i] == 0x7f)
			b->p[i] = '?';
	return xstrndup(b->len ? b->p + begin : "", end - begin);
}

int spawn_check(const struct spawn *s, const struct buf *input, struct buf *out, size_t limit, uint64_t timeout_ns,
		struct error *err)
{
	_cleanup_buf_ struct buf errout = {};
	_cleanup_free_ char *line = NULL;
	const char *name = strrchr(s->argv[0], '/'), *text, *rest;
	char status_text[64];
	int status, r;

	r = spawn_run(s, input, out, &errout, limit, timeout_ns, &status, err);
	if (r < 0 || status == 0)
		return r;
	name = name ? name + 1 : s->argv[0];
	text = line = last_line(&errout);
	/* Most programs begin with their own name. */
	rest = after_prefix(line, name);
	if (rest && (rest = after_prefix(rest, ": ")))
		text = rest;
	if (!*text)
		return error_set(err, EIO, "%s: %s", name, wait_status_text(status, status_text, sizeof(status_text)));
	return error_set(err, EIO, "%s: %s", name, text);
}
