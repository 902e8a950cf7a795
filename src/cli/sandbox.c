/* Stages of the child: tied to its parent -> every other descriptor closed -> limits -> no new privileges -> system calls filtered -> work. */
#include "cli/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "confine/calls.h"

enum { REPORT_MAX = 8192, FDS_MAX = 8, CPU_SECONDS_MAX = 3600 };
#define ADDRESS_SPACE_MAX (UINT64_C(4) << 30)

struct report {
	int32_t num;
	uint32_t kind;
	uint32_t message_len, hint_len;
};

static void send_report(int fd, int r, const struct error *err)
{
	struct report head = { .num = r < 0 ? -r : 0, .kind = (uint32_t)err->kind };
	_cleanup_buf_ struct buf b = {};

	if (r < 0 && err->msg)
		head.message_len = (uint32_t)strnlen(err->msg, REPORT_MAX / 2);
	if (r < 0 && err->hint)
		head.hint_len = (uint32_t)strnlen(err->hint, REPORT_MAX / 4);
	buf_add(&b, &head, sizeof(head));
	if (head.message_len)
		buf_add(&b, err->msg, head.message_len);
	if (head.hint_len)
		buf_add(&b, err->hint, head.hint_len);
	(void)write_full(fd, b.p, b.len);
}

/* Keeps standard error, so that a sanitizer's words are seen. */
static int close_others(const int *keep, size_t n)
{
	int sorted[FDS_MAX + 3];
	unsigned from = 0;

	memcpy(sorted, keep, n * sizeof(*keep));
	sorted[n++] = STDERR_FILENO;
	for (size_t i = 1; i < n; i++)
		for (size_t k = i; k > 0 && sorted[k] < sorted[k - 1]; k--) {
			int swap = sorted[k];

			sorted[k] = sorted[k - 1];
			sorted[k - 1] = swap;
		}
	for (size_t i = 0; i < n; i++) {
		if (sorted[i] < 0)
			continue;
		if ((unsigned)sorted[i] > from && syscall(SYS_close_range, from, (unsigned)sorted[i] - 1, 0U) < 0)
			return -errno;
		from = (unsigned)sorted[i] + 1;
	}
	return syscall(SYS_close_range, from, ~0U, 0U) < 0 ? -errno : 0;
}

static int set_limits(void)
{
	static const struct {
		__rlimit_resource_t what;
		rlim_t value;
	} limits[] = {
		{ RLIMIT_CORE, 0 },
		{ RLIMIT_FSIZE, 0 },
		{ RLIMIT_NPROC, 0 },
		{ RLIMIT_CPU, CPU_SECONDS_MAX },
#ifndef __SANITIZE_ADDRESS__
		{ RLIMIT_AS, ADDRESS_SPACE_MAX },
#endif
	};

	for (size_t i = 0; i < ARRAY_SIZE(limits); i++)
		if (setrlimit(limits[i].what, &(struct rlimit){ limits[i].value, limits[i].value }) < 0)
			return -errno;
	return 0;
}

static _noreturn_ void child_main(pid_t parent, int out_fd, int report_fd, const int *fds, size_t n_fds,
				  int (*fn)(int out_fd, void *data, struct error *err), void *data)
{
	_cleanup_error_ struct error err = {};
	static const int more[] = { SCMP_SYS(pread64) };
	int keep[FDS_MAX + 2], r = 0;

	for (size_t i = 0; i < n_fds; i++)
		keep[i] = fds[i];
	keep[n_fds] = out_fd;
	keep[n_fds + 1] = report_fd;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(1);
	(void)signal(SIGPIPE, SIG_DFL);
	r = close_others(keep, n_fds + 2);
	if (r >= 0)
		r = set_limits();
	if (r >= 0)
		r = confine_calls(more, ARRAY_SIZE(more));
	if (r < 0)
		(void)error_set_errno(&err, r, "cannot confine the reader of a disk");
	else
		r = fn(out_fd, data, &err);
	send_report(report_fd, r, &err);
	_exit(0);
}

int sandbox_start(struct sandbox *ret, const int *fds, size_t n_fds,
		  int (*fn)(int out_fd, void *data, struct error *err), void *data, struct error *err)
{
	pid_t parent = getpid(), pid;
	int out[2], report[2];

	if (n_fds > FDS_MAX)
		return error_set(err, EINVAL, "too many descriptors for a confined child");
	if (pipe2(out, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot open a pipe");
	if (pipe2(report, O_CLOEXEC) < 0) {
		safe_close(out[0]);
		safe_close(out[1]);
		return error_set_errno(err, errno, "cannot open a pipe");
	}
	pid = fork();
	if (pid == 0)
		child_main(parent, out[1], report[1], fds, n_fds, fn, data);
	safe_close(out[1]);
	safe_close(report[1]);
	if (pid < 0) {
		safe_close(out[0]);
		safe_close(report[0]);
		return error_set_errno(err, errno, "cannot start a process");
	}
	*ret = (struct sandbox){ .pid = pid, .out_fd = out[0], .report_fd = report[0] };
	return 0;
}

static int reap(struct sandbox *s)
{
	int status = 0;

	while (waitpid(s->pid, &status, 0) < 0 && errno == EINTR)
		;
	s->pid = 0;
	return status;
}

/* Text from a child that may have been taken over: nothing that drives a terminal. */
static char *clean_text(const uint8_t *p, size_t n)
{
	char *s = xstrndup((const char *)p, n);

	for (char *c = s; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = '?';
	return s;
}

static int take_report(const struct buf *b, struct error *err)
{
	_cleanup_free_ char *message = NULL, *hint = NULL;
	struct report head;

	if (b->len < sizeof(head))
		return -ENODATA;
	memcpy(&head, b->p, sizeof(head));
	if (head.num == 0)
		return 0;
	if (head.num < 0 || head.num > 4095 || head.kind >= ERROR_KIND_MAX || head.message_len > b->len ||
	    head.hint_len > b->len || sizeof(head) + head.message_len + head.hint_len != b->len)
		return -ENODATA;
	message = clean_text((const uint8_t *)b->p + sizeof(head), head.message_len);
	hint = clean_text((const uint8_t *)b->p + sizeof(head) + head.message_len, head.hint_len);
	(void)error_set_kind(err, (enum error_kind)head.kind, head.num, "%s", *message ? message : "it failed");
	if (*hint)
		(void)error_hint(err, "%s", hint);
	return -head.num;
}

int sandbox_finish(struct sandbox *s, const char *what, struct error *err)
{
	_cleanup_buf_ struct buf b = {};
	int r = file_read_fd(s->report_fd, REPORT_MAX, &b), status = reap(s);

	if (r >= 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		r = take_report(&b, err);
		if (r != -ENODATA)
			return r;
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGXCPU)
		return error_set(err, EBADMSG, "%s: reading it takes longer than an hour", what);
	return error_set(err, EBADMSG, "%s: what reads it has crashed: it must be damaged", what);
}

void sandbox_done(struct sandbox *s)
{
	s->out_fd = safe_close(s->out_fd);
	s->report_fd = safe_close(s->report_fd);
	if (s->pid > 0) {
		(void)kill(s->pid, SIGKILL);
		(void)reap(s);
	}
}
