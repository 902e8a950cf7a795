#include "shim_peer.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "test.h"
#include "wire/message.h"
#include "wire/ttrpc.h"

enum { ANSWER_S = 300, CHUNK = 64 << 10 };

struct early {
	uint32_t stream;
	struct buf frame;
	struct early *next;
};

void shim_peer_open(struct shim_peer *p, const char *socket_path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	*p = (struct shim_peer){ .fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	ASSERT(strlen(socket_path) < sizeof(a.sun_path));
	memcpy(a.sun_path, socket_path, strlen(socket_path));
	ASSERT_OK(connect(p->fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0);
}

void shim_peer_close(struct shim_peer *p)
{
	struct early *e;

	while ((e = p->early)) {
		p->early = e->next;
		buf_done(&e->frame);
		free(e);
	}
	buf_done(&p->in);
	if (p->fd > 0)
		close(p->fd);
	*p = (struct shim_peer){};
}

void shim_answer_done(struct shim_answer *a)
{
	free(a->text);
	message_free(a->m);
	*a = (struct shim_answer){};
}

void shim_send(struct shim_peer *p, const void *bytes, size_t n)
{
	const char *at = bytes;

	while (n) {
		ssize_t done = send(p->fd, at, n, MSG_NOSIGNAL);

		ASSERT_OK(done < 0 ? -errno : 0);
		at += done;
		n -= (size_t)done;
	}
}

uint32_t shim_ask(struct shim_peer *p, const char *service, const char *method, const struct ProtobufCMessage *m)
{
	_cleanup_buf_ struct buf packed = {}, out = {};

	if (m)
		message_pack(&packed, m);
	p->last = p->last ? p->last + 2 : 1;
	ASSERT_OK(ttrpc_request_encode(&out, p->last, service, method, packed.p, packed.len, 0));
	shim_send(p, out.p, out.len);
	return p->last;
}

static uint32_t u32(const char *p)
{
	const uint8_t *b = (const uint8_t *)p;

	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* What has come as whole frames goes into the list. Stream ids of any kind are answered, so this does not ask what they may be. */
static void sort_frames(struct shim_peer *p)
{
	while (p->in.len >= TTRPC_HEADER_SIZE && p->in.len >= TTRPC_HEADER_SIZE + u32(p->in.p)) {
		size_t n = TTRPC_HEADER_SIZE + u32(p->in.p);
		struct early *e = xnew(struct early);

		*e = (struct early){ .stream = u32(p->in.p + 4), .next = p->early };
		buf_add(&e->frame, p->in.p, n);
		buf_consume(&p->in, n);
		p->early = e;
	}
}

static bool take(struct shim_peer *p, uint32_t stream, struct buf *ret)
{
	sort_frames(p);
	for (struct early **q = &p->early; *q; q = &(*q)->next) {
		struct early *e = *q;

		if (e->stream != stream)
			continue;
		*q = e->next;
		*ret = e->frame;
		free(e);
		return true;
	}
	return false;
}

/* False at the end of the connection. */
static bool receive(struct shim_peer *p, int timeout_ms)
{
	struct pollfd f = { .fd = p->fd, .events = POLLIN };
	ssize_t n;

	if (poll(&f, 1, timeout_ms) <= 0)
		return true;
	n = recv(p->fd, buf_reserve(&p->in, CHUNK), CHUNK, 0);
	if (n > 0)
		buf_commit(&p->in, (size_t)n);
	return n > 0;
}

struct shim_answer shim_answer(struct shim_peer *p, uint32_t stream, const struct ProtobufCMessageDescriptor *type)
{
	uint64_t deadline_ns = clock_monotonic_ns() + ANSWER_S * NS_PER_SEC;
	_cleanup_buf_ struct buf frame = {};
	struct ttrpc_response r;
	struct ttrpc_frame f;
	struct shim_answer a = {};

	while (!take(p, stream, &frame)) {
		if (clock_monotonic_ns() > deadline_ns)
			test_fail(__FILE__, __LINE__, "no answer on stream %u", stream);
		if (!receive(p, 1000))
			test_fail(__FILE__, __LINE__, "the end instead of an answer on stream %u", stream);
	}
	f = (struct ttrpc_frame){ .stream_id = stream,
				  .type = (uint8_t)frame.p[8],
				  .data = (const uint8_t *)frame.p + TTRPC_HEADER_SIZE,
				  .len = frame.len - TTRPC_HEADER_SIZE };
	ASSERT_OK(ttrpc_response_decode(&f, &r));
	a.code = r.code;
	a.text = xstrdup(r.message);
	if (a.code == 0 && type) {
		a.m = message_unpack(type, r.payload, r.payload_len);
		ASSERT(a.m);
	}
	ttrpc_response_done(&r);
	return a;
}

struct shim_answer shim_call(struct shim_peer *p, const char *service, const char *method,
			     const struct ProtobufCMessage *m, const struct ProtobufCMessageDescriptor *type)
{
	return shim_answer(p, shim_ask(p, service, method, m), type);
}

bool shim_unanswered(struct shim_peer *p, uint32_t stream)
{
	struct buf frame = {};

	(void)receive(p, 0);
	if (!take(p, stream, &frame))
		return true;
	buf_done(&frame);
	return false;
}

void shim_expect_end(struct shim_peer *p)
{
	uint64_t deadline_ns = clock_monotonic_ns() + ANSWER_S * NS_PER_SEC;

	while (receive(p, 1000))
		ASSERT(clock_monotonic_ns() < deadline_ns);
}
