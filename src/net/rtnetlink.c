#include "net/rtnetlink.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>

#include "base/fdpass.h"
#include "base/memory.h"

enum {
	ANSWER_BYTES = 64 << 10, /* the kernel makes no datagram of a dump longer than 32 KiB */
	DUMP_BYTES_MAX = 16 << 20,
	DUMP_TRIES = 16,
	ANSWER_SECONDS = 10, /* it answers within the call; this is for a kernel that does not */
};

enum { NETLINK_FD, TUN_FD, FDS };

static const char *const what_fails[] = {
	"cannot enter the network namespace",
	"cannot talk to the kernel about the network",
	"cannot open /dev/net/tun",
};
enum step { STEP_ENTER, STEP_NETLINK, STEP_TUN };

/* System calls only: it runs in a child between fork and _exit too. */
static int open_here(int netns_fd, bool tun, int fds[FDS], enum step *step)
{
	*step = STEP_ENTER;
	if (netns_fd >= 0 && setns(netns_fd, CLONE_NEWNET) < 0)
		return -errno;
	*step = STEP_NETLINK;
	fds[NETLINK_FD] = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (fds[NETLINK_FD] < 0)
		return -errno;
	*step = STEP_TUN;
	if (tun) {
		/* The device belongs to the namespace that it is opened in. */
		fds[TUN_FD] = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
		if (fds[TUN_FD] < 0)
			return -errno;
	}
	return 0;
}

struct result {
	int num;
	enum step step;
};

static int open_inside(int netns_fd, bool tun, int fds[FDS], enum step *step)
{
	struct result result = { .num = EPIPE };
	size_t n_fds = 0;
	int pair[2], got[FDS];
	ssize_t n;
	pid_t pid;

	*step = STEP_ENTER;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return -errno;
	pid = fork();
	if (pid < 0) {
		int r = -errno;

		safe_close(pair[0]);
		safe_close(pair[1]);
		return r;
	}
	if (pid == 0) {
		result.num = -open_here(netns_fd, tun, fds, &result.step);
		n_fds = result.num ? 0 : tun ? 2 : 1;
		_exit(fdpass_send(pair[1], &result, sizeof(result), fds, n_fds) < 0);
	}
	safe_close(pair[1]);
	n = fdpass_recv(pair[0], &result, sizeof(result), got, FDS, &n_fds);
	safe_close(pair[0]);
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
	if (n < 0)
		return (int)n;
	if ((size_t)n != sizeof(result) || (!result.num && n_fds != (tun ? 2 : 1))) {
		for (size_t i = 0; i < n_fds; i++)
			safe_close(got[i]);
		return -EPIPE;
	}
	*step = result.step;
	for (size_t i = 0; i < n_fds; i++)
		fds[i] = got[i];
	return -result.num;
}

int rtnetlink_open(int netns_fd, struct rtnetlink *ret, int *ret_tun_fd, struct error *err)
{
	const struct timeval patience = { .tv_sec = ANSWER_SECONDS };
	const int on = 1;
	int fds[FDS] = { -EBADF, -EBADF };
	enum step step;
	int r = netns_fd >= 0 ? open_inside(netns_fd, ret_tun_fd, fds, &step) : open_here(-1, ret_tun_fd, fds, &step);

	if (r < 0) {
		safe_close(fds[NETLINK_FD]);
		if (step == STEP_TUN && (r == -ENOENT || r == -ENODEV || r == -ENXIO)) {
			error_set_kind(err, ERROR_UNAVAILABLE, -r, "%s: %s", what_fails[step], strerror(-r));
			error_hint(err, "load the module 'tun', or hand the device /dev/net/tun to the container");
			return r;
		}
		return error_set_errno(err, -r, "%s", what_fails[step]);
	}
	/* Both only make the kernel's refusals easier to understand, or a wait shorter. */
	(void)setsockopt(fds[NETLINK_FD], SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
	(void)setsockopt(fds[NETLINK_FD], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	*ret = (struct rtnetlink){ .fd = fds[NETLINK_FD] };
	if (ret_tun_fd)
		*ret_tun_fd = fds[TUN_FD];
	return 0;
}

void rtnetlink_close(struct rtnetlink *n)
{
	n->fd = safe_close(n->fd);
}

static int send_request(struct rtnetlink *n, struct netlink_request *q)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	int r = netlink_end(q, ++n->sequence);

	n->reason[0] = '\0';
	if (r < 0)
		return r;
	return sendto(n->fd, q->bytes, q->len, 0, (const struct sockaddr *)&kernel, sizeof(kernel)) < 0 ? -errno : 0;
}

/* One datagram of the kernel's. */
static ssize_t receive(struct rtnetlink *n, void *p)
{
	struct sockaddr_nl from = {};
	struct iovec iov = { .iov_base = p, .iov_len = ANSWER_BYTES };
	ssize_t len;

	for (;;) {
		struct msghdr m = { .msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1 };

		len = recvmsg(n->fd, &m, 0);
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (m.msg_namelen != sizeof(from) || from.nl_pid != 0)
			continue; /* some other process's */
		return m.msg_flags & MSG_TRUNC ? -EBADMSG : len;
	}
}

/* Takes in a datagram. Returns 1 when the answer is complete, 0 when there is more, or the kernel's -errno. */
static int take(struct rtnetlink *n, const void *p, size_t size, struct buf *out, bool *disturbed)
{
	struct cursor c = cursor_of(p, size);
	struct netlink_message m;

	while (netlink_next(&c, &m)) {
		if (m.sequence != n->sequence)
			continue;
		*disturbed = *disturbed || (m.flags & NLM_F_DUMP_INTR);
		if (m.type == NLMSG_ERROR || m.type == NLMSG_DONE) {
			int r = netlink_result(&m);

			netlink_reason(&m, n->reason, sizeof(n->reason));
			return r < 0 ? r : 1;
		}
		if (!out)
			continue;
		if (out->len + m.size > DUMP_BYTES_MAX)
			return -EFBIG;
		/* With its header, and what fills it up to the next one's. */
		buf_add(out, m.p - NLMSG_HDRLEN, NLMSG_HDRLEN + m.size);
		buf_add(out, (const char[NLMSG_ALIGNTO]){}, NLMSG_ALIGN(m.size) - m.size);
	}
	return c.failed ? -EBADMSG : 0;
}

static int converse(struct rtnetlink *n, struct netlink_request *q, struct buf *out, bool *disturbed)
{
	_cleanup_free_ uint8_t *answer = xcalloc(1, ANSWER_BYTES);
	int r = send_request(n, q);

	while (r == 0) {
		ssize_t len = receive(n, answer);

		r = len < 0 ? (int)len : take(n, answer, (size_t)len, out, disturbed);
	}
	return r < 0 ? r : 0;
}

int rtnetlink_do(struct rtnetlink *n, struct netlink_request *q)
{
	bool disturbed = false;

	return converse(n, q, NULL, &disturbed);
}

int rtnetlink_dump(struct rtnetlink *n, struct netlink_request *q, struct buf *out)
{
	size_t before = out->len;

	for (unsigned i = 0; i < DUMP_TRIES; i++) {
		bool disturbed = false;
		int r;

		buf_truncate(out, before);
		r = converse(n, q, out, &disturbed);
		if (r < 0 || !disturbed)
			return r;
	}
	return -EAGAIN;
}

int rtnetlink_refused(const struct rtnetlink *n, struct error *err, int num, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	if (n->reason[0])
		return error_set(err, num, "%s: %s", text, n->reason);
	return error_set_errno(err, num, "%s", text);
}
