/* What the files of vm.c share: the machine itself. vm.c plans and starts it, vm_watch.c hears what becomes of it. */
#pragma once

#include "engine/host_cgroup.h"
#include "image/kernel.h"
#include "machine/agent_link.h"
#include "machine/console.h"
#include "machine/engine_log.h"
#include "machine/guest_clock.h"
#include "machine/launch.h"
#include "shim/network.h"
#include "shim/vm.h"

struct vm {
	struct loop *loop;
	char *name, *id;
	const struct vm_events *events;
	void *data;
	struct shim_record *record; /* borrowed */
	int bundle_fd;              /* borrowed */
	int dir_fd, log_fd;         /* owned: BUNDLE/vm */
	struct engine_log *log_watch;

	const struct engine *engine;
	struct accel_probe probe;
	enum accel accel;
	char *program, *kernel_path, *initrd_path;
	struct kernel_meta kernel;
	struct engine_plan plan;
	struct vm_size size;

	struct vm_network network;
	int helper_pidfd;

	int share_pidfd, share_fd, engine_pidfd;
	struct loop_source *engine_source, *share_source, *helper_source;
	struct engine_vm *control;
	struct console *console;
	struct agent_link *agent;
	struct guest_clock *clock; /* once the agent has answered */
	uint8_t token[SYNC_TOKEN_SIZE];
	struct loop_source
		*overdue; /* its agent should answer by then; once that is lost, its engine should have ended */
	uint64_t boot_ns;
	int oom_score;
	char *end_reason; /* owned; why we ended it, NULL = we did not */
	bool ready, ended, killed, panicked, share_lost;
};

/* Each hears from now on of one part's end, which was started: the engine, the server of its files, the network's helper (none = nothing is done). */
int vm_watch_engine(struct vm *vm, struct error *err);
int vm_watch_share(struct vm *vm, struct error *err);
void vm_watch_helper(struct vm *vm);
/* Takes @fd, the engine's control socket, and hears what it tells. */
int vm_watch_control(struct vm *vm, int fd, struct error *err);
/* Takes @fd, the agent's socket: it must answer within boot_ns, and is not to be lost after that. */
int vm_watch_agent(struct vm *vm, int fd, struct error *err);
