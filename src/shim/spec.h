/* A container's config.json (OCI runtime specification), as the host reads it and as the guest gets it. Pure: what is at the
 * paths that it names others look at. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "engine/engine.h"
#include "json/json.h"

enum spec_role {
	SPEC_ALONE,   /* a container with a VM of its own */
	SPEC_SANDBOX, /* a pod's: the VM, and no process in it */
	SPEC_MEMBER,  /* one of a pod's containers */
};

/* A bind mount, whose source the guest sees below the share. */
struct spec_bind {
	char *source; /* owned: the host's path */
	bool recursive, read_only;
	bool propagated; /* what the host mounts below it later is asked for */
	bool at_shm;     /* it is /dev/shm there */
	/* To be set by who has looked at it: */
	bool socket;
	uint64_t shm_bytes; /* it is the pod's, of this size (shm.h); 0 = it is not */
};

/* Limits of linux.resources; 0 = none. */
struct spec_size {
	uint64_t milli_cpus; /* thousandths of a processor */
	uint64_t memory_bytes;
};

struct spec_info {
	enum spec_role role;
	char *group;   /* owned: who shares its VM; the container's own id when it is alone */
	char *netns;   /* owned: path of the network namespace it is given; NULL: it wants one of its own, or */
	bool host_net; /* the host's */
	bool no_net;   /* "--network none" */
	bool user_net; /* user networking, whatever is configured */
	bool terminal;
	int oom_score;                            /* its first process's; what stands for a pod has none: 0 */
	char *hostname;                           /* owned, may be NULL */
	struct strv dns, dns_search, dns_options; /* as resolv.conf(5) has them; usually a file says so */
	char *cgroup;                             /* owned, may be NULL: linux.cgroupsPath on the host */
	/* What its processes may use. */
	struct spec_size size;
	/* The VM that it asks for; 0 = not said. */
	uint32_t cpus;
	uint64_t memory_bytes;
	bool fixed_cpus, fixed_memory; /* by annotation, not by its limits */
	/* Annotations io.skerry.* */
	uint32_t max_cpus;
	uint64_t max_memory_bytes;
	char *kernel; /* owned, may be NULL */
	bool has_shape;
	enum engine_shape shape;
	enum accel accel;
	struct spec_bind *binds; /* owned */
	size_t n_binds;
};
void spec_info_done(struct spec_info *i);
#define _cleanup_spec_ _cleanup_(spec_info_done)

/* Whose VM: read from annotations alone, for the choice of the shim's address. Owned by the caller. */
char *spec_group(const struct json *spec, const char *id);
/* Errors: kind DATA naming what is wrong. */
int spec_read(const struct json *spec, const char *id, struct spec_info *ret, struct error *err);

/* Where the guest has a container's files, and what its pod brings. */
struct spec_places {
	const char *id;
	const char *root;              /* file system */
	const char *share;             /* "/run/skerry/share/ID": mN is the bind mount of that number, */
	const char *sockets;           /* "/run/skerry/containers/ID": and sN when that is a socket */
	const char *shm;               /* what is mounted at /dev/shm, where that is the pod's */
	const struct json *parameters; /* linux.sysctl of what stands for its pod; NULL = none */
};
/* Appends the guest's config.json: root, bind mounts and cgroup (/skerry/ID) as @p says, and without what belongs to the
 * host (network namespace, hooks of the runtime, security modules, devices of the host, CPUs by number). @resolver: the guest's own resolv.conf is
 * the container's, unless something else is mounted there. */
void spec_for_guest(const struct json *spec, const struct spec_info *info, const struct spec_places *p, bool resolver,
		    struct buf *out);
/* The same for a process that joins: what the VM does not have is left out. */
void spec_process_for_guest(const struct json *process, bool terminal, struct buf *out);
/* And for linux.resources. */
void spec_resources_for_guest(const struct json *resources, struct buf *out);
/* Takes the limits that linux.resources names, also "none"; what it does not name stays. */
void spec_size_read(const struct json *resources, struct spec_size *ret);
/* Whole processors. */
uint32_t spec_size_cpus(const struct spec_size *s);
