/* The machines that a command names. */
#pragma once

#include "cli/command.h"
#include "machine/client.h"
#include "machine/machine.h"
#include "store/store.h"

/* Calls @fn for each operand. A failure is reported at once and the others go on; then the first failure's exit status is returned. With one operand
 * the failure is simply returned. */
int target_each(const struct invocation *inv, const struct store *s,
		int (*fn)(const struct store *s, const struct name *name, const void *options, struct error *err),
		struct error *err);
/* Name and connection. */
int target_connect(const struct store *s, const char *operand, struct name *ret_name, struct client *ret,
		   struct error *err);
/* Who exec and ssh are by default: the record's user, else the image's. NULL = root. Owned by the caller. */
char *target_user(const struct store *s, const struct machine_spec *spec);
/* Where exec begins by default, likewise; "" or NULL = in the user's home. Owned by the caller. */
char *target_workdir(const struct store *s, const struct machine_spec *spec);
/* Waits until the ssh server in the guest answers. Errors: -ETIMEDOUT with a hint. */
int target_wait_ssh(struct client *c, uint64_t deadline_ns, struct error *err);
