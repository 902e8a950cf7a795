#include "websocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/parse.h"

enum { READ_MAX = 64 << 10, OPEN_S = 120 };

int http_connect(uint16_t port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (const struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	(void)close(fd);
	return -1;
}

/* Returns what recv(2) does; 0 also after the deadline. */
static ssize_t read_until(int fd, struct buf *b, uint64_t deadline_ns)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = clock_monotonic_ns();
	ssize_t n;

	if (now >= deadline_ns || poll(&p, 1, (int)((deadline_ns - now) / NS_PER_MS) + 1) <= 0)
		return 0;
	n = recv(fd, buf_reserve(b, READ_MAX), READ_MAX, 0);
	if (n > 0)
		buf_commit(b, (size_t)n);
	return n;
}

/* 0 = no whole head yet. */
static int status_of(const struct buf *b, const char **ret_body)
{
	const char *end = b->p ? strstr(b->p, "\r\n\r\n") : NULL;
	char digits[4] = "";
	uint64_t status;

	if (!end || b->len < 12 || strncmp(b->p, "HTTP/1.", 7) != 0)
		return 0;
	memcpy(digits, b->p + 9, 3);
	*ret_body = end + 4;
	return parse_u64(digits, 100, 599, &status) < 0 ? 0 : (int)status;
}

static bool whole(const struct buf *b, const char *body)
{
	const char *length = strcasestr(b->p, "content-length: ");
	_cleanup_free_ char *digits = NULL;
	uint64_t n;

	if (!length || length > body)
		return false;
	length += strlen("content-length: ");
	digits = xstrndup(length, strcspn(length, "\r"));
	return parse_u64(digits, 0, UINT32_MAX, &n) == 0 && b->len - (size_t)(body - b->p) >= n;
}

int http_ask(uint16_t port, const char *request, unsigned timeout_s, struct buf *ret)
{
	uint64_t deadline = clock_monotonic_ns() + timeout_s * NS_PER_SEC;
	int fd = http_connect(port), status = 0;
	const char *body = NULL;

	buf_truncate(ret, 0);
	if (fd < 0)
		return 0;
	(void)send(fd, request, strlen(request), MSG_NOSIGNAL);
	while (read_until(fd, ret, deadline) > 0) {
		status = status_of(ret, &body);
		if (status && whole(ret, body))
			break;
	}
	(void)close(fd);
	return status;
}

int websocket_open(struct websocket *ws, uint16_t port, const char *target, const char *protocol, const char *headers)
{
	_cleanup_free_ char *request = xasprintf(
		"GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
		"Sec-WebSocket-Protocol: %s\r\n%s\r\n",
		target, port, protocol, headers);
	uint64_t deadline = clock_monotonic_ns() + OPEN_S * NS_PER_SEC;
	const char *body = NULL;
	int status = 0;

	*ws = (struct websocket){ .fd = http_connect(port) };
	if (ws->fd < 0)
		return 0;
	(void)send(ws->fd, request, strlen(request), MSG_NOSIGNAL);
	while (!status && read_until(ws->fd, &ws->in, deadline) > 0)
		status = status_of(&ws->in, &body);
	/* The key's answer is in the RFC, with this key. */
	if (status == 101 && !strstr(ws->in.p, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
		status = 0;
	if (status == 101)
		buf_consume(&ws->in, (size_t)(body - ws->in.p));
	return status;
}

void websocket_send(struct websocket *ws, unsigned opcode, const void *p, size_t n)
{
	static const uint8_t mask[4] = { 0x12, 0x34, 0x56, 0x78 };
	uint8_t head[10] = { (uint8_t)(0x80 | opcode), 0x80 };
	_cleanup_buf_ struct buf b = {};
	size_t len = 2;

	if (n < 126) {
		head[1] |= (uint8_t)n;
	} else {
		head[1] |= 126;
		head[2] = (uint8_t)(n >> 8);
		head[3] = (uint8_t)n;
		len = 4;
	}
	buf_add(&b, head, len);
	buf_add(&b, mask, sizeof(mask));
	for (size_t i = 0; i < n; i++)
		buf_addc(&b, (char)(((const uint8_t *)p)[i] ^ mask[i % 4]));
	(void)send(ws->fd, b.p, b.len, MSG_NOSIGNAL);
}

/* One whole frame of the server's, which are not masked. False = there is none yet. */
static bool take_frame(struct websocket *ws)
{
	const uint8_t *p = (const uint8_t *)ws->in.p;
	size_t head = 2, n;

	if (ws->in.len < 2)
		return false;
	n = p[1] & 0x7f;
	if (n == 126) {
		head = 4;
		if (ws->in.len < head)
			return false;
		n = (size_t)p[2] << 8 | p[3];
	} else if (n == 127) {
		head = 10;
		if (ws->in.len < head)
			return false;
		n = 0;
		for (int i = 2; i < 10; i++)
			n = n << 8 | p[i];
	}
	if (ws->in.len < head + n)
		return false;
	switch (p[0] & 15) {
	case WEBSOCKET_TEXT:
		buf_add(&ws->text, p + head, n);
		buf_addc(&ws->text, '\n');
		break;
	case WEBSOCKET_PING: websocket_send(ws, WEBSOCKET_PONG, p + head, n); break;
	case WEBSOCKET_CLOSE: ws->closed = true; break;
	case WEBSOCKET_PONG: break;
	default: buf_add(&ws->binary, p + head, n);
	}
	buf_consume(&ws->in, head + n);
	return true;
}

static void read_more(struct websocket *ws, uint64_t deadline_ns)
{
	ssize_t n = read_until(ws->fd, &ws->in, deadline_ns);

	if (n < 0 || (n == 0 && clock_monotonic_ns() < deadline_ns))
		ws->closed = true;
	while (take_frame(ws))
		;
}

bool websocket_shows(struct websocket *ws, const char *text, unsigned timeout_s)
{
	uint64_t deadline = clock_monotonic_ns() + timeout_s * NS_PER_SEC;

	for (;;) {
		if ((ws->binary.p && memmem(ws->binary.p, ws->binary.len, text, strlen(text))) ||
		    (ws->text.p && strstr(ws->text.p, text)))
			return true;
		if (ws->closed || clock_monotonic_ns() >= deadline)
			return false;
		read_more(ws, deadline);
	}
}

bool websocket_ends(struct websocket *ws, unsigned timeout_s)
{
	uint64_t deadline = clock_monotonic_ns() + timeout_s * NS_PER_SEC;

	while (!ws->closed && clock_monotonic_ns() < deadline)
		read_more(ws, deadline);
	return ws->closed;
}

void websocket_done(struct websocket *ws)
{
	if (ws->fd >= 0)
		(void)close(ws->fd);
	ws->fd = -1;
	buf_done(&ws->in);
	buf_done(&ws->text);
	buf_done(&ws->binary);
}
