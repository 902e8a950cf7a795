/* containerd-shim-skerry-v1: containerd's tasks, each or each pod of them in a virtual machine.
 *
 * main.c       flags and actions
 * bootstrap.c  "start": finds or makes the shim of a group, and prints where it listens; "delete": releases what a dead one left
 * serve.c      the shim itself: one loop, until containerd says Shutdown, or SIGTERM (ending.c)
 * task.c       the service containerd.task.v2.Task (and v3, which is the same)
 * sandbox.c    the service containerd.runtime.sandbox.v1.Sandbox; sandbox_options.c what it is told of a pod
 * container.c  containers: made, started, deleted
 * process.c    processes of them: their life, their streams (streams.c)
 * vm.c         the virtual machine, vm_watch.c what becomes of it; size.c how large it is, resize.c while it runs, hotplug.c by its load, config.c as
 *              the host's owner wishes; console_tail.c what its kernel said last
 * share.c      the files that it sees (mount.c); root.c what of a root file system it mounts itself (root_layers.c, root_tell.c); sockets.c the host's sockets
 *              (host_socket.c) that it connects to (tunnel.c joins the two), loopback.c those that connect to a pod's
 * shm.c        a pod's /dev/shm, which is the guest's
 * spec.c       the configuration that its runtime gets; holder.c, hooks.c what hosts expect
 * oom_score.c  who the host's kernel ends first
 * record.c     what must be released; registry.c by whom, when containerd does not
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
#include "shim/root.h"
#include "shim/server.h"
#include "shim/share.h"
#include "shim/sockets.h"
#include "shim/spec.h"
#include "shim/streams.h"
#include "shim/vm.h"

struct shim;
struct container;
struct loopback;

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
	bool made;                      /* the guest knows its session */
	uint32_t kill_wanted;           /* a signal for when it does, 0 = none */
	bool input_ended;               /* CloseIO was called, perhaps before its streams were there */
	bool drained;                   /* all that it wrote is out */
	bool started;                   /* its start was published */
	bool exited;                    /* the guest said so, or has gone */
	bool published;                 /* its exit was */
	struct loop_source *kill_timer; /* SIGKILL was sent: until when it must have ended */
	struct call *start;             /* the call that is to be answered, NULL = none */
	int start_call, wait_call;      /* of the agent, under way */
	struct waiter *waiters;
	struct waiter *asked; /* for its state, while the guest starts it */
	struct process *next;
};

struct container {
	struct shim *shim;
	char *id, *bundle;
	struct json *spec; /* config.json as it came */
	struct spec_info info;
	bool sandbox;      /* stands for a pod: no process in the guest */
	bool deferred;     /* its VM starts when it is started: its network may come until then */
	bool made;         /* the guest has it */
	bool shared;       /* mounted in the share */
	struct root *root; /* owned; its root file system, when the guest mounts it; else NULL */
	bool paused;
	int making;                             /* a call of the agent that makes or deletes it, under way */
	bool releasing;                         /* which gives back what it has in the guest */
	Containerd__CreateTaskRequest *request; /* owned; until it is made */
	struct call *create;                    /* to be answered when it is made */
	struct call *deletion;                  /* and when it is gone */
	struct sockets *sockets;                /* owned; NULL = none are mounted */
	struct holder holder;
	struct process *processes; /* the first one is the last in the list */
	struct container *next;
};

/* How long a guest may take. It may be emulated, on a host that is busy; or hung, or hostile. */
struct shim_limits {
	uint64_t boot_ns;   /* until its agent answers */
	uint64_t answer_ns; /* to a call, unless that waits for something */
	uint64_t signal_ns; /* to a signal, which is as good as sent when it was asked for */
	uint64_t
		kill_ns; /* from a SIGKILL to the end of a container's first process, when it has the machine to itself */
	uint64_t kill_shared_ns; /* and when others are in it, or of a process that joined */
	uint64_t silent_ns;      /* from a process's end to the ends of its streams, as long as nothing comes */
	uint64_t ending_ns;      /* for the containers to end in when the shim was told to */
	uint64_t write_back_ns;  /* and then for their disks */
};

