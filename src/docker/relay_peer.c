/* How this works: when a guest refuses a connection, QEMU closes its end of the loopback connection, and when the guest ends its half, QEMU
 * shuts that half down. Both look the same from here, an end of file, but both ends are sockets of this network namespace, and sock_diag(7)
 * tells of the other one whether a program still holds it. It needs no capability; where the kernel lacks it, its answer about our own end,
 * which surely exists, is an error too.
 *
 * It also tells whether there is another end yet. A listener with no room drops the last step of a handshake, or answers by a cookie and keeps
 * nothing, and this end is connected all the same; the other would come to be with the first byte sent, which a client that waits to be
 * spoken to never sends. */
#include "docker/relay_parts.h"

#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <string.h>

#include "base/cleanup.h"

struct query {
	struct nlmsghdr header;
	struct inet_diag_req_v2 request;
};

/* 1 and what the kernel says about the socket from @from to @to, 0 there is none. */
static int look_up(int diag, const struct sockaddr_in *from, const struct sockaddr_in *to, struct inet_diag_msg *ret)
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
	if (answer.header.nlmsg_type != SOCK_DIAG_BY_FAMILY || answer.header.nlmsg_len < NLMSG_LENGTH(sizeof(*ret)))
		return -EPROTO;
	*ret = *(const struct inet_diag_msg *)NLMSG_DATA(&answer.header);
	return 1;
}

/* 1 and what the kernel says about the other end of @fd, 0 there is none, -ENOTCONN @fd was reset, -EOPNOTSUPP it cannot be asked. */
static int look_across(struct peer_diag *d, int fd, struct inet_diag_msg *ret)
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
		return -errno;
	if (d->fd < 0 || look_up(d->fd, &here, &there, ret) != 1 || !ret->idiag_inode) {
		/* Reset meanwhile: then there was nothing to find. */
		if (getpeername(fd, (struct sockaddr *)&there, &len) < 0)
			return -errno;
		/* Each question to a kernel without it may start a program that looks for the module. */
		d->unusable = true;
		d->fd = safe_close(d->fd);
		return -EOPNOTSUPP;
	}
	r = look_up(d->fd, &there, &here, ret);
	/* Where there is no connection, the kernel tells of the socket that would take one. */
	return r == 1 && ret->idiag_state == TCP_LISTEN ? 0 : r;
}

int peer_has_gone(struct peer_diag *d, int fd)
{
	struct inet_diag_msg m;
	int r = look_across(d, fd, &m);

	if (r == -ENOTCONN)
		return 1;
	return r < 0 ? r : r == 0 || m.idiag_inode == 0;
}

int peer_has_come(struct peer_diag *d, int fd)
{
	struct inet_diag_msg m;
	int r = look_across(d, fd, &m);

	if (r == -ENOTCONN)
		return 0;
	return r < 0 ? r : r == 1 && m.idiag_state != TCP_SYN_RECV;
}

void peer_done(struct peer_diag *d)
{
	d->fd = safe_close(d->fd);
}
