/* What a registry is told about who we are: where people's credentials are kept. The documents are Docker's and containers' (auth.json(5)): an
 * object "auths" of host or host/namespace to base64 of USER:PASSWORD, "credHelpers" and "credsStore" naming programs that keep them.
 * Secrets are in no message, log or argv. Linked into skerry-image only. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "store/store.h"

struct credential {
	char *user, *secret;  /* owned */
	char *identity_token; /* owned; instead of a password: a refresh token for the token service */
	char *origin;         /* owned; the file or the program that it came from, for messages */
};
/* Overwrites the secrets, then frees. */
void credential_done(struct credential *c);
#define _cleanup_credential_ _cleanup_(credential_done)

/* Looks for @registry ("docker.io", "localhost:5000"), most particular key first when @repository (may be NULL) has one of its own, in our own
 * auth.json, Docker's configuration ($DOCKER_CONFIG, ~/.docker), and containers' ($REGISTRY_AUTH_FILE, ${XDG_RUNTIME_DIR}/containers,
 * ${XDG_CONFIG_HOME}/containers). Returns 1 and fills @ret, or 0 when there is none. A helper program gets 30 s.
 * Errors: -EBADMSG (kind CONFIG) for a damaged file, naming it; what the helper's run failed with, naming it. */
int auth_find(const struct store *s, const char *registry, const char *repository, struct credential *ret,
	      struct error *err);

/* Into our own auth.json (0600), in the place of what was there for that registry. */
int auth_store(const struct store *s, const char *registry, const struct credential *c, struct error *err);
/* Out of it again. Returns 1, or 0 when it held nothing for that registry. */
int auth_remove(const struct store *s, const char *registry, struct error *err);

/* What one document says; pure. Returns 1 with @ret filled, 2 with *ret_helper ("pass": the program docker-credential-pass; owned by the
 * caller) and *ret_server (what to ask it for; owned by the caller), or 0. @what names the document in errors. */
int auth_parse(const char *text, size_t len, const char *what, const char *registry, const char *repository,
	       struct credential *ret, char **ret_helper, char **ret_server, struct error *err);
/* What a helper answered to "get"; pure. Returns 1, or 0 when it knows nothing. */
int auth_helper_parse(const char *text, size_t len, const char *what, struct credential *ret, struct error *err);
