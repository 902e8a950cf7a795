#include "base/lock.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"

enum { COMMAND_MAX = 60, HOLDER_MAX = 128 };

/* "skerry stop web" from /proc/self/cmdline: the program without its directory, one line, shortened. */
static char *own_command(void)
{
	_cleanup_buf_ struct buf b = {}, line = {};
	const char *p, *slash;

	/* A cut-off command line is as good for this; file_read_at() would refuse a long one. */
	{
		_cleanup_close_ int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
		ssize_t n = fd < 0 ? -1 : read(fd, buf_reserve(&b, 4096), 4096);

		if (n > 0)
			buf_commit(&b, (size_t)n);
	}
	if (!b.len)
		return xstrdup("?");
	slash = strrchr(b.p, '/');
	p = slash ? slash + 1 : b.p;
	for (; p < b.p + b.len && line.len < COMMAND_MAX; p++)
		buf_addc(&line, *p == '\0' ? ' ' : (unsigned char)*p < ' ' || *p == 0x7f ? '?' : *p);
	while (line.len && line.p[line.len - 1] == ' ')
		buf_truncate(&line, line.len - 1);
	if (p < b.p + b.len)
		buf_adds(&line, "…");
	return buf_take(&line);
}

void lock_describe(int fd)
{
	_cleanup_free_ char *command = own_command();
	_cleanup_free_ char *text = xasprintf("%d %s\n", (int)getpid(), command);

	/* Only for people to read: a full disk must not keep anybody from locking. */
	if (ftruncate(fd, 0) == 0)
		(void)pwrite_full(fd, text, strlen(text), 0);
}

/* "pid 123 (skerry stop web)", or "another process". What stands in the file is shown, never trusted. */
static char *holder(int fd)
{
	char text[HOLDER_MAX + 1];
	ssize_t n = pread(fd, text, HOLDER_MAX, 0);
	size_t digits;

	text[n > 0 ? n : 0] = '\0';
	text[strcspn(text, "\n")] = '\0';
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < ' ' || *p == 0x7f)
			*p = '?';
	digits = strspn(text, "0123456789");
	if (!digits || text[digits] != ' ')
		return xstrdup("another process");
	return xasprintf("pid %.*s (%s)", (int)digits, text, text + digits + 1);
}

static int busy(int fd, const char *what, struct error *err)
{
	_cleanup_free_ char *by = holder(fd);

	error_set(err, EBUSY, "%s is in use by %s", what, by);
	error_hint(err, "try again, or wait with --lock-wait where the command has it");
	return -EBUSY;
}

/* The name may have been removed, or given to another file, while we waited for the old one. */
static bool still_there(int dirfd, const char *name, int fd)
{
	struct stat ours, named;

	return fstat(fd, &ours) == 0 && fstatat(dirfd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_dev == named.st_dev && ours.st_ino == named.st_ino;
}

static int wait_for(int fd, const char *what, uint64_t deadline_ns, struct error *err)
{
	int pause_ms = 1;

	for (;;) {
		int r, left_ms;

		r = flock(fd, deadline_ns == UINT64_MAX ? LOCK_EX : LOCK_EX | LOCK_NB);
		if (r == 0)
			return 0;
		if (errno == EINTR)
			continue;
		if (errno != EWOULDBLOCK)
			return error_set_errno(err, errno, "%s: cannot lock", what);
		left_ms = clock_poll_timeout(deadline_ns);
		if (left_ms == 0)
			return busy(fd, what, err);
		(void)poll(NULL, 0, pause_ms < left_ms ? pause_ms : left_ms); /* lint: flock(2) has no deadline */
		pause_ms = pause_ms < 25 ? pause_ms * 2 : 50;
	}
}

int lock_acquire(int dirfd, const char *name, const char *what, uint64_t wait_ns, struct error *err)
{
	uint64_t deadline_ns = 0;

	if (wait_ns && __builtin_add_overflow(clock_monotonic_ns(), wait_ns, &deadline_ns))
		deadline_ns = UINT64_MAX;
	for (;;) {
		_cleanup_close_ int fd =
			openat(dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
		int r;

		if (fd < 0)
			return error_set_errno(err, errno, "%s: cannot open its lock", what);
		r = wait_for(fd, what, deadline_ns, err);
		if (r < 0)
			return r;
		if (!still_there(dirfd, name, fd))
			continue;
		lock_describe(fd);
		return TAKE_FD(fd);
	}
}
