/* What a CNI network gave a machine: interface, address, rules. Its plugins' DEL gives it back; until that has succeeded, RUN/.shims/lease-ID has what
 * the call needs, since the bundle with the record goes whether it succeeds or not. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "shim/record.h"

/* Gives back what @r names; nothing named is success. @netns: path of the namespace, NULL = it has gone. A failure is logged, and it is done again by
 * lease_recover(). Errors: what the plugins say; TIMEOUT, at @deadline_ns. */
int lease_release(const struct shim_record *r, const char *netns, uint64_t deadline_ns, struct error *err);
/* Another record has what is given to @id. */
void lease_forget(const char *id);
/* Does again what has failed, for all; @tell: says so on standard output. A failure is logged, and returned. */
int lease_recover(bool tell, uint64_t deadline_ns);
