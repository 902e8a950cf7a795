/* A client of HTTP and websockets that does what it is told, right or wrong: raw bytes over a socket. (RFC 9112, RFC 6455) */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Connected to 127.0.0.1:@port, -1 when nobody listens. */
int http_connect(uint16_t port);
/* Sends @request and reads until the other side ends the connection, or a whole answer with a content-length is there, or @timeout_s is over. The status, 0
 * when there was no answer. @ret: all of it. */
int http_ask(uint16_t port, const char *request, unsigned timeout_s, struct buf *ret);

struct websocket {
	int fd;            /* owned; -1 = closed */
	struct buf in;     /* what is not a whole frame yet */
	struct buf text;   /* payloads of text frames, a line each */
	struct buf binary; /* payloads of binary frames */
	bool closed;
};
enum { WEBSOCKET_TEXT = 1, WEBSOCKET_BINARY = 2, WEBSOCKET_CLOSE = 8, WEBSOCKET_PING = 9, WEBSOCKET_PONG = 10 };

/* @headers: more of them, each with "\r\n". The status: 101 when it is open. */
int websocket_open(struct websocket *ws, uint16_t port, const char *target, const char *protocol, const char *headers);
void websocket_send(struct websocket *ws, unsigned opcode, const void *p, size_t n);
/* Reads what comes until @text is among the bytes (or the text frames), or @timeout_s is over. */
bool websocket_shows(struct websocket *ws, const char *text, unsigned timeout_s);
/* Until the other side closes. */
bool websocket_ends(struct websocket *ws, unsigned timeout_s);
void websocket_done(struct websocket *ws);
#define _cleanup_websocket_ __attribute__((cleanup(websocket_done)))
