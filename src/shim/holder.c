#include "shim/holder.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/process.h"

struct outcome {
	int step;
	int num;
};

/* Only system calls from here on: the shim's memory is shared copy on write, and nothing of it shall be copied. */
static _noreturn_ void hold(int netns_fd, bool own_net, int root_fd, int report, pid_t parent)
{
	struct outcome o = {};
	sigset_t all;

	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, NULL);
	if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) < 0)
		o = (struct outcome){ 1, errno };
	else if (own_net && unshare(CLONE_NEWNET) < 0)
		o = (struct outcome){ 2, errno };
	else if (root_fd >= 0 && (fchdir(root_fd) < 0 || chroot(".") < 0))
		o = (struct outcome){ 3, errno };
	else if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_NAME, HOLDER_NAME) < 0)
		o = (struct outcome){ 4, errno };
	(void)write_full(report, &o, sizeof(o));
	if (o.num || getppid() != parent)
		_exit(1);
	/* Nothing of the shim's stays open in it: sockets and FIFOs would never be seen to end. */
	(void)syscall(SYS_close_range, 0, ~0U, 0);
	for (;;)
		(void)pause();
}

static const char *const steps[] = { "", "cannot enter the network namespace", "cannot make a network namespace",
				     "cannot enter the root file system", "cannot be prepared" };

int holder_start(const char *netns, bool host_net, int root_fd, struct holder *ret, struct error *err)
{
	_cleanup_close_ int netns_fd = -EBADF, from = -EBADF, to = -EBADF;
	_cleanup_free_ char *link = NULL;
	pid_t self = getpid();
	struct outcome o;
	int pair[2], r;

	*ret = (struct holder){ .pidfd = -EBADF, .netns = -EBADF };
	if (netns) {
		netns_fd = open(netns, O_RDONLY | O_CLOEXEC);
		if (netns_fd < 0)
			return error_set_errno(err, errno, "network namespace %s: cannot open", netns);
	}
	if (pipe2(pair, O_CLOEXEC) < 0)
		return error_set_errno(err, errno, "cannot make a pipe");
	from = pair[0];
	to = pair[1];
	ret->pid = fork();
	if (ret->pid < 0)
		return error_set_errno(err, errno, "cannot make a process");
	if (ret->pid == 0)
		hold(netns_fd, !netns && !host_net, root_fd, to, self);
	to = safe_close(to);
	r = read_full(from, &o, sizeof(o));
	ret->pidfd = (int)syscall(SYS_pidfd_open, ret->pid, 0);
	if (r < 0 || o.num || ret->pidfd < 0) {
		r = r < 0 ? r : o.num ? o.num : errno;
		holder_end(ret);
		return error_set_errno(err, r, "container: %s",
				       o.num ? steps[o.step] : "its process cannot be watched");
	}
	link = xasprintf("/proc/%d/ns/net", (int)ret->pid);
	ret->netns = open(link, O_RDONLY | O_CLOEXEC);
	if (ret->netns < 0) {
		r = errno;
		holder_end(ret);
		return error_set_errno(err, r, "%s: cannot open", link);
	}
	return 0;
}

void holder_end(struct holder *h)
{
	if (h->pid > 0) {
		(void)kill(h->pid, SIGKILL);
		(void)waitpid(h->pid, NULL, 0);
	}
	h->pid = 0;
	h->pidfd = safe_close(h->pidfd);
	h->netns = safe_close(h->netns);
}
