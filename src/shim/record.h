/* BUNDLE/skerry.json: what a shim acquired for its VM, written before each acquisition. Whoever has it can release everything, whatever became of
 * the shim: that is all that "delete" does. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "json/json.h"

#define SHIM_RECORD "skerry.json"

struct shim_record {
	char *boot_id;
	uint64_t shim_pid, shim_start;
	uint64_t engine_pid, engine_start;
	uint64_t share_pid, share_start;   /* virtiofsd */
	uint64_t helper_pid, helper_start; /* the network's */
	char *socket;                      /* path of the shim's address */
	char *link;                        /* and of its entry in the registry, NULL = none */
	char *netns;                       /* path of a namespace whose interfaces were taken over, NULL = none */
	/* A CNI network that was called for it: configuration and result as JSON. */
	char *cni_network, *cni_id, *cni_result;
	char *hooked; /* id of the bundle's container when its hooks have begun to run and "poststop" was not, NULL = none */
	struct strv cgroups; /* directories that were made, outermost first */
};
void shim_record_done(struct shim_record *r);

int shim_record_read(int bundle_fd, struct shim_record *ret, struct error *err);
int shim_record_write(int bundle_fd, const struct shim_record *r, struct error *err);
/* Ends and removes what @r names, unless it is of another boot: processes (but the caller), the socket, cgroups, and what a network gave (lease.h).
 * Idempotent; waits until @deadline_ns, for cgroups half a second at least. */
void shim_record_release(const struct shim_record *r, uint64_t deadline_ns);
