#include "guest/link.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "guest/uevent.h"
#include "wire/message.h"

enum {
	READ_BYTES = 64 << 10,
	READS_PER_TURN = 16,   /* then others have a turn */
	BACKLOG_MAX = 8 << 20, /* no more requests are read while more than this waits to be written */
	BIND_TRIES = 16,
	BUFFER_KEEP = 1 << 20, /* a buffer that grew beyond is given back when empty */
};
static const uint64_t retry_first_ns = 10 * NS_PER_MS;
static const uint64_t retry_last_ns = NS_PER_SEC;

struct link {
	struct loop *loop;
	int fd;
	struct loop_source *source;
	struct loop_source *timer; /* dial or look again, or go on reading */
	int uevents;               /* netlink socket while the port is looked for */
	struct loop_source *uevents_source;
	bool is_plain;
	uint32_t vsock_port;
	bool connecting;
	uint64_t retry_ns;

	bool has_token;
	uint8_t token[SYNC_TOKEN_SIZE];
	struct sync_search search;
	bool deaf;   /* nothing is believed before a sync */
	bool paused; /* too much waits to be written */

	struct buf in;
	struct buf out;
	size_t out_at; /* written so far */

	link_request_fn on_request;
	link_reset_fn on_reset;
	void *data;
};

static int link_open(struct link *k);
static int pump(struct link *k);

/* ---- Writing ---- */

static size_t backlog(const struct link *k)
{
	return k->out.len - k->out_at;
}

static void drop_output(struct link *k)
{
	k->out_at = 0;
	buf_truncate(&k->out, 0);
	if (k->out.cap > BUFFER_KEEP)
		buf_done(&k->out);
}

static void write_out(struct link *k)
{
	while (k->fd >= 0 && !k->connecting && backlog(k) > 0) {
		ssize_t n = write(k->fd, k->out.p + k->out_at, backlog(k));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return; /* EAGAIN: an event comes. Other errors: the reading side sees the end as well. */
		k->out_at += (size_t)n;
	}
	if (backlog(k) == 0)
		drop_output(k);
}

void link_reply(struct link *k, uint32_t stream_id, const struct ProtobufCMessage *m)
{
	_cleanup_buf_ struct buf payload = { 0 };

	if (m)
		message_pack(&payload, m);
	if (ttrpc_response_encode(&k->out, stream_id, TTRPC_OK, NULL, payload.p, payload.len) < 0)
		link_error(k, stream_id, EMSGSIZE, "response is too long");
	else
		write_out(k);
}

void link_error(struct link *k, uint32_t stream_id, int num, const char *fmt, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	(void)ttrpc_response_encode(&k->out, stream_id, ttrpc_code_from_errno(num), text, NULL, 0);
	write_out(k);
}

void link_flush(struct link *k, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = { .fd = k->fd, .events = POLLOUT };

		write_out(k);
		if (k->fd < 0 || backlog(k) == 0)
			return;
		if (poll(&p, 1, clock_poll_timeout(deadline_ns)) <= 0 || !(p.revents & POLLOUT))
			return;
	}
}

/* ---- Reading ---- */

static void forget(struct link *k)
{
	buf_done(&k->in);
	drop_output(k);
	k->on_reset(k->data);
}

/* Hands out the whole frames of the buffer; one that is none makes everything up to the next sync worthless. */
static void take_frames(struct link *k)
{
	struct buf rest = k->in;
	int r = 0;

	k->paused = false;
	for (;;) {
		struct ttrpc_request req;
		struct ttrpc_frame f;
		size_t used;

		if (backlog(k) > BACKLOG_MAX) {
			k->paused = true;
			break;
		}
		r = ttrpc_decode(&rest, &f, &used);
		if (r <= 0)
			break;
		if (ttrpc_request_decode(&f, &req) == 0) {
			k->on_request(f.stream_id, &req, k->data);
			ttrpc_request_done(&req);
		} else {
			link_error(k, f.stream_id, EINVAL, "not a request");
		}
		rest.p += used;
		rest.len -= used;
	}
	if (r < 0) {
		buf_done(&k->in);
		k->deaf = k->has_token;
		log_debug("the host sent no frame: %s", strerror(-r));
		return;
	}
	buf_consume(&k->in, k->in.len - rest.len);
	if (k->in.len == 0 && k->in.cap > BUFFER_KEEP)
		buf_done(&k->in);
}

