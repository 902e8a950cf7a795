#include "machine/vsock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost.h>
#include <linux/vm_sockets.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/memory.h"

enum { BACKLOG = 4, PRIVILEGED_PORTS = 1024 };
/* Below it are ports that other programs are likely to have, and CIDs that people give by hand. */
#define FIRST_CID UINT32_C(0x10000)
#define CID_SPAN  UINT32_C(0x7fff0000)

struct vsock_listener {
	int fd;
	uint32_t cid;
	struct loop_source *source;
	void (*connected)(int fd, void *data);
	void *data;
};

static int open_vhost(void)
{
	int fd = open("/dev/vhost-vsock", O_RDWR | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

bool vsock_usable(const char **ret_why)
{
	_cleanup_close_ int vhost = open_vhost(), listening = -EBADF;
	const char *why = NULL;
	uint64_t features;

	if (vhost < 0)
		why = vhost == -EACCES   ? "/dev/vhost-vsock: Permission denied (join group 'kvm')"
		      : vhost == -ENOENT ? "/dev/vhost-vsock: not there (the kernel module vhost_vsock is not loaded)"
					 : "/dev/vhost-vsock cannot be opened";
	else if (ioctl(vhost, VHOST_GET_FEATURES, &features) < 0)
		why = "/dev/vhost-vsock does not answer";
	else if ((listening = vsock_listen(VMADDR_PORT_ANY)) < 0)
		why = "nothing can listen on vsock at the host's own address";
	if (ret_why)
		*ret_why = why;
	return !why;
}

uint32_t vsock_candidate(const char *machine_id, unsigned n)
{
	uint32_t h = 2166136261u; /* FNV-1a */

	for (const char *p = machine_id; *p; p++)
		h = (h ^ (uint8_t)*p) * 16777619u;
	/* An odd step goes through all of a power of two, and through nearly all of this. */
	return FIRST_CID + (h + n * 0x9e3779b1u) % CID_SPAN;
}

int vsock_take(uint32_t cid)
{
	_cleanup_close_ int fd = open_vhost();
	uint64_t wide = cid;

	if (fd < 0)
		return fd;
	if (ioctl(fd, VHOST_VSOCK_SET_GUEST_CID, &wide) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int vsock_listen(uint32_t port)
{
	_cleanup_close_ int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = port };

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, BACKLOG) < 0)
		return -errno;
	return TAKE_FD(fd);
}

bool vsock_is_agent(const struct sockaddr_vm *peer, uint32_t cid)
{
	return peer->svm_family == AF_VSOCK && peer->svm_cid == cid && peer->svm_port < PRIVILEGED_PORTS;
}

static int on_call(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct vsock_listener *v = data;
	struct sockaddr_vm peer = {};
	socklen_t len = sizeof(peer);
	_cleanup_close_ int conn = accept4(fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);

	(void)s;
	(void)events;
	if (conn < 0)
		return 0;
	if (len < sizeof(peer) || !vsock_is_agent(&peer, v->cid)) {
		log_debug("vsock: CID %u, port %u is not the agent", peer.svm_cid, peer.svm_port);
		return 0;
	}
	v->connected(TAKE_FD(conn), v->data);
	return 0;
}

int vsock_listener_new(struct loop *l, int listen_fd, uint32_t cid, void (*connected)(int fd, void *data), void *data,
		       struct vsock_listener **ret)
{
	struct vsock_listener *v = xnew(struct vsock_listener);
	int r;

	*v = (struct vsock_listener){ .fd = listen_fd, .cid = cid, .connected = connected, .data = data };
	r = loop_add_fd(l, &v->source, listen_fd, EPOLLIN, on_call, v);
	if (r < 0) {
		vsock_listener_free(v);
		return r;
	}
	*ret = v;
	return 0;
}

struct vsock_listener *vsock_listener_free(struct vsock_listener *v)
{
	if (!v)
		return NULL;
	loop_source_free(v->source);
	safe_close(v->fd);
	free(v);
	return NULL;
}
