/* WWW-Authenticate, as registries send it with a 401. Grammar: RFC 9110, 11.6.1; the Bearer scheme's parameters: the distribution project's
 * token authentication specification. Comes from outside: lengths are bounded, what is malformed is passed over. */
#pragma once

#include <stdbool.h>

#include "base/memory.h"

enum challenge_scheme { CHALLENGE_NONE, CHALLENGE_BASIC, CHALLENGE_BEARER };

struct challenge {
	enum challenge_scheme scheme;
	char *realm; /* owned; Bearer: the address of the token service, else for people; may be NULL with Basic */
	char *service;
	char *scope;
	char *error; /* "insufficient_scope" */
};

/* Reads one header's value, which may hold several challenges, and keeps the best one: Bearer before Basic. @ret may hold what an earlier
 * header gave; a better one replaces it. A Bearer challenge without a realm is none. */
void challenge_add(const char *value, struct challenge *ret);
void challenge_done(struct challenge *c);
/* Whether @scope names all that @wanted does: words "TYPE:NAME:ACTION,ACTION" that spaces keep apart. Registries list them, and their actions, in any
 * order, and in another one the next time. Grammar: the distribution project's token scope documentation. */
bool scope_covers(const char *scope, const char *wanted);
