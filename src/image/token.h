/* Bearer tokens: the token service that a registry's challenge names is asked for one. Sources: the distribution project's "Token Authentication
 * Specification" and "OAuth2 Token Authentication". Linked into skerry-image only. */
#pragma once

#include "image/auth.h"
#include "image/http.h"

struct token {
	char *text;          /* owned; printable, no white space */
	uint64_t expires_ns; /* CLOCK_MONOTONIC */
};
void token_done(struct token *t);

/* The service's answer; pure but for the clock: @now_ns is CLOCK_MONOTONIC. @what names the service. Errors: kind DATA. */
int token_parse(const char *text, size_t len, const char *what, uint64_t now_ns, struct token *ret, struct error *err);

/* Asks for @scopes ("repository:NAME:pull"; the challenge's own are added), as @c says who we are (may hold nothing: anonymous).
 * Errors: kind DENIED when the service does not accept @c; kind DATA for an answer that is none. */
int token_fetch(struct http *h, const struct challenge *challenge, const struct strv *scopes,
		const struct credential *c, struct token *ret, struct error *err);
