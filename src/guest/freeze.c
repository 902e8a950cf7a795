#include "guest/freeze.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "guest/disk.h"

#define TIMEOUT_MAX_NS (300 * NS_PER_SEC)
/* linux/magic.h */
enum { OVERLAYFS_MAGIC = 0x794c7630, EXT4_MAGIC = 0xef53 };

struct freeze {
	struct link *link;
	struct freeze **owner; /* where the pointer to us is kept */
	int results_fd;        /* owned: two numbers come, frozen and thawed */
	int hold_fd;           /* owned: closing it thaws */
	struct loop_source *source;
	struct loop *loop;
	uint32_t freeze_id, thaw_id, next_id;
	bool freeze_asked, thaw_asked; /* requests to be answered */
	bool next_asked;               /* to freeze again, once it is thawed */
	uint64_t next_timeout_ns;
	bool frozen;
};

static int thaw(int root)
{
	return ioctl(root, FITHAW, 0) < 0 ? -errno : 0;
}

/* Until the other end of @fd is closed, or the time is up. */
static void wait_for_end(int fd, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	while (poll(&p, 1, clock_poll_timeout(deadline_ns)) < 0 && errno == EINTR)
		;
}

/* An overlay cannot be frozen; what it writes to can. */
static int open_root(void)
{
	struct statfs fs;
	bool layered = statfs("/", &fs) == 0 && fs.f_type == OVERLAYFS_MAGIC && statfs(DISK_DELTA, &fs) == 0 &&
		       fs.f_type == EXT4_MAGIC;

	return open(layered ? DISK_DELTA : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static _noreturn_ void child_main(int results, int hold, uint64_t timeout_ns)
{
	enum { ROOT = 3, HOLD = 4 };
	int root = open_root(), r;

	/* An agent that is gone must not keep us from thawing. */
	(void)signal(SIGPIPE, SIG_IGN);
	/* Only these stay: ends of sessions must not be held open. */
	r = root < 0 ? -errno : 0;
	if (dup2(results, STDOUT_FILENO) < 0)
		_exit(1);
	hold = fcntl(hold, F_DUPFD_CLOEXEC, 16);
	root = root < 0 ? -1 : fcntl(root, F_DUPFD_CLOEXEC, 16);
	if (hold < 0 || (root >= 0 && dup3(root, ROOT, O_CLOEXEC) < 0) || dup3(hold, HOLD, O_CLOEXEC) < 0)
		_exit(1);
	(void)syscall(SYS_close_range, 5U, ~0U, 0U);
	if (r == 0 && ioctl(ROOT, FIFREEZE, 0) < 0)
		r = -errno;
	if (write_full(STDOUT_FILENO, &r, sizeof(r)) == 0 && r == 0)
		wait_for_end(HOLD, clock_monotonic_ns() + timeout_ns);
	if (r == 0)
		r = thaw(ROOT);
	_exit(write_full(STDOUT_FILENO, &r, sizeof(r)) < 0);
}

static void answer(struct freeze *f, bool *asked, uint32_t stream_id, int r, const char *what)
{
	if (*asked && r < 0)
		link_error(f->link, stream_id, r, "cannot %s the file system: %s", what, strerror(-r));
	else if (*asked)
		link_reply(f->link, stream_id, NULL);
	*asked = false;
}

static int on_result(struct loop_source *s, int fd, uint32_t events, void *data)
{
	_cleanup_error_ struct error e = {};
	struct freeze *f = data, ended;
	int num = 0;

	(void)s;
	(void)events;
	/* The child writes all at once, or ends without a word: it was killed, and what it has frozen is ours to thaw. */
	if (read(fd, &num, sizeof(num)) != (ssize_t)sizeof(num)) {
		_cleanup_close_ int root = open_root();

		num = -EIO;
		if (root >= 0)
			(void)thaw(root);
	} else if (num == 0 && !f->frozen) {
		f->frozen = true;
		answer(f, &f->freeze_asked, f->freeze_id, 0, "freeze");
		return 0;
	}
	answer(f, &f->freeze_asked, f->freeze_id, num, "freeze");
	answer(f, &f->thaw_asked, f->thaw_id, num, "thaw");
	ended = *f;
	*f->owner = freeze_free(f);
	if (ended.next_asked &&
	    freeze_start(ended.owner, ended.loop, ended.link, ended.next_id, ended.next_timeout_ns, &e) < 0)
		link_error(ended.link, ended.next_id, e.num, "%s", e.msg);
	return 0;
}

int freeze_start(struct freeze **owner, struct loop *l, struct link *k, uint32_t stream_id, uint64_t timeout_ns,
		 struct error *err)
{
	_cleanup_close_ int results_read = -EBADF, results_write = -EBADF, hold_read = -EBADF, hold_write = -EBADF;
	struct freeze *f;
	int p[2], r;
	pid_t pid;

	/* One command after another: the thaw of the first is still under way. */
	if (*owner && (*owner)->hold_fd < 0 && !(*owner)->next_asked) {
		(*owner)->next_asked = true;
		(*owner)->next_id = stream_id;
		(*owner)->next_timeout_ns = timeout_ns;
		return 0;
	}
	if (*owner)
		return error_set(err, EBUSY, "the file system is frozen already");
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot open a pipe");
	results_read = p[0];
	results_write = p[1];
	if (pipe2(p, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot open a pipe");
	hold_read = p[0];
	hold_write = p[1];
	pid = fork();
	if (pid == 0) {
		safe_close(hold_write);
		child_main(results_write, hold_read, timeout_ns < TIMEOUT_MAX_NS ? timeout_ns : TIMEOUT_MAX_NS);
	}
	if (pid < 0)
		return error_set_errno(err, errno, "cannot start a process");
	f = xnew(struct freeze);
	f->link = k;
	f->owner = owner;
	f->loop = l;
	f->freeze_id = stream_id;
	f->freeze_asked = true;
	f->results_fd = TAKE_FD(results_read);
	f->hold_fd = TAKE_FD(hold_write);
	r = loop_add_fd(l, &f->source, f->results_fd, EPOLLIN, on_result, f);
	if (r < 0) {
		freeze_free(f);
		return error_set_errno(err, -r, "cannot wait for the file system");
	}
	*owner = f;
	return 0;
}

int freeze_end(struct freeze *f, uint32_t stream_id)
{
	if (!f)
		return 0;
	f->hold_fd = safe_close(f->hold_fd);
	answer(f, &f->thaw_asked, f->thaw_id, 0, "thaw");
	answer(f, &f->next_asked, f->next_id, -ECANCELED, "freeze");
	f->thaw_id = stream_id;
	f->thaw_asked = true;
	return 1;
}

void freeze_forget_requests(struct freeze *f)
{
	if (!f)
		return;
	f->freeze_asked = f->thaw_asked = f->next_asked = false;
	/* Who wanted it is gone. */
	f->hold_fd = safe_close(f->hold_fd);
}

struct freeze *freeze_free(struct freeze *f)
{
	if (!f)
		return NULL;
	loop_source_free(f->source);
	safe_close(f->results_fd);
	safe_close(f->hold_fd);
	free(f);
	return NULL;
}
