/* How this works: when a guest refuses a connection, QEMU closes its end of the loopback connection, and when the guest ends its half, QEMU
 * shuts that half down. Both look the same from here, an end of file, but both ends are sockets of this network namespace, and sock_diag(7)
 * tells of the other one whether a program still holds it. It needs no capability; where the kernel lacks it, its answer about our own end,
 * which surely exists, is an error too. */
#include "docker/relay_parts.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <string.h>

#include "base/cleanup.h"

struct query {
	struct nlmsghdr header;
	struct inet_diag_req_v2 request;
};

/* 1 a program holds the socket from @from to @to, 0 it has none or there is no such socket. */
static int is_held(int diag, const struct sockaddr_in *from, const struct sockaddr_in *to)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };
	struct query q = {
		.header = { .nlmsg_len = sizeof(q), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST },
		.request = { .sdiag_family = AF_INET, .sdiag_protocol = IPPROTO_TCP, .idiag_states = UINT32_MAX },
	};
	union {
		struct nlmsghdr header;
		char bytes[4096];
	} answer;
	const struct inet_diag_msg *m;
	ssize_t n;

	q.request.id.idiag_sport = from->sin_port;
	q.request.id.idiag_dport = to->sin_port;
	q.request.id.idiag_src[0] = from->sin_addr.s_addr;
	q.request.id.idiag_dst[0] = to->sin_addr.s_addr;
	q.request.id.idiag_cookie[0] = q.request.id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
	if (sendto(diag, &q, sizeof(q), MSG_NOSIGNAL, (const struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	/* The kernel has answered before sendto() returns. */
	n = recv(diag, &answer, sizeof(answer), MSG_DONTWAIT);
	if (n < 0)
		return -errno;
	if ((size_t)n < NLMSG_HDRLEN || answer.header.nlmsg_len > (size_t)n)
		return -EPROTO;
	if (answer.header.nlmsg_type == NLMSG_ERROR) {
		const struct nlmsgerr *e = NLMSG_DATA(&answer.header);

		if (answer.header.nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
			return -EPROTO;
		return e->error == -ENOENT ? 0 : e->error < 0 ? e->error : -EPROTO;
	}
	if (answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY || answer.header.nlmsg_len < NLMSG_LENGTH(sizeof(*m)))
		return -EPROTO;
	m = NLMSG_DATA(&answer.header);
	return m->idiag_inode != 0;
}

int peer_has_gone(struct peer_diag *d, int fd)
{
	struct sockaddr_in here = {}, there = {};
	socklen_t len = sizeof(here);
	int r;

	if (d->unusable)
		return -EOPNOTSUPP;
	if (d->fd < 0)
		d->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (d->fd < 0 && errno == EMFILE)
		return -EMFILE;
	if (getsockname(fd, (struct sockaddr *)&here, &len) < 0)
		return -errno;
	len = sizeof(there);
	if (getpeername(fd, (struct sockaddr *)&there, &len) < 0)
		return errno == ENOTCONN ? 1 : -errno;
	if (d->fd < 0 || is_held(d->fd, &here, &there) != 1) {
		/* Reset meanwhile: then there was nothing to find. */
		if (getpeername(fd, (struct sockaddr *)&there, &len) < 0)
			return errno == ENOTCONN ? 1 : -errno;
		/* Each question to a kernel without it may start a program that looks for the module. */
		d->unusable = true;
		d->fd = safe_close(d->fd);
		return -EOPNOTSUPP;
	}
	r = is_held(d->fd, &there, &here);
	return r < 0 ? r : !r;
}

void peer_done(struct peer_diag *d)
{
	d->fd = safe_close(d->fd);
}
