/* containerd-shim-skerry-v1: containerd's tasks, each or each pod of them in a virtual machine.
 *
 * main.c       flags and actions
 * bootstrap.c  "start": finds or makes the shim of a group, and prints where it listens; "delete": releases what a dead one left
 * serve.c      the shim itself: one loop, until containerd says Shutdown
 * task.c       the service containerd.task.v2.Task (and v3, which is the same)
 * sandbox.c    the service containerd.runtime.sandbox.v1.Sandbox
 * container.c  containers: made, started, deleted
 * process.c    processes of them: their life, their streams (streams.c)
 * vm.c         the virtual machine; size.c how large it is, resize.c while it runs, hotplug.c by its load, config.c as the host's owner wishes
 * share.c      the files that it sees; spec.c the configuration that its runtime gets; holder.c, hooks.c what hosts expect
 * record.c     what must be released
 * events.c, server.c, stats.c, host_stats.c   what goes out and comes in
 *
 * Nothing in it waits: an answer that needs the guest is given when the guest has answered. */
#pragma once

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/loop.h"
#include "containerd.pb-c.h"
#include "shim/config.h"
#include "shim/events.h"
#include "shim/holder.h"
#include "shim/hooks.h"
#include "shim/record.h"
#include "shim/resize.h"
#include "shim/server.h"
#include "shim/share.h"
#include "shim/spec.h"
#include "shim/streams.h"
#include "shim/vm.h"

struct shim;
struct container;

struct waiter {
	struct call *call;
	struct waiter *next;
};

struct process {
	struct container *container;
	char *exec_id; /* "" = the container's first */
	char *session; /* its name in the guest */
	char *stdin_path, *stdout_path, *stderr_path;
	bool terminal;
	struct buf spec; /* exec: the process object for the guest */
	Containerd__Status status;
	uint32_t pid;
	uint32_t exit_status;
	uint64_t exited_ns;
	struct streams *io;
	bool made;                 /* the guest knows its session */
	uint32_t kill_wanted;      /* a signal for when it does, 0 = none */
	bool input_ended;          /* CloseIO was called, perhaps before its streams were there */
	bool drained;              /* all that it wrote is out */
	bool started;              /* its start was published */
	bool exited;               /* the guest said so, or has gone */
	bool published;            /* its exit was */
	struct call *start;        /* the call that is to be answered, NULL = none */
	int start_call, wait_call; /* of the agent, under way */
	struct waiter *waiters;
	struct process *next;
};

struct container {
	struct shim *shim;
	char *id, *bundle;
	struct json *spec; /* config.json as it came */
	struct spec_info info;
	bool sandbox;  /* stands for a pod: no process in the guest */
	bool deferred; /* its VM starts when it is started: its network may come until then */
	bool made;     /* the guest has it */
	bool shared;   /* mounted in the share */
	bool paused;
	int making;                             /* a call of the agent that makes or deletes it, under way */
	Containerd__CreateTaskRequest *request; /* owned; until it is made */
	struct call *create;                    /* to be answered when it is made */
	struct call *deletion;                  /* and when it is gone */
	struct holder holder;
	struct process *processes; /* the first one is the last in the list */
	struct container *next;
};

struct shim {
	struct loop *loop;
	char *namespace, *id, *bundle, *share_dir, *guest;
	int bundle_fd;
	struct server *server;
	struct events *events;
	struct shim_record record;
	struct shim_config config;
	bool configured;
	struct resize *resize; /* NULL before the VM */
	struct vm *vm;
	bool vm_ended;
	char *vm_reason;
	struct container *containers;
	unsigned last_session;
	bool watching; /* a NextContainerEvent is on its way */
	bool shutting_down;
	struct loop_source *exit_timer, *term_source;
	uint64_t exit_deadline_ns;
	/* The sandbox API. */
	char *sandbox_id;
	bool sandbox_started, sandbox_stopping;
	struct call *sandbox_starting; /* to be answered when the VM answers */
	uint64_t created_ns, exited_ns;
	struct waiter *sandbox_waiters;
};

/* serve.c */
int shim_serve(const char *namespace, const char *id, int listen_fd, const char *socket_path);
/* Ends the process when the last answers and events are out, or after a few seconds. */
void shim_shut_down(struct shim *s);
struct container *shim_find(struct shim *s, const char *id);
/* Reads the configuration file, once, and fills in what it says of a container. */
int shim_configure(struct shim *s, struct spec_info *info, struct error *err);
/* Starts the VM for a container of @info when there is none. */
int shim_need_vm(struct shim *s, const struct spec_info *info, int netns_fd, const char *netns, struct error *err);

/* task.c */
extern const struct server_method shim_methods[];

/* container.c */
/* Answers @c now or when the guest has made it. */
void container_create(struct shim *s, const Containerd__CreateTaskRequest *q, struct call *c);
/* Makes sure of its VM; when the guest answers, it is made there. */
int container_need_vm(struct container *k, struct error *err);
/* The guest answers: makes those that wait for it. */
void container_vm_ready(struct container *k);
void container_vm_ended(struct container *k);
void container_delete(struct container *k, struct call *c);
void container_deleted(struct container *k);
struct process *container_init(const struct container *k);
struct process *container_process(const struct container *k, const char *exec_id);
/* Releases everything on the host's side. */
void container_free(struct container *k);
/* The pid that stands for it on the host. */
uint32_t container_pid(const struct container *k);

/* process.c */
struct process *process_new(struct container *k, const char *exec_id, bool terminal, const char *in, const char *out,
			    const char *err_);
void process_start(struct process *p, struct call *c);
/* After the guest has it: its streams and its end. */
int process_watch(struct process *p, struct error *err);
void process_exited(struct process *p, uint32_t status);
void process_wait(struct process *p, struct call *c);
/* A signal for one that the guest does not know yet: it ends before it has begun, at once or when it is made. False: neither can be. */
bool process_kill_early(struct process *p, uint32_t sig);
/* The guest has made it: what was wanted of it meanwhile. True: it ends. */
bool process_kill_made(struct process *p);
/* The guest has its container: it is started there, for the call that waits. */
void process_start_made(struct process *p);
/* The call that waits for its start is told that there is none. */
void process_start_failed(struct process *p, const struct error *err);
int process_open_streams(struct process *p, struct error *err);
void process_vm_ended(struct process *p);
void process_free(struct process *p);
Containerd__Timestamp *process_timestamp(uint64_t ns, Containerd__Timestamp *t);

/* To the guest's agent: @done gets the answer. Returns the call's number for rpc_cancel(). Fails with -ENOTCONN when there is none. */
int guest_call(struct shim *s, const char *method, const struct ProtobufCMessage *m, rpc_done_fn done, void *data,
	       struct error *err);
