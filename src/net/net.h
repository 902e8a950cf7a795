/* Networks of machines. A mode is one struct; adding one is a new file and one line in net.c's table. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"

/* One published port, "[IP:]HOST:GUEST[/tcp|/udp]"; HOST 0 picks a free one; IP defaults to 127.0.0.1, IPv6 in brackets. */
struct net_publish {
	char ip[46];
	uint16_t host_port;
	uint16_t guest_port;
	bool udp;
};
/* Errors: kind USAGE, saying which part is wrong. */
int net_publish_parse(const char *s, struct net_publish *ret, struct error *err);
/* Same form back, with the port in use; owned by the caller. */
char *net_publish_format(const struct net_publish *p);
/* Replaces host_port 0 by a free port and checks that the others are free: -EADDRINUSE (kind BUSY) naming address and port; a port below
 * net.ipv4.ip_unprivileged_port_start without the right: kind DENIED with a hint. */
int net_publish_resolve(struct net_publish *p, struct error *err);

/* Stable MAC from a machine id: locally administered, 52:54:00 never used (that prefix collides between tools): 02:… from SHA-free hash. */
void net_mac_from_id(const char *machine_id, unsigned index, char ret[18]);

struct net_request {
	const char *machine_id;
	const struct net_publish *publish; /* resolved */
	size_t n_publish;
	bool forwards; /* ports are led to the guest while it runs, which only the engine's own user networking does */
	bool guest_dhcp;     /* the guest asks by DHCP instead of being told; modes that cannot answer ignore it */
	const char *run_dir; /* absolute, for helper's logs */
	int log_fd;          /* borrowed: helper's output */
};

enum net_attach_kind { NET_ATTACH_NONE, NET_ATTACH_USER, NET_ATTACH_STREAM, NET_ATTACH_TAP };

/* What the engine and the guest need to know: pure data, made while planning. */
struct net_plan {
	enum net_attach_kind kind;
	char mac[18];
	struct strv host_forwards; /* NET_ATTACH_USER, QEMU's hostfwd form */
	struct strv addresses;     /* CIDR for the guest */
	bool dhcp;                 /* and DHCP gives it the same */
	char gateway[46];
	char gateway6[46];
	uint32_t mtu;
	struct strv dns;
	struct strv search;
	struct strv
		helper_argv; /* program to run beside (passt), with "%FD%" standing for its socket's number; empty = none */
	char helper_name[32];
};
void net_plan_done(struct net_plan *p);

struct net_mode {
	const char *name; /* "user", "none" */
	int (*plan)(const struct net_request *req, struct net_plan *ret, struct error *err);
	/* Acquires. @ret_fd: for the engine (STREAM, TAP), else -1; @ret_helper_pidfd and pid: started helper, else -1. The caller has recorded
	 * that a helper may exist before it calls. */
	int (*prepare)(const struct net_request *req, const struct net_plan *plan, int *ret_fd, pid_t *ret_helper_pid,
		       int *ret_helper_pidfd, struct error *err);
	/* Whatever prepare may have left outside the machine's own processes; idempotent. */
	void (*release)(const struct net_request *req, const struct net_plan *plan);
};
const struct net_mode *net_mode_find(const char *name);
const struct net_mode *net_mode_at(size_t i);
