/* What a host process that died in the middle of something leaves for the guest's agent: requests, cut and joined. The first byte is the size
 * of the pieces; its top bit says whether a sync comes first. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "guest/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_request(uint32_t stream_id, const struct ttrpc_request *req, void *data)
{
	struct link **k = data;

	check(req->service && req->method && (req->payload || !req->payload_len));
	link_error(*k, stream_id, 2, "no");
}

static void on_reset(void *data)
{
	(void)data;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t token[SYNC_TOKEN_SIZE] = "0123456789abcdef";
	struct link_target target = { .token = token };
	uint8_t hello[SYNC_SIZE] = "0123456789abcdef";
	struct loop *loop;
	struct link *k = NULL;
	size_t piece;
	int sv[2];

	if (size < 2 || loop_new(&loop) < 0)
		return 0;
	check(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == 0);
	target.fd = sv[0];
	check(link_new(loop, &target, on_request, on_reset, &k, &k) == 0 && link_start(k) >= 0);
	if (data[0] & 0x80)
		check(send(sv[1], hello, sizeof(hello), MSG_NOSIGNAL) == sizeof(hello));
	piece = (data[0] & 0x7f) + 1;
	for (data++, size--; size;) {
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
	link_free(k);
	(void)close(sv[1]);
	loop_free(loop);
	return 0;
}
