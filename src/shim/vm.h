/* The virtual machine behind a shim: engine, shared directory, network and agent, all in the shim's one loop. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/loop.h"
#include "engine/engine.h"
#include "machine/rpc.h"
#include "shim/record.h"
#include "shim/root.h"
#include "shim/size.h"
#include "shim/spec.h"

#define VM_SHARE_TAG       "share"
#define VM_SHARE_GUEST     "/run/skerry/share"      /* where the guest sees the shared directory */
#define VM_CONTAINER_GUEST "/run/skerry/containers" /* what its agent has of containers, each by its id */
#define VM_SHM_GUEST       "/run/skerry/shm"        /* where it mounts a pod's /dev/shm, for each container by its id */
#define VM_ROOT_GUEST \
	"/run/skerry/root" /* and where it mounts what their root file systems are made of, each by its id */

struct vm;

struct vm_request {
	const char *id;        /* of the shim's group */
	const char *name;      /* for people: namespace and id */
	int bundle_fd;         /* borrowed */
	const char *bundle;    /* its path, absolute */
	const char *share_dir; /* the shared directory on the host, absolute */
	const char *guest;     /* the guest's program, absolute */
	const struct spec_info *spec;
	const struct root *root; /* what of it are disks; NULL = none */
	const struct vm_size *size;
	int netns_fd;      /* borrowed: whose interfaces the guest takes over; -1 = none */
	const char *netns; /* its path, for CNI plugins; NULL = none */
	uint64_t boot_ns;  /* how long until its agent must answer */
};

struct vm_events {
	/* The agent answers: calls may be made. @error: what of the boot configuration could not be applied, "" = nothing. */
	void (*ready)(const char *error, void *data);
	/* It is gone, for whatever reason; called once, also when it never became ready. Nothing of it is left but vm_free(). */
	void (*ended)(const char *reason, void *data);
};

/* Starts it; what it acquires goes into @record first. @events is borrowed. */
int vm_start(struct loop *l, const struct vm_request *q, struct shim_record *record, const struct vm_events *events,
	     void *data, struct vm **ret, struct error *err);
/* For calls to the guest's agent; NULL unless ready. */
struct rpc *vm_agent(const struct vm *vm);
/* Forgets a call to the agent, whether or not it is still there. */
void vm_cancel(struct vm *vm, int call);
pid_t vm_pid(const struct vm *vm);
/* Its network brings name servers that nobody tells the container of. */
bool vm_resolves(const struct vm *vm);
/* Ends it at once; nothing on its disks is lost that the guest has unmounted. `ended` is called soon. */
void vm_kill(struct vm *vm);
/* The same for one that does not do as it should: @reason is told as that of its end. */
void vm_end(struct vm *vm, const char *reason);
/* What the guest should keep of the memory that it was started with; it takes a while. Errors are logged. */
void vm_set_memory(struct vm *vm, uint64_t bytes);
/* Bytes that it has kept. */
void vm_memory(struct vm *vm, engine_done_fn done, void *data);
/* The engine's, and that of what helps it (oom_score.h). */
void vm_set_oom_score(struct vm *vm, int score);
/* Releases everything, ends what still runs. Accepts NULL; returns NULL. */
struct vm *vm_free(struct vm *vm);