struct shim {
	struct loop *loop;
	struct shim_limits limits;
	char *namespace, *id, *bundle, *share_dir, *guest;
	int bundle_fd;
	struct share *share; /* owned; on share_dir */
	struct server *server;
	struct events *events;
	struct shim_record record;
	struct shim_config config;
	bool configured;
	struct resize *resize; /* NULL before the VM */
	struct vm *vm;
	struct loopback *loopback; /* owned; NULL = none */
	bool vm_ended;
	char *vm_reason;
	struct container *containers;
	unsigned last_session;
	uint64_t guest_event_ns; /* when the guest told of one last, 0 = never */
	bool ending;             /* ending.c */
	uint64_t ending_deadline_ns;
	struct loop_source *ending_timer;
	bool shutting_down;
	struct loop_source *exit_timer, *term_source, *watch_timer;
	uint64_t exit_deadline_ns;
	/* The sandbox API. */
	char *sandbox_id;
	struct json *parameters; /* owned; linux.sysctl of the pod; NULL = none */
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
/* Starts the VM for a container of @info when there is none. @root: what of it are disks; NULL = none. */
int shim_need_vm(struct shim *s, const struct spec_info *info, const struct root *root, int netns_fd, const char *netns,
		 struct error *err);

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
/* The guest ends what is left of it, writes back and unmounts. Nothing of it changes on the host. */
void container_release(struct container *k);
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
/* Answers what it is; once it is that, when the guest is about to start it. */
void process_state(struct process *p, struct call *c);
/* A signal for one that the guest does not know yet: it ends before it has begun, at once or when it is made. False: neither can be. */
bool process_kill_early(struct process *p, uint32_t sig);
/* The guest has made it: what was wanted of it meanwhile. True: it ends. */
bool process_kill_made(struct process *p);
/* SIGKILL is on its way to it: where the guest does not end it in time, its VM is ended, or, when it joined a container, its end is told all the
 * same. */
void process_must_end(struct process *p);
/* The guest has its container: it is started there, for the call that waits. */
void process_start_made(struct process *p);
/* The call that waits for its start is told that there is none. */
void process_start_failed(struct process *p, const struct error *err);
int process_open_streams(struct process *p, struct error *err);
void process_vm_ended(struct process *p);
void process_free(struct process *p);
Containerd__Timestamp *process_timestamp(uint64_t ns, Containerd__Timestamp *t);

/* To the guest's agent: @done gets the answer, or -ETIMEDOUT after s->limits.answer_ns. Returns the call's number for guest_cancel(). Fails with
 * -ENOTCONN when there is no agent. */
int guest_call(struct shim *s, const char *method, const struct ProtobufCMessage *m, rpc_done_fn done, void *data,
	       struct error *err);
/* The agent's KillContainer: -ETIMEDOUT after s->limits.signal_ns already. */
int guest_signal(struct shim *s, const struct ProtobufCMessage *m, rpc_done_fn done, void *data, struct error *err);
/* The same for calls that wait for something to happen: their answer may take for ever. */
int guest_wait(struct shim *s, const char *method, const struct ProtobufCMessage *m, rpc_done_fn done, void *data,
	       struct error *err);
/* The call failed because the VM is ending, which container_vm_ended() tells everybody about, with its reason. */
bool guest_lost(const struct shim *s, const struct error *err);
/* A copy of what a call failed with, for people: @doing is what the guest should have done ("make container 'a'"). */
void guest_error(const struct shim *s, const struct error *err, const char *doing, struct error *ret);
/* Its @done will not be called; also while the connection's end answers one call after the other. 0: there is none. */
void guest_cancel(struct shim *s, int call);
