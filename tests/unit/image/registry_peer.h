/* A registry that behaves as the distribution specification says, or does not; and the client's side: a store, and pulls into it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/pull.h"

#include "web.h"

enum { PEER_LAYERS = 3, PEER_LAYER_BYTES = 3 << 20 };

enum peer_misbehaviour {
	HONEST,
	CUTS,          /* the connection ends after 1 MiB + 1000 of each blob's answer */
	DRIPS,         /* … after one byte */
	IGNORES_RANGE, /* first cut, then whole again */
	NEVER_WHOLE,   /* … after two thirds, always */
	WRONG_RANGE,   /* 206, of another part */
	SHORTER,
	LONGER,
	OTHER_BYTES,
	BUSY_FIRST,     /* 429 with Retry-After: 0, then 503 */
	BUSY_ALWAYS,    /* Retry-After: an hour */
	NO_DIGEST,      /* neither HEAD nor headers tell one */
	WRONG_DIGEST,   /* the header names another one */
	OTHER_DOCUMENT, /* whatever digest is asked for, the tag's document is sent */
	ENDLESS_DOCUMENT,
	REDIRECTS, /* blobs are elsewhere */
};

struct peer_shared {
	enum peer_misbehaviour how;
	bool wants_token, token_runs_out, elsewhere_asks;
	int port, elsewhere;
	unsigned blob_requests, manifest_gets, token_requests, token_uses, leaks;
	uint64_t sent_bytes;
	char scope[256];
};

/* Set before the server starts; it has copies. */
struct peer_document {
	char *text, *digest;
	const char *type;
};
struct peer_world {
	char *layers[PEER_LAYERS], *layer_digests[PEER_LAYERS], *config, *config_digest;
	struct peer_document documents[16];
	size_t n;
	const char *tag_digest;
	struct peer_shared *shared;
};
extern struct peer_world peer_world;

/* An image of PEER_LAYERS layers of noise, its manifest being the first document and what the tag means. */
void peer_make_world(void);
/* The document's digest, borrowed; it takes @text over. */
char *peer_add_document(char *text, const char *type);
char *peer_manifest(const char *config_type, const char *layer_type);
char *peer_index(const char *digest, size_t size, const char *type, const char *architecture);

void peer_registry(const struct web_request *q, struct web_answer *a, void *data);
/* Where redirected blobs are. Nobody's credentials belong here. */
void peer_elsewhere(const struct web_request *q, struct web_answer *a, void *data);
/* Both, from the world as it is now. */
void peer_start(void);

extern struct store peer_store;
extern bool peer_takes_foreign;
/* An empty store, which is all that there is of credentials and settings. */
void peer_open_store(void);
int peer_pull_as(const struct credential *c, const char *platform, struct oci_descriptor *ret, struct error *err);
/* As nobody, for linux/amd64. */
int peer_pull(struct error *err);
/* All that belongs to the image is in the store, and right. */
void peer_assert_whole(void);
/* All of the above, with a registry that behaves so. */
void peer_pull_whole(enum peer_misbehaviour how);
void peer_pull_refused(enum peer_misbehaviour how, enum error_kind kind, const char *why);
