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
/* Whether the image boots by itself, and so brings no agent (unless its author put one there). False also when nobody knows. */
bool target_lacks_agent(const struct store *s, const struct machine_spec *spec);
/* Refuses what needs a guest that runs where the machine is paused: nobody there would answer, and what was asked would be done when nobody waits
 * for it any more. Errors: kind BUSY with a hint. */
int target_need_awake(const struct machine_info *info, struct error *err);
/* Refuses what needs an agent where none answers and none is to be expected. Errors: -ENOTSUP with a hint; as target_need_awake(). */
int target_need_agent(const struct store *s, const struct name *name, struct error *err);
/* Where on this host the ssh server of a running machine without an agent is reached. False = nowhere. */
struct ssh_address {
	char ip[16]; /* IPv4 */
	uint16_t port;
};
bool target_ssh_address(const struct machine_info *info, struct ssh_address *ret);
/* When what --timeout gives is over, for clock_monotonic_ns(); never for 0. */
uint64_t target_deadline(uint64_t timeout_ns);
/* Waits until the ssh server in the guest answers, through the agent (and for it) or the published port. Errors: -ETIMEDOUT with a hint. */
int target_wait_ssh(const struct store *s, const struct name *name, struct client *c, uint64_t deadline_ns,
		    struct error *err);
