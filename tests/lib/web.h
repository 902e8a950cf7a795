/* An HTTP server that answers as a test tells it to, well or badly. It runs in a process of its own on a port of 127.0.0.1 and dies with the
 * test. Each request comes to a process of its own: what the answers should remember must be in memory that is shared (web_shared). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct web_request {
	char method[16], target[2048];
	char head[16384]; /* all header lines */
	const char *body;
	size_t body_len;
};
/* The value of a header, or "". In a buffer of the request's process. */
const char *web_header(const struct web_request *q, const char *name);

struct web_answer {
	int status;         /* 0 = the connection is closed without a word */
	char headers[8192]; /* more lines, each with "\r\n" */
	const void *body;
	size_t len;
	long declared;    /* Content-Length instead of @len; 0 = @len, -1 = none */
	size_t cut;       /* >0: the connection ends after so many bytes of the body */
	unsigned stall_s; /* so long nothing happens before the body */
};
void web_add_header(struct web_answer *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

typedef void (*web_fn)(const struct web_request *q, struct web_answer *a, void *data);
/* The port. */
int web_start(web_fn fn, void *data);
/* Zeroed memory that all of these processes share. */
void *web_shared(size_t n);