static void take_bytes(struct link *k, const uint8_t *p, size_t n)
{
	uint8_t nonce[SYNC_NONCE_SIZE];
	size_t end;

	if (k->has_token && sync_search(&k->search, k->token, p, n, nonce, &end)) {
		forget(k);
		k->deaf = false;
		sync_encode(&k->out, k->token, nonce);
		p += end;
		n -= end;
	}
	if (k->deaf)
		return;
	buf_add(&k->in, p, n);
	take_frames(k);
}

/* The other end is gone. On a port that may be for now only. */
static int lose(struct link *k)
{
	if (!k->is_plain && !k->vsock_port)
		return 0;
	k->source = loop_source_free(k->source);
	k->fd = safe_close(k->fd);
	forget(k);
	k->search = (struct sync_search){ 0 };
	k->deaf = !k->is_plain;
	if (k->is_plain) {
		loop_exit(k->loop, 0);
		return 0;
	}
	(void)loop_set_deadline(k->timer, clock_monotonic_ns() + k->retry_ns);
	k->retry_ns = k->retry_ns * 2 < retry_last_ns ? k->retry_ns * 2 : retry_last_ns;
	return 0;
}

static int pump(struct link *k)
{
	uint8_t *chunk = xcalloc(1, READ_BYTES);
	int turns = 0, r = 0;

	if (k->paused)
		take_frames(k);
	while (k->fd >= 0 && !k->paused) {
		ssize_t n;

		if (turns++ == READS_PER_TURN) {
			(void)loop_set_deadline(k->timer, clock_monotonic_ns());
			break;
		}
		n = read(k->fd, chunk, READ_BYTES);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			r = lose(k);
			break;
		}
		k->retry_ns = retry_first_ns;
		take_bytes(k, chunk, (size_t)n);
		write_out(k);
	}
	free(chunk);
	return r;
}

static int on_event(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct link *k = data;

	(void)s;
	if (k->connecting) {
		int num = 0;
		socklen_t n = sizeof(num);

		if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
			return 0;
		k->connecting = false;
		if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &num, &n) < 0 || num != 0)
			return lose(k);
	}
	write_out(k);
	return pump(k);
}

static int on_timer(struct loop_source *s, void *data)
{
	struct link *k = data;

	(void)s;
	return k->fd >= 0 ? pump(k) : link_open(k);
}

/* ---- Finding the host ---- */

static int watch(struct link *k)
{
	k->uevents_source = loop_source_free(k->uevents_source);
	k->uevents = safe_close(k->uevents);
	return loop_add_fd(k->loop, &k->source, k->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, on_event, k);
}

/* From a port that takes privilege: so the host knows the agent from any other process of the guest. One chosen anew each time: the host may
 * not have heard yet that an earlier connection has ended. */
static int bind_privileged(int fd)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY };
	uint16_t random;

	for (int i = 0; i < BIND_TRIES; i++) {
		if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
			return -EIO;
		a.svm_port = 1 + random % 1023;
		if (bind(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return 0;
		if (errno != EADDRINUSE)
			break;
	}
	return -errno;
}

static int dial(struct link *k)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = k->vsock_port };
	int r;

	k->fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (k->fd < 0 || bind_privileged(k->fd) < 0)
		return lose(k);
	k->connecting = connect(k->fd, (struct sockaddr *)&a, sizeof(a)) < 0;
	if (k->connecting && errno != EINPROGRESS) {
		k->connecting = false;
		return lose(k);
	}
	r = watch(k);
	return r < 0 ? r : k->connecting ? 0 : pump(k);
}

