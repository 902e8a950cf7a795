/* Machines: create, start, look at, delete. What a running machine does on request goes through machine/client.h. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/process.h"
#include "machine/spec.h"

enum machine_status {
	MACHINE_CREATED, /* never started */
	MACHINE_STARTING,
	MACHINE_RUNNING,
	MACHINE_PAUSED,
	MACHINE_STOPPING,
	MACHINE_STOPPED,
	MACHINE_FAILED, /* the engine died, the guest crashed, or it could not be started: see exit_reason */
	MACHINE_STATUS_MAX,
};
const char *machine_status_name(enum machine_status s); /* "running" */

/* run/NAME/state.json: what a monitor acquired. Written before each acquisition; recovery works from it alone. */
struct machine_state {
	char *boot_id;
	int status; /* enum machine_status: STARTING, RUNNING, PAUSED, STOPPING */
	uint64_t monitor_pid, monitor_start;
	uint64_t engine_pid, engine_start;
	uint64_t helper_pid, helper_start; /* the network's */
	char *engine;                      /* "qemu" */
	char *accel;                       /* "tcg" */
	char *accel_why;                   /* why not kvm, NULL under kvm */
	char *shape;
	char *kernel;                  /* name */
	char *net;                     /* mode that is in use */
	struct strv publish;           /* with the ports in use */
	struct strv cgroups;           /* directories of the engine's own; empty = it is where its monitor is */
	struct strv forwards;          /* published later, while it runs; with the ports in use */
	char *token;                   /* hex; secret */
	uint64_t vsock_cid;            /* the agent's way, and the port that it dials; 0 = virtio-serial */
	uint64_t uid;                  /* the engine's user, 0 = the monitor's own */
	uint64_t started_ns, ready_ns; /* CLOCK_REALTIME; 0 = not yet */
	uint64_t stop_until_ns;        /* CLOCK_REALTIME; when a guest that is asked to end has had its time */
	uint64_t restarts;
	uint64_t policy_restarts; /* of these, one after the other, those that only the restart policy wanted */
	bool agent_ready;
	bool held;        /* a command has it stand still */
	char *paused_why; /* why the engine stopped the guest; NULL where somebody asked for it */
};
extern const struct json_field machine_state_fields[];
void machine_state_done(struct machine_state *s);

#define EXIT_POWERED_OFF "powered off by the guest"

/* machines/NAME/exit.json: how the last run ended. */
struct machine_exit {
	uint64_t ended_ns;
	uint64_t started_ns;
	uint64_t status; /* main process's exit status when has_status */
	bool has_status;
	bool failed;
	char *reason; /* "powered off by the guest", "stopped by the agent", "killed by signal 9 (KILL)" */
};
extern const struct json_field machine_exit_fields[];
void machine_exit_done(struct machine_exit *e);

/* Everything known about a machine without touching it. */
struct machine_info {
	struct machine_spec spec;
	enum machine_status status;
	bool monitor_alive;
	struct machine_state state; /* when not CREATED, STOPPED or FAILED */
	struct machine_exit exit;   /* of the last run, when has_exit */
	bool has_exit;
};
void machine_info_done(struct machine_info *i);
#define _cleanup_info_ _cleanup_(machine_info_done)
/* Read-only and quick: records and /proc only, no lock. Errors: -ENOENT (kind NOT_FOUND); -EBADMSG (kind DATA) naming file and key. */
int machine_info_load(const struct store *s, const struct name *name, struct machine_info *ret, struct error *err);

/* Makes a machine from @spec (image and sizes as asked; id, digests and times are filled in here): built under a temporary name and renamed, so
 * that it exists whole or not at all. Errors: EXISTS; NOT_FOUND image; USAGE (machine_spec_check). @durable false for --rm machines. */
int machine_create(const struct store *s, struct machine_spec *spec, bool durable, struct error *err);

/* Gives a machine that does not run the settings of @wanted: cpus, memory, ssh keys, user, hostname, password, user data, publish, net, accel,
 * firmware, name servers, time zone, shares, the engine's words, a draft's installer (NULL = its drive is gone), and a system disk that is larger than the one it has (smaller changes nothing). What makes it the machine that it is - name, id, image,
 * kernel, shape - stays. Errors: NOT_FOUND; BUSY while it runs; USAGE (machine_spec_check). */
int machine_update(const struct store *s, const struct machine_spec *wanted, struct error *err);

struct start_options {
	uint64_t lock_wait_ns; /* 0 = fail at once with BUSY */
	bool hold_main;        /* the main process waits for a client to attach before it starts */
};
/* Starts a monitor and returns when vCPUs run, or with the exact failure. A running machine: 0 and *ret_already. Recovers first what a dead
 * monitor left. */
int machine_start(const struct store *s, const struct name *name, const struct start_options *o, bool *ret_already,
		  struct error *err);

/* What a crash has left of its last run is released, and a machine whose policy is always is started again; an engine that lives gets a new
 * monitor. What somebody looks after stays as it is. */
enum machine_revival { MACHINE_AS_IT_WAS, MACHINE_RELEASED, MACHINE_ADOPTED, MACHINE_STARTED };
int machine_revive(const struct store *s, const struct name *name, enum machine_revival *ret, struct error *err);

/* Cuts the power of a machine that lost its monitor and cannot be given another one. What a monitor looks after is kind BUSY; what does not run is
 * success. */
int machine_end(const struct store *s, const struct name *name, struct error *err);

/* Stops first when @force, else a running machine is kind BUSY. Always possible: also for a damaged record. */
int machine_delete(const struct store *s, const struct name *name, bool force, uint64_t lock_wait_ns,
		   struct error *err);

/* What would be executed, as JSON; no side effect. Consumer frees. */
int machine_plan_json(const struct store *s, const struct name *name, struct json **ret, struct error *err);

/* Who uses an image digest or a kernel: 1 with *ret_by (owned by the caller), 0 nobody, <0. @data is a const struct store *. */
int machine_uses_image(const char *digest, char **ret_by, void *data);
int machine_uses_kernel(const char *kernel, char **ret_by, void *data);

/* Paths of design "On disk", owned by the caller: "" (directory), "system", "home", "console.log", "engine.log", "run", "spec".
 * Errors: kind USAGE for an unknown resource, listing those that exist. */
int machine_path(const struct store *s, const struct name *name, const char *resource, char **ret, struct error *err);

/* The client key of skerry ssh (made at first need), and a machine's known_hosts file. Absolute, owned by the caller. */
int machine_ssh_key(const struct store *s, char **ret_private_path, char **ret_public_line, struct error *err);
char *machine_known_hosts_path(const struct store *s, const struct name *name);
