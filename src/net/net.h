/* Networks of machines. A mode is one struct; adding one is a new file and one line in net.c's table. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "net/takeover.h"

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
/* Does listening on it take CAP_NET_BIND_SERVICE in this network namespace? */
bool net_publish_is_privileged(const struct net_publish *p);

/* Stable MAC from a machine id: locally administered, 52:54:00 never used (that prefix collides between tools): 02:… from SHA-free hash. */
void net_mac_from_id(const char *machine_id, unsigned index, char ret[18]);

enum { NET_NICS_MAX = 16 }; /* as takeover.h and the guest have it */

struct net_request {
	const char *machine_id;
	const struct net_publish *publish; /* resolved */
	size_t n_publish;
	bool forwards; /* ports are led to the guest while it runs, which only the engine's own user networking does */
	uint16_t kept_port;  /* TCP; mode container: is not the guest's; 0 = none */
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
	bool privileged_ports;     /* among them are some that the engine needs CAP_NET_BIND_SERVICE for */
	struct strv addresses;     /* CIDR for the guest */
	bool dhcp;                 /* and DHCP gives it the same */
	char gateway[46];
	char gateway6[46];
	uint32_t mtu;
	struct strv dns;
	struct strv search;
	struct net_takeover taken; /* NET_ATTACH_TAP: these NICs, instead of what is said above but for names */
	struct strv
		helper_argv; /* program to run beside (passt), with "%FD%" standing for its socket's number; empty = none */
	char helper_name[32];
};
void net_plan_done(struct net_plan *p);

/* How many NICs a plan has. */
size_t net_plan_nics(const struct net_plan *p);

/* Network mode "container": where the guest reaches the stack of the namespace, and that the guest; nobody else takes part. Not among those that
 * hosts choose by themselves (RFC 3927, 2.1). */
#define NET_CONTROL_HOST   "169.254.255.1"
#define NET_CONTROL_GUEST  "169.254.255.2"
#define NET_CONTROL_PREFIX "30"
/* Where the stack finds a guest that was told its addresses by asking (net_takeover_control()), by either family; the stack's end is NET_CONTROL_HOST. */
#define NET_CONTROL_LEASED  "169.254.255.5"
#define NET_CONTROL_LEASED6 "169.254.255.6"
/* Where such a guest finds who answers it, and a router whose own address is not link-local: nobody else's, on the guest's side of a TAP only. */
#define NET_CONTROL_MAC                            \
	{                                          \
		0x02, 0x5c, 0xe4, 0xff, 0x00, 0x01 \
	} /* of both, and of NET_CONTROL_HOST */
#define NET_CONTROL_SIX    "fe80::5ce4:ffff:1"
#define NET_CONTROL_ROUTER "fe80::5ce4:ffff:2"

/* Is the network namespace that we are in a host's, or of what plays one: others' daemons are in it, and containers hang on it? */
bool net_is_hosts(void);

struct net_mode {
	const char *name; /* "user", "none", "container" */
	int (*plan)(const struct net_request *req, struct net_plan *ret, struct error *err);
	/* Acquires. @ret_fds: for the engine (STREAM, TAP), else -1, one for each NIC of the plan; there is room for one at least.
	 * @ret_helper_pidfd and pid: started helper, else -1. The caller has recorded that all this may exist before it calls. */
	int (*prepare)(const struct net_request *req, const struct net_plan *plan, int *ret_fds, pid_t *ret_helper_pid,
		       int *ret_helper_pidfd, struct error *err);
	/* Whatever prepare may have left outside the machine's own processes; idempotent. Recovery knows no plan. */
	void (*release)(const struct net_request *req);
};
const struct net_mode *net_mode_find(const char *name);
const struct net_mode *net_mode_at(size_t i);
