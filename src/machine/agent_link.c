#include "machine/agent_link.h"

#include <sys/random.h>
#include <sys/socket.h>

#include "agent.pb-c.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/utf8.h"
#include "machine/client.h"
#include "wire/message.h"

enum { CHUNK = 4096, SYNC_BACKLOG = 1 << 20, VERSION_BYTES_MAX = 64, ERROR_BYTES_MAX = 2048 };

struct agent_link {
	struct loop *loop; /* borrowed */
	int fd;            /* until rpc owns it */
	struct loop_source *source;
	struct buf in;
	uint8_t token[SYNC_TOKEN_SIZE], nonce[SYNC_NONCE_SIZE];
	struct rpc *rpc;
	bool ready;
	const struct agent_link_events *events; /* borrowed */
	void *data;
};

static void lost(struct agent_link *a)
{
	a->source = loop_source_free(a->source);
	a->ready = false;
	a->events->lost(a->data);
}

static void on_hello(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct agent_link *a = data;
	_cleanup_free_ char *version = NULL, *error = NULL;
	Skerry__Agent__V1__HelloResponse *h;

	if (err) {
		log_debug("agent: hello: %s", err->msg);
		return;
	}
	h = message_unpack(&skerry__agent__v1__hello_response__descriptor, payload, len);
	if (!h) {
		log_warning("agent: malformed hello");
		return;
	}
	version = utf8_shown(h->version, VERSION_BYTES_MAX);
	error = utf8_shown(h->error, ERROR_BYTES_MAX);
	a->ready = true;
	a->events->ready(version, error, a->data);
	message_free(h);
}

static void on_ending(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	struct agent_link *a = data;
	Skerry__Agent__V1__ShutdownNotice *n;

	if (err)
		return;
	n = message_unpack(&skerry__agent__v1__shutdown_notice__descriptor, payload, len);
	if (!n)
		return;
	a->events->ending(n->mode == SKERRY__AGENT__V1__SHUTDOWN_REQUEST__MODE__REBOOT ? AGENT_ENDING_REBOOT
										       : AGENT_ENDING_POWER_OFF,
			  a->data);
	message_free(n);
}

static void on_rpc_closed(struct rpc *r, int num, void *data)
{
	(void)r;
	(void)num;
	lost(data);
}

/* In step: from here on the pipe speaks ttrpc. */
static int begin_rpc(struct agent_link *a)
{
	int r;

	a->source = loop_source_free(a->source);
	r = rpc_new(a->loop, TAKE_FD(a->fd), NULL, on_rpc_closed, a, &a->rpc);
	if (r < 0)
		return r;
	r = rpc_call(a->rpc, AGENT_SERVICE, "Hello", NULL, 0, UINT64_MAX, on_hello, a, NULL);
	if (r >= 0)
		r = rpc_call(a->rpc, AGENT_SERVICE, "WaitShutdown", NULL, 0, UINT64_MAX, on_ending, a, NULL);
	if (r >= 0 && a->in.len)
		rpc_feed(a->rpc, a->in.p, a->in.len);
	buf_truncate(&a->in, 0);
	return r < 0 ? r : 0;
}

static int on_pipe(struct loop_source *s, int fd, uint32_t events, void *data)
{
	struct agent_link *a = data;
	ssize_t n = recv(fd, buf_reserve(&a->in, CHUNK), CHUNK, MSG_DONTWAIT);

	(void)s;
	(void)events;
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		lost(a);
		return 0;
	}
	if (n > 0)
		buf_commit(&a->in, (size_t)n);
	if (sync_await(&a->in, a->token, a->nonce) == 1) {
		if (begin_rpc(a) < 0)
			lost(a);
	} else if (a->in.len > SYNC_BACKLOG) {
		lost(a);
	}
	return 0;
}

int agent_link_new(struct loop *l, int fd, const uint8_t token[SYNC_TOKEN_SIZE], const struct agent_link_events *events,
		   void *data, struct agent_link **ret)
{
	struct agent_link *a = xnew(struct agent_link);
	_cleanup_buf_ struct buf hello = {};
	int r;

	*a = (struct agent_link){ .loop = l, .fd = fd, .events = events, .data = data };
	memcpy(a->token, token, sizeof(a->token));
	r = getrandom(a->nonce, sizeof(a->nonce), 0) == (ssize_t)sizeof(a->nonce) ? 0 : -EIO;
	sync_encode(&hello, a->token, a->nonce);
	/* 24 bytes into a fresh socket's buffer: they wait there until the guest opens its end. */
	if (r >= 0 && send(fd, hello.p, hello.len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)hello.len)
		r = errno ? -errno : -EIO;
	if (r >= 0)
		r = loop_add_fd(l, &a->source, fd, EPOLLIN, on_pipe, a);
	if (r < 0) {
		agent_link_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

struct rpc *agent_link_rpc(struct agent_link *a)
{
	return a && a->ready && rpc_is_open(a->rpc) ? a->rpc : NULL;
}

void agent_link_cancel(struct agent_link *a, int stream_id)
{
	if (a && a->rpc)
		rpc_cancel(a->rpc, stream_id);
}

struct agent_link *agent_link_free(struct agent_link *a)
{
	if (!a)
		return NULL;
	rpc_free(a->rpc);
	loop_source_free(a->source);
	safe_close(a->fd);
	buf_done(&a->in);
	explicit_bzero(a->token, sizeof(a->token));
	free(a);
	return NULL;
}