/* Descriptor of the port, -ENOENT when it is not there (yet: the name comes in a message of its own), -EBUSY and so on. */
static int port_open(void)
{
	DIR *d = opendir("/sys/class/virtio-ports");
	const struct dirent *e;
	int r = -ENOENT;

	if (!d)
		return -errno;
	while (r == -ENOENT && (e = readdir(d))) {
		_cleanup_buf_ struct buf path = { 0 }, name = { 0 };

		if (e->d_name[0] == '.')
			continue;
		buf_addf(&path, "%s/name", e->d_name);
		if (file_read_at(dirfd(d), path.p, 128, &name) < 0 || !streq(name.p, LINK_PORT_NAME "\n"))
			continue;
		buf_truncate(&path, 0);
		buf_addf(&path, "/dev/%s", e->d_name);
		r = open(path.p, O_RDWR | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
		if (r < 0)
			r = -errno;
	}
	closedir(d);
	return r;
}

static int on_uevent(struct loop_source *s, int fd, uint32_t events, void *data)
{
	(void)s;
	(void)events;
	return uevent_drain(fd, "/virtio-ports/") ? link_open(data) : 0;
}

static void watch_uevents(struct link *k)
{
	if (k->uevents >= 0)
		return;
	k->uevents = uevent_open();
	if (k->uevents >= 0 && loop_add_fd(k->loop, &k->uevents_source, k->uevents, EPOLLIN, on_uevent, k) < 0)
		k->uevents = safe_close(k->uevents);
}

static int find_port(struct link *k)
{
	k->fd = port_open();
	if (k->fd < 0) {
		/* Look once more after the watch began, so that none is missed; and now and then, should there be no events. */
		watch_uevents(k);
		k->fd = port_open();
	}
	if (k->fd >= 0) {
		int r = watch(k);

		return r < 0 ? r : pump(k);
	}
	k->fd = -EBADF;
	k->retry_ns = k->retry_ns * 2 < retry_last_ns * 8 ? k->retry_ns * 2 : retry_last_ns * 8;
	return loop_set_deadline(k->timer, clock_monotonic_ns() + k->retry_ns);
}

static int link_open(struct link *k)
{
	return k->vsock_port ? dial(k) : find_port(k);
}

int link_new(struct loop *l, const struct link_target *t, link_request_fn on_request, link_reset_fn on_reset,
	     void *data, struct link **ret)
{
	struct link *k = xnew(struct link);
	int r;

	k->loop = l;
	k->fd = t->fd;
	k->uevents = -EBADF;
	k->is_plain = t->fd >= 0;
	k->vsock_port = t->vsock_port;
	k->retry_ns = retry_first_ns;
	k->on_request = on_request;
	k->on_reset = on_reset;
	k->data = data;
	if (t->token) {
		memcpy(k->token, t->token, SYNC_TOKEN_SIZE);
		k->has_token = true;
	}
	k->deaf = !k->is_plain;
	r = loop_add_timer(l, &k->timer, UINT64_MAX, on_timer, k);
	if (r < 0) {
		link_free(k);
		return r;
	}
	*ret = k;
	return 0;
}

int link_start(struct link *k)
{
	int flags;

	if (!k->is_plain)
		return link_open(k);
	flags = fcntl(k->fd, F_GETFL);
	if (flags < 0 || fcntl(k->fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return watch(k);
}

struct link *link_free(struct link *k)
{
	if (!k)
		return NULL;
	loop_source_free(k->source);
	loop_source_free(k->uevents_source);
	loop_source_free(k->timer);
	safe_close(k->fd);
	safe_close(k->uevents);
	buf_done(&k->in);
	buf_done(&k->out);
	free(k);
	return NULL;
}
