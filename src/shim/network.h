/* A VM's network: the interfaces of the container's namespace where there are some (whoever made them: nerdctl's hooks, a CRI's plugins), else what a
 * configured CNI network puts there, else user networking, or none. */
#pragma once

#include "base/error.h"
#include "base/loop.h"
#include "machine/guest_interfaces.h"
#include "net/net.h"
#include "net/takeover.h"
#include "shim/record.h"
#include "shim/spec.h"

struct Skerry__Agent__V1__BootConfig;

struct vm_network {
	int netns_fd; /* owned, -1 = none */
	char *netns; /* owned: its path, where it is somebody's and its interfaces must be given back; NULL = it goes with us */
	bool began;                 /* to take over: there may be something to give back */
	int bundle_fd;              /* borrowed */
	struct shim_record *record; /* borrowed */
	struct net_takeover taken;
	struct guest_interfaces guest;
	/* Where nothing was taken over: */
	const struct net_mode *mode;
	struct net_request request;
	struct net_plan plan;
	struct engine_nic nic;
	struct Skerry__Agent__V1__Interface *interface;
	/* For the engine, by position; fds are owned. */
	const struct engine_nic *nics;
	int *fds;
	size_t n;
	struct strv dns, search, dns_options;
};

/* A path that leads to the namespace which this process is in asks for the host's, as dockerd writes it: none of its interfaces is for the guest. */
void network_find_host(struct spec_info *info);
/* What a CNI plugin is called for happens here already: its interfaces must be there before they can be read. @netns: the namespace's path, for
 * plugins; @machine_id and @record are borrowed until network_release(). Errors: kind BUSY the interfaces are another machine's already; CONFIG they
 * are a process's. */
int network_plan(struct vm_network *n, const struct spec_info *spec, int netns_fd, const char *netns, const char *id,
		 const char *machine_id, int log_fd, int bundle_fd, struct shim_record *record, struct error *err);
/* Makes the descriptors. *ret_helper: pidfd of a helper, -1 = none. */
int network_start(struct vm_network *n, pid_t *ret_helper_pid, int *ret_helper, struct error *err);
/* Fills in what the guest is told; borrows from @n. */
void network_tell(struct vm_network *n, struct Skerry__Agent__V1__BootConfig *c);
/* Once the engine has them. */
void network_close_fds(struct vm_network *n);
/* Gives the interfaces back. */
void network_release(struct vm_network *n);
