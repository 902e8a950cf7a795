/* Variables that hold lists: each parser appends what is wrong, a line each, to @wrongs, and what is right to its result. */
#pragma once

#include "base/memory.h"

/* Public keys as sshd(8) has them in authorized_keys, with options or without, one a line or with commas between. Nothing of the text is repeated in
 * @wrongs: it may be what nobody must see. */
void keys_parse(const char *text, struct strv *ret, struct strv *wrongs);

/* "192.0.2.1, 2001:db8::1 corp.example": addresses are name servers, names are searched. */
void dns_parse(const char *text, struct strv *ret_servers, struct strv *ret_search, struct strv *wrongs);
/* "/data, /src:/mnt/src:ro": directories of the container, and where they are in the guest. As struct machine_spec has them. */
void shares_parse(const char *text, struct strv *ret, struct strv *wrongs);
/* Words as a shell takes them apart: quotes and backslashes, and nothing else. What would take the engine out of our hands is wrong. */
void engine_args_parse(const char *text, struct strv *ret, struct strv *wrongs);
