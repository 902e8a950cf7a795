/* One repository of one registry, as one command speaks with it: where it is, who we are there, and what its answers mean. Source: the OCI
 * distribution specification. Linked into skerry-image only. */
#pragma once

#include "image/auth.h"
#include "image/http.h"

struct registry;

struct registry_settings {
	struct http *http;         /* borrowed */
	const struct store *store; /* borrowed */
	const char *host;          /* "docker.io", "localhost:5000" */
	const char *repository;    /* "library/debian"; NULL = none (a login) */
	const char *from;          /* another repository there, to take blobs from; NULL = none */
	bool push;
	const struct credential *credential; /* instead of what is kept for the registry; NULL */
};
/* No word is spoken yet. */
int registry_open(const struct registry_settings *s, struct registry **ret, struct error *err);
struct registry *registry_close(struct registry *r); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct registry *, registry_close);

/* The same repository for requests that another one (the settings' from) has a part in: who may not read that one is refused these only, so they have
 * tokens of their own. Borrowed; NULL without a from. */
struct registry *registry_taking(struct registry *r);
struct http *registry_http(const struct registry *r);
const char *registry_repository(const struct registry *r);
/* "localhost:5000/me/app" and the like, for messages. */
const char *registry_noun(const struct registry *r);
/* "https://HOST/v2/REPOSITORY/…" from a format. Owned by the caller. */
char *registry_url(const struct registry *r, const char *fmt, ...) _printf_(2, 3);

/* For transfers that run beside each other: puts what we know about ourselves into @req (borrowed until the registry is closed), where its
 * address is the registry's. The result tells registry_challenged() what was known then. */
unsigned registry_authorize(const struct registry *r, struct http_request *req);
/* After a 401: learns what is asked for, gets a token. 0 = ask again; errors: kind DENIED when there is nothing better to show, or when somebody else
 * than the registry asks (a mirror, a layer's own address): they would choose where the registry's credentials are sent. */
int registry_challenged(struct registry *r, const struct http_answer *a, unsigned known, struct error *err);
/* One request with all of that, and tried again where it may help. Any status may come back but 401. */
int registry_exchange(struct registry *r, struct http_request *req, struct http_answer *ret, struct error *err);
/* An error of an answer that was not hoped for: "@what: the registry says …". Kinds: DENIED, NOT_FOUND, BUSY, FAILED. */
int registry_refuse(const struct registry *r, const struct http_answer *a, const char *what, struct error *err);
/* Is there a registry, and does it accept us? */
int registry_ping(struct registry *r, struct error *err);
