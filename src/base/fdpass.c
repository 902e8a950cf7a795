#include "base/fdpass.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/cleanup.h"

union control {
	struct cmsghdr header; /* for its alignment */
	char bytes[CMSG_SPACE(sizeof(int) * FDPASS_MAX)];
};

ssize_t fdpass_send(int sock, const void *p, size_t n, const int *fds, size_t n_fds)
{
	union control control = {};
	struct iovec iov = { .iov_len = n };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (n_fds > FDPASS_MAX || (n_fds && !n))
		return -EINVAL;
	/* sendmsg(2) does not write there, its type only cannot say so. */
	memcpy(&iov.iov_base, &p, sizeof(p));
	if (n_fds) {
		struct cmsghdr *c;

		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	do {
		sent = sendmsg(sock, &m, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : sent;
}

ssize_t fdpass_recv(int sock, void *p, size_t n, int *fds, size_t max_fds, size_t *ret_n_fds)
{
	union control control;
	struct iovec iov = { .iov_base = p, .iov_len = n };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	int got[FDPASS_MAX];
	size_t n_got = 0;
	ssize_t received;

	*ret_n_fds = 0;
	do {
		received = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	} while (received < 0 && errno == EINTR);
	if (received < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		size_t k;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		k = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < k; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (n_got < FDPASS_MAX)
				got[n_got++] = fd;
			else
				safe_close(fd);
		}
	}
	/* MSG_CTRUNC: the kernel has dropped what did not fit into the control buffer. */
	if (n_got > max_fds || (m.msg_flags & MSG_CTRUNC)) {
		for (size_t i = 0; i < n_got; i++)
			safe_close(got[i]);
		return -EMSGSIZE;
	}
	if (n_got)
		memcpy(fds, got, n_got * sizeof(int));
	*ret_n_fds = n_got;
	return received;
}
