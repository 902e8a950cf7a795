/* What the environment of the container says about its machine. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "docker/relay.h"
#include "engine/accel.h"

struct settings {
	uint64_t cpus;
	uint64_t memory_bytes;
	uint64_t storage_bytes;
	char *user;
	char *password; /* in clear; wiped by settings_done(); NULL = nobody logs in by one */
	struct strv ssh_keys;
	int network;              /* enum settings_network */
	struct relay_ports ports; /* that lead to the guest; none = all */
	char *hostname;           /* NULL = the one that the machine got when it was made */
	char *user_data;          /* for cloud-init; NULL = none */
	char *boot;               /* absolute path of the base disk; NULL = what lies at the usual places */
	bool ephemeral;           /* the machine begins anew at each start */
	uint64_t stop_ns;         /* from the signal to the end */
	int accel;                /* enum accel */
	bool debug;
	uint64_t relay_bytes; /* kernel memory that sockets for ports may take; 0 = no bound */
};

/* What the container may use, for defaults and limits: cgroup and host. */
struct settings_host {
	uint64_t cpus;         /* at least 1 */
	uint64_t memory_bytes; /* of the cgroup, else of the host */
	bool limited;          /* @memory_bytes is a limit of the cgroup's */
};
/* Reads /proc and the cgroup file system of versions 1 and 2. */
void settings_host_read(struct settings_host *ret);

/* Reads the variables in @environment (NULL-terminated "NAME=value"); each NAME can come from the file that NAME_FILE names instead. Whatever is
 * wrong is appended to @problems, all of it, a line each with what would be right; a value is never repeated where it is secret. */
void settings_read(char *const *environment, const struct settings_host *host, struct settings *ret,
		   struct strv *problems);
void settings_done(struct settings *s);
#define _cleanup_settings_ _cleanup_(settings_done)
