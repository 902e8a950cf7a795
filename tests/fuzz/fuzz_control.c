/* A hostile command at a monitor's socket: calls of the monitor's service and of the agent's, in pieces as large as the first byte says. Behind
 * it stands a guest that answers every call; when the command goes away, nothing of it stays. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"
#include "machine/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
	struct control *control;
	struct rpc *agent; /* the monitor's end */
};

static void check(bool ok)
{
	if (!ok)
		abort();
}

static void on_request(uint64_t ticket, const char *method, const uint8_t *payload, size_t len, void *data)
{
	struct state *s = data;

	check(method && (payload || !len));
	if (len & 1)
		control_reply(s->control, ticket, payload, len);
	else
		control_reply_error(s->control, ticket, 2, method);
}

static struct rpc *agent(void *data)
{
	return ((struct state *)data)->agent;
}

static void on_released(const char *id, void *data)
{
	(void)data;
	check(id != NULL);
}

static void on_guest_request(struct rpc *r, uint32_t stream_id, const struct ttrpc_request *req, void *data)
{
	(void)data;
	rpc_reply(r, stream_id, req->payload, req->payload_len);
}

static void on_closed(struct rpc *r, int num, void *data)
{
	(void)r;
	(void)num;
	(void)data;
}

static void settle(struct loop *l)
{
	while (loop_step(l, 0) > 0)
		;
}

static void send_pieces(struct loop *l, int fd, const uint8_t *data, size_t size, size_t piece)
{
	while (size) {
		size_t n = size < piece ? size : piece;
		uint8_t answers[4096];

		if (send(fd, data, n, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)n)
			return;
		data += n;
		size -= n;
		settle(l);
		while (recv(fd, answers, sizeof(answers), MSG_DONTWAIT) > 0)
			;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct control_handler handler = { on_request, agent, on_released };
	char name[] = "/tmp/skerry-fuzz-XXXXXX";
	_cleanup_close_ int dir = -EBADF;
	struct rpc *guest = NULL;
	struct state s = {};
	struct loop *loop;
	int sv[2], fd;

	if (size < 2 || loop_new(&loop) < 0)
		return 0;
	check(mkdtemp(name));
	dir = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(dir >= 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sv) == 0);
	check(rpc_new(loop, sv[0], NULL, on_closed, &s, &s.agent) == 0);
	check(rpc_new(loop, sv[1], on_guest_request, on_closed, &s, &guest) == 0);
	check(control_new(loop, dir, &handler, &s, &s.control) == 0);
	fd = unix_connect_at(dir, "control.sock");
	check(fd >= 0);
	settle(loop);
	check(control_peers(s.control) == 1);
	send_pieces(loop, fd, data + 1, size - 1, (size_t)data[0] + 1);
	(void)close(fd);
	settle(loop);
	check(control_peers(s.control) == 0 && !control_main_attached(s.control));
	control_free(s.control);
	rpc_free(s.agent);
	rpc_free(guest);
	settle(loop);
	loop_free(loop);
	(void)unlinkat(dir, "control.sock", 0);
	check(rmdir(name) == 0);
	return 0;
}
