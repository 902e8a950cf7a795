/* HTTP as registries need it: libcurl's multi interface in one thread. TLS is verified always, a host is spoken to without TLS only when it was named
 * so, redirects are followed by us (credentials go to the origin they were meant for and nowhere else), proxies come from the environment as
 * curl(1) documents. Linked into skerry-image only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/memory.h"
#include "image/challenge.h"

struct http;
struct http_transfer;

struct http_settings {
	const struct strv *plain_hosts; /* borrowed; "HOST" or "HOST:PORT" as in a reference; may be NULL */
	const char *ca_path;            /* borrowed; certificates of authorities to trust as well, PEM; NULL = none */
	const char *certs_path; /* borrowed; directory of HOST[:PORT]/ca.crt, looked at before Docker's; NULL = none */
	unsigned stall_s;       /* a transfer that does not move for so long has failed; 0 = 60 */
};
/* Errors: -ENOENT and the like for @ca_path (kind USAGE), -ENOMEM. */
int http_new(const struct http_settings *s, struct http **ret, struct error *err);
struct http *http_free(struct http *h); /* transfers must be gone; accepts NULL; returns NULL */
DEFINE_CLEANUP(struct http *, http_free);

/* Was this host ("HOST[:PORT]") named as one without TLS? */
bool http_is_plain(const struct http *h, const char *host);

struct http_answer {
	long status;
	char *content_type; /* all strings owned; NULL when there was no such header */
	char *location;     /* absolute */
	char *digest;       /* Docker-Content-Digest, as sent */
	char *etag;         /* as sent, if it is a strong one (RFC 9110, 8.8.3) */
	struct challenge challenge;
	uint64_t retry_after_ns; /* UINT64_MAX = none */
	uint64_t length;         /* UINT64_MAX = not told */
	uint64_t range_start;    /* of Content-Range; UINT64_MAX = none */
	struct buf body;         /* what was kept of it */
	char *url;               /* who answered, after redirects */
};
void http_answer_done(struct http_answer *a);
#define _cleanup_answer_ _cleanup_(http_answer_done)

enum http_method { HTTP_GET, HTTP_HEAD, HTTP_POST, HTTP_PUT };

/* Everything is borrowed and must live until the transfer has ended. */
struct http_request {
	enum http_method method;
	const char *url;
	const struct strv *headers; /* "Name: value"; NULL = none */
	const char *user, *secret;  /* Basic, sent without being asked for; or … */
	const char *bearer;         /* … a token */
	const void *body;           /* of POST and PUT, in memory, or … */
	int body_fd;                /* … in a file, from its beginning, when @body is NULL and this >= 0 */
	uint64_t body_bytes;
	uint64_t offset; /* >0: ask for what follows so many bytes */
	size_t limit;    /* the most that is kept of a successful answer's body */
	/* A successful (2xx) answer has begun; its body follows. <0 with @err ends the transfer. NULL = none. */
	int (*on_answer)(const struct http_answer *a, void *data, struct error *err);
	/* The body of a successful answer, piece by piece, instead of keeping it. */
	int (*on_data)(const void *p, size_t n, void *data, struct error *err);
	/* So many bytes of our own body have been taken. */
	void (*on_sent)(uint64_t bytes, void *data);
	void *data;
};

/* Starts it; nothing moves before http_pump(). Errors: kind USAGE for an address that is none, or is without TLS and not named so. */
int http_begin(struct http *h, const struct http_request *req, struct http_transfer **ret, struct error *err);
/* Moves everything that can be moved, waiting at most @timeout_ms for something to happen. */
int http_pump(struct http *h, int timeout_ms, struct error *err);
bool http_has_ended(const struct http_transfer *t);
/* Takes the answer of an ended transfer (or gives an unfinished one up: -ECANCELED) and frees it. Returns 0 whatever the status is.
 * *ret_transient (may be NULL): trying again may help. Errors name the host, never a path or a query: those can be secrets. */
int http_end(struct http_transfer *t, struct http_answer *ret, bool *ret_transient, struct error *err);
/* All of it at once. */
int http_exchange(struct http *h, const struct http_request *req, struct http_answer *ret, bool *ret_transient,
		  struct error *err);

/* Waits; other transfers go on meanwhile. */
int http_wait(struct http *h, uint64_t wait_ns, struct error *err);
/* The same, again and again with growing pauses while that may help. *ret is the last answer. */
int http_insist(struct http *h, const struct http_request *req, struct http_answer *ret, struct error *err);
