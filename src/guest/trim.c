#include "guest/trim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "base/memory.h"
#include "guest/system.h"

struct result {
	int num;
	uint64_t bytes;
};

struct trim {
	struct link *link;
	struct trim **owner; /* where the pointer to us is kept */
	int fd;
	struct loop_source *source;
	uint32_t stream_id;
	bool forgotten;
};

static _noreturn_ void child_main(int fd)
{
	struct result r = { 0 };

	/* Only the pipe stays: ends of sessions must not be held open. */
	if (dup2(fd, STDOUT_FILENO) < 0)
		_exit(1);
	(void)syscall(SYS_close_range, 3U, ~0U, 0U);
	r.num = system_trim(&r.bytes);
	_exit(write_full(STDOUT_FILENO, &r, sizeof(r)) < 0);
}

static int on_result(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct trim *t = data;
	Skerry__Agent__V1__TrimResponse m;
	struct result r;

	(void)s;
	(void)events;
	/* The child writes all at once, or ends without a word. */
	if (read(fd, &r, sizeof(r)) != (ssize_t)sizeof(r))
		r = (struct result){ .num = -EIO };
	if (!t->forgotten && r.num < 0) {
		link_error(t->link, t->stream_id, r.num, "cannot trim: %s", strerror(-r.num));
	} else if (!t->forgotten) {
		skerry__agent__v1__trim_response__init(&m);
		m.trimmed_bytes = r.bytes;
		link_reply(t->link, t->stream_id, &m.base);
	}
	*t->owner = trim_free(t);
	return 0;
}

int trim_start(struct trim **owner, struct loop *l, struct link *k, uint32_t stream_id, struct error *err)
{
	_cleanup_close_ int ours = -EBADF, theirs = -EBADF;
	struct trim *t;
	int p[2], r;
	pid_t pid;

	if (*owner)
		return error_set(err, EBUSY, "the guest's disks are being trimmed already");
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot open a pipe");
	ours = p[0];
	theirs = p[1];
	pid = fork();
	if (pid == 0)
		child_main(theirs);
	if (pid < 0)
		return error_set_errno(err, errno, "cannot start a process");
	t = xnew(struct trim);
	t->link = k;
	t->owner = owner;
	t->stream_id = stream_id;
	t->fd = TAKE_FD(ours);
	r = loop_add_fd(l, &t->source, t->fd, EPOLLIN, on_result, t);
	if (r < 0) {
		trim_free(t);
		return error_set_errno(err, -r, "cannot wait for the trim");
	}
	*owner = t;
	return 0;
}

void trim_forget_request(struct trim *t)
{
	if (t)
		t->forgotten = true;
}

struct trim *trim_free(struct trim *t)
{
	if (!t)
		return NULL;
	loop_source_free(t->source);
	safe_close(t->fd);
	free(t);
	return NULL;
}
