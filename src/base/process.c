#include "base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/parse.h"

/* <sys/pidfd.h> and the newer idtype_t member do not exist everywhere. */
enum { IDTYPE_PIDFD = 3 };
/* Fields of proc_pid_stat(5), and a bit of the flags that the kernel has had there for ever. */
enum { STAT_FLAGS = 9, STAT_START = 22, FLAG_EXITING = 4 };

/* A number from /proc/PID/stat. The command, in parentheses, may hold anything, also ") Z 1 2"; the last ')' ends it. */
static int read_stat(pid_t pid, int wanted, uint64_t *ret)
{
	_cleanup_buf_ struct buf b = {};
	char path[32], *p, *end;
	int r;

	if (pid <= 0)
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	r = file_read_at(AT_FDCWD, path, 4096, &b);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	p = b.p ? strrchr(b.p, ')') : NULL;
	if (!p || p[1] != ' ' || !p[2])
		return -ESRCH;
	p += 2;
	/* The state is field 3. */
	for (int field = 3; field < wanted; field++) {
		p = strchr(p, ' ');
		if (!p)
			return -EBADMSG;
		p++;
	}
	end = strchr(p, ' ');
	if (!end)
		return -EBADMSG;
	*end = '\0';
	return parse_u64(p, 0, UINT64_MAX, ret) < 0 ? -EBADMSG : 0;
}

int process_identify(pid_t pid, struct process_id *ret)
{
	uint64_t start;
	int r = read_stat(pid, STAT_START, &start);

	if (r < 0)
		return r;
	*ret = (struct process_id){ .pid = pid, .start_time = start };
	return 0;
}

int process_open(const struct process_id *id)
{
	_cleanup_close_ int fd = -EBADF;
	struct pollfd ended = { .events = POLLIN };
	uint64_t start;
	int r;

	if (id->pid <= 0)
		return -ESRCH;
	/* The descriptor first: should the pid be given to another process in between, its start time is not the one looked for. */
	fd = (int)syscall(SYS_pidfd_open, id->pid, 0);
	if (fd < 0)
		return -errno;
	r = read_stat(id->pid, STAT_START, &start);
	if (r < 0)
		return r;
	/* A zombie that nobody reaps, as under a container's careless PID 1, is gone. One whose other threads are ending yet has its files and locks. */
	ended.fd = fd;
	if (start != id->start_time || poll(&ended, 1, 0) > 0)
		return -ESRCH;
	return TAKE_FD(fd);
}

bool process_alive(const struct process_id *id)
{
	_cleanup_close_ int fd = process_open(id);

	return fd >= 0;
}

bool process_ending(const struct process_id *id)
{
	uint64_t start, flags;

	return read_stat(id->pid, STAT_START, &start) < 0 || start != id->start_time ||
	       read_stat(id->pid, STAT_FLAGS, &flags) < 0 || (flags & FLAG_EXITING);
}

int pidfd_kill(int pidfd, int sig)
{
	return syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

int pidfd_wait_exit(int pidfd, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	for (;;) {
		int timeout_ms = clock_poll_timeout(deadline_ns), n = poll(&p, 1, timeout_ms);

		if (n > 0)
			return p.revents & POLLNVAL ? -EBADF : 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (n == 0 && clock_poll_timeout(deadline_ns) == 0)
			return -ETIMEDOUT;
	}
}

int pidfd_reap(int pidfd, int *ret_status)
{
	siginfo_t si = {};
	int status;

	while (waitid((idtype_t)IDTYPE_PIDFD, (id_t)pidfd, &si, WEXITED | WNOHANG) < 0)
		if (errno != EINTR)
			return -errno;
	if (si.si_pid == 0)
		return -EAGAIN;
	switch (si.si_code) {
	case CLD_EXITED: status = (si.si_status & 0xff) << 8; break;
	case CLD_DUMPED: status = si.si_status | 0x80; break;
	default: status = si.si_status; break;
	}
	if (ret_status)
		*ret_status = status;
	return 0;
}

const char *boot_id(void)
{
	static char id[37]; /* constant once read */
	_cleanup_buf_ struct buf b = {};

	if (!id[0] && file_read_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &b) == 0 && b.len >= 36)
		memcpy(id, b.p, 36);
	return id;
}

const char *wait_status_text(int status, char *out, unsigned n)
{
	static const char *const names[] = {
		[SIGHUP] = "HUP",   [SIGINT] = "INT",   [SIGQUIT] = "QUIT", [SIGILL] = "ILL",   [SIGTRAP] = "TRAP",
		[SIGABRT] = "ABRT", [SIGBUS] = "BUS",   [SIGFPE] = "FPE",   [SIGKILL] = "KILL", [SIGUSR1] = "USR1",
		[SIGSEGV] = "SEGV", [SIGUSR2] = "USR2", [SIGPIPE] = "PIPE", [SIGALRM] = "ALRM", [SIGTERM] = "TERM",
		[SIGXCPU] = "XCPU", [SIGXFSZ] = "XFSZ", [SIGSYS] = "SYS",
	};

	if (WIFEXITED(status)) {
		snprintf(out, n, "exited with status %d", WEXITSTATUS(status));
	} else if (WIFSIGNALED(status)) {
		size_t sig = (size_t)WTERMSIG(status);
		const char *name = sig < ARRAY_SIZE(names) ? names[sig] : NULL;

		if (name)
			snprintf(out, n, "killed by signal %zu (%s)", sig, name);
		else
			snprintf(out, n, "killed by signal %zu", sig);
	} else {
		snprintf(out, n, "ended with unknown status %d", status);
	}
	return out;
}

static uint64_t rollup_bytes(const char *text, const char *key)
{
	const char *p = text;
	size_t n = strlen(key);
	uint64_t kib;

	/* Keys stand at the beginning of a line: "Private_Dirty:      132 kB". */
	while (p && (strncmp(p, key, n) != 0 || p[n] != ':')) {
		p = strchr(p, '\n');
		p = p ? p + 1 : NULL;
	}
	if (!p)
		return 0;
	p += n + 1;
	p += strspn(p, " ");
	{
		_cleanup_free_ char *number = xstrndup(p, strspn(p, "0123456789"));

		return parse_u64(number, 0, UINT64_MAX / 1024, &kib) < 0 ? 0 : kib * 1024;
	}
}

bool signal_ignored(int sig)
{
	struct sigaction now;

	return sigaction(sig, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

int process_memory(pid_t pid, uint64_t *ret_private_bytes, uint64_t *ret_pss_bytes, uint64_t *ret_rss_bytes)
{
	_cleanup_buf_ struct buf b = {};
	char path[48];
	int r;

	if (pid <= 0)
		return -ESRCH;
	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	r = file_read_at(AT_FDCWD, path, 64 * 1024, &b);
	if (r < 0)
		return r == -ENOENT ? -ESRCH : r;
	if (!b.len)
		return -ESRCH;
	if (ret_private_bytes)
		*ret_private_bytes = rollup_bytes(b.p, "Private_Clean") + rollup_bytes(b.p, "Private_Dirty");
	if (ret_pss_bytes)
		*ret_pss_bytes = rollup_bytes(b.p, "Pss");
	if (ret_rss_bytes)
		*ret_rss_bytes = rollup_bytes(b.p, "Rss");
	return 0;
}
