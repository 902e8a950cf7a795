/* A hostile peer of a ttrpc connection: requests and answers, in pieces as large as the first byte says; a call is in flight. It must be
 * answered exactly once. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "machine/rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
	unsigned closed, answered;
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_request(struct rpc *r, uint32_t stream_id, const struct ttrpc_request *req, void *data)
{
	(void)data;
	check(req->service && req->method);
	if (req->payload_len & 1)
		rpc_reply(r, stream_id, req->payload, req->payload_len);
	else
		rpc_reply_error(r, stream_id, 2, "no");
}

static void on_closed(struct rpc *r, int num, void *data)
{
	(void)r;
	(void)num;
	check(++((struct state *)data)->closed == 1);
}

static void on_answer(const struct error *err, const uint8_t *payload, size_t len, void *data)
{
	check(err || !len || payload);
	check(++((struct state *)data)->answered == 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct state s = {};
	struct loop *loop;
	struct rpc *r = NULL;
	size_t piece;
	bool called;
	int sv[2];

	if (size < 2 || loop_new(&loop) < 0)
		return 0;
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == 0);
	check(rpc_new(loop, sv[0], on_request, on_closed, &s, &r) == 0);
	called = rpc_call(r, "service", "Method", "x", 1, UINT64_MAX, on_answer, &s, NULL) >= 0;
	piece = (size_t)data[0] + 1;
	for (data++, size--; size && !s.closed;) {
		size_t n = size < piece ? size : piece;
		uint8_t answers[4096];

		if (send(sv[1], data, n, MSG_NOSIGNAL) != (ssize_t)n)
			break;
		data += n;
		size -= n;
		while (loop_step(loop, 0) > 0)
			;
		while (recv(sv[1], answers, sizeof(answers), 0) > 0)
			;
	}
	rpc_free(r);
	check(s.answered == called);
	(void)close(sv[1]);
	loop_free(loop);
	return 0;
}
