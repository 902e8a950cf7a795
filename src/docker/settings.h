/* What the environment of the container says about its machine. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "docker/relay.h"
#include "engine/accel.h"

enum settings_network { NETWORK_NAT, NETWORK_BRIDGE };

struct settings {
	uint64_t cpus;
	uint64_t memory_bytes;
	uint64_t storage_bytes;
	char *user;
	char *password; /* in clear; wiped by settings_done(); NULL = nobody logs in by one */
	struct strv ssh_keys;
	int network;                 /* enum settings_network */
	struct relay_ports ports;    /* that lead to the guest; none = all */
	char *hostname;              /* NULL = the one that the machine got when it was made */
	char *user_data;             /* for cloud-init; NULL = none */
	struct strv dns, dns_search; /* none = the container's */
	char *timezone;              /* NULL = the image's */
	struct strv shares;          /* as struct machine_spec has them */
	struct strv engine_args;
	char *boot;        /* base disk or installer: absolute path or address; NULL = what lies at the usual places */
	int firmware;      /* enum firmware_kind; -1 = as the disk is */
	char *snapshot;    /* the disk becomes what it was then at each start; NULL = it goes on */
	bool ephemeral;    /* the machine begins anew at each start */
	uint64_t stop_ns;  /* from the signal to the end */
	int accel;         /* enum accel */
	bool console_page; /* the console, and the display where there is one, on a web page */
	uint16_t console_port; /* of the container, for that page */
	char *console_token;   /* who has it sees the page; wiped by settings_done(); NULL = the volume's own */
	bool debug;
	uint64_t relay_bytes; /* kernel memory that sockets for all ports may take; 0 = no bound, or none is taken */
};

/* What the container may use, for defaults and limits: cgroup and host. */
struct settings_host {
	uint64_t cpus;         /* at least 1 */
	uint64_t memory_bytes; /* of the cgroup, else of the host */
	bool limited;          /* @memory_bytes is a limit of the cgroup's */
	bool kvm;              /* /dev/kvm is there, and may be used by us */
	const char *shared;    /* directory that the guest sees unless told otherwise, if it is there; NULL = none */
};
/* Reads /proc and the cgroup file system of versions 1 and 2. */
void settings_host_read(struct settings_host *ret);

/* Reads the variables in @environment (NULL-terminated "NAME=value"); each NAME can come from the file that NAME_FILE names instead. Whatever is
 * wrong is appended to @problems, all of it, a line each with what would be right; a value is never repeated where it is secret. */
void settings_read(char *const *environment, const struct settings_host *host, struct settings *ret,
		   struct strv *problems);
void settings_done(struct settings *s);
/* Takes all that settings_read() reads, but TZ, out of @environment and overwrites it: neither what is spawned from now on nor who looks at this
 * process in /proc finds secrets there. The strings must be writable, as the process' own are. */
void settings_forget(char **environment);
#define _cleanup_settings_ _cleanup_(settings_done)
