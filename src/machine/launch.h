/* Starting an engine from its plan: descriptors opened, privileges dropped, the pid on record before its first instruction. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "engine/engine.h"

struct engine_launch {
	const char *what; /* for errors: "machine 'web'" */
	const char *id;   /* 32 hex digits: which user the engine becomes when root starts it */
	const struct engine_plan *plan;
	enum accel accel;
	int run_fd;         /* borrowed, as all: where its sockets are made */
	int log_fd;         /* its standard output and error */
	int boot_fd;        /* the boot configuration */
	const int *nic_fds; /* of engine_request.nics, by position */
	size_t n_nic_fds;
	const int *share_fds; /* of engine_request.shares, by position */
	size_t n_share_fds;
	const int *vhost_fd; /* what holds the VM's CID; NULL where the plan has none */
	uid_t uid;           /* which user it becomes when root starts it; 0 = one of its own */
	gid_t gid;
	int death_signal; /* when the caller dies; 0 = none: it outlives its monitor */
	/* It listens on ports that are root's (net_plan.privileged_ports): where root starts it, it keeps the one capability for that. */
	bool privileged_ports;
	/* The engine waits until this returned; <0 ends it. */
	int (*on_pid)(pid_t pid, void *data);
	void *data;
};

/* Opens what the plan wants and makes the sockets: the first half, so that the record can say what comes before the second. */
struct engine_fds {
	struct spawn_fd *fds; /* owned, and so is each .from that is not borrowed */
	bool *borrowed;
	size_t n;
};
int engine_fds_open(const struct engine_launch *l, struct engine_fds *ret, struct error *err);
void engine_fds_done(struct engine_fds *h);

/* *ret_pidfd is owned by the caller. *ret_uid: the engine's user, 0 = the caller's own. @on_pid is called after *ret_uid was set. */
int engine_launch(const struct engine_launch *l, const struct engine_fds *h, uint64_t *ret_uid, int *ret_pidfd,
		  struct error *err);
