/* The monitor: the one small process that owns a running machine (design: "Processes").
 *
 * monitor_main.c   arguments, signals, the loop, restarts
 * acquire.c        everything a run needs, in order, each recorded before it is acquired; and its release in reverse
 * firmware.c       what a boot by firmware needs beside the disks
 * monitor.c        what happens meanwhile: the engine's events, the guest's, the end
 * stop.c           ending a machine, from polite to final
 * main_process.c   the process that the machine was made for
 * requests.c       what commands ask
 * forward.c        ports of the guest that are asked for while it runs
 * hold.c           a machine that stands still for a command
 *
 * It holds the machine's lock from before the first acquisition to after the last release: "who owns this machine" is one question to
 * the kernel. All of it runs in one loop, without threads, and sleeps when nothing happens. */
#pragma once

#include "machine/agent_link.h"
#include "machine/console.h"
#include "machine/control.h"
#include "machine/engine_log.h"
#include "machine/guest_clock.h"
#include "machine/machine.h"
#include "machine/plan.h"

enum stop_step { STOP_NONE, STOP_ASK, STOP_QUIT, STOP_KILL };

struct wait_ticket {
	uint64_t ticket;
	int event;
	struct wait_ticket *next;
};

struct guest_forward;
struct ProtobufCMessage;

enum hold_stage { HOLD_NONE, HOLD_FREEZING, HOLD_PAUSING, HOLD_HELD, HOLD_RESUMING };

/* A command that makes the machine stand still: hold.c. */
struct hold {
	enum hold_stage stage;
	uint64_t peer, ticket; /* whose it is; what is still to be answered, 0 = nothing */
	int freeze_call;       /* the guest's answer that is waited for while it freezes */
	bool frozen;
	bool thaw_wanted; /* once the agent answers */
	uint64_t next_peer, next_ticket,
		next_timeout_ns; /* who asks while it begins to go on; next_ticket 0 = nobody */
};

struct monitor {
	struct store store;
	struct name name;
	int lock_fd, report_fd; /* owned; report_fd is closed once the outcome was reported */
	int machine_fd, run_fd; /* owned */
	int log_fd;             /* owned: engine.log */
	struct engine_log *log_watch;
	struct machine_spec spec;
	struct plan_facts facts;
	struct plan plan;
	struct loop *loop;

	struct machine_state state;
	struct json *state_tree;
	uint8_t token[SYNC_TOKEN_SIZE];

	int engine_pidfd;
	bool engine_is_child; /* else adopted: its exit status can't be known */
	bool adopting;        /* until all of what was found is in hand */
	struct loop_source *engine_source, *helper_source, *term_source, *int_source;
	int helper_pidfd;
	struct guest_clock *clock;
	struct engine_vm *vm;
	struct console *console;
	struct agent_link *agent;
	struct vsock_listener *vsock; /* where the agent calls; NULL: it is reached by a socket of the engine's */
	int vhost_fd, vsock_fd;       /* until the engine and the listener have them */
	struct control *control;

	/* How it ends. */
	enum stop_step stop;
	const char *stop_how; /* which step did it, for the record */
	uint64_t stop_deadline_ns;
	uint64_t stop_main_ns; /* until then the main process may end by its own signal; 0 = it was not sent */
	bool guest_asked;      /* to shut down, by whichever way */
	struct loop_source *stop_timer, *useless_timer;
	char *useless; /* owned: why the engine cannot be controlled, NULL while it can */
	bool guest_ending, guest_reboots, guest_panicked, guest_reset, guest_shut_down;
	bool forget; /* --rm and the main process is done: nothing on the disks matters */
	bool restart_wanted;
	bool asked;     /* somebody wants the end, however it then comes */
	bool reverting; /* it ends to begin anew from a snapshot */
	bool engine_gone;
	int engine_status; /* wait status when engine_is_child */
	char *exit_reason;
	bool exit_failed;

	/* The main process. */
	bool attach; /* a command said that it will read its output */
	bool main_started, main_exited;
	bool main_ended_by_stop; /* not its own end: the guest was already asked to end everything */
	int main_status;
	bool draining[3]; /* a Read of stream 1 or 2 is on its way */

	struct wait_ticket *waits;
	struct hold hold;
	struct guest_forward *forwards;
};

/* acquire.c */
/* Random numbers, and the keys where the image has an ssh server. */
int monitor_read_secrets(struct monitor *m, struct boot_secrets *b, struct error *err);
int monitor_acquire(struct monitor *m, struct error *err);
/* A failure leaves @adopting set: nothing of what runs may be ended for it, see monitor_let_go(). */
int monitor_adopt(struct monitor *m, struct error *err);
/* Forgets what runs, ends nothing of it and leaves its record: the next who takes the lock recovers from there. */
void monitor_let_go(struct monitor *m);
/* Releases what the run holds, in reverse, and forgets the record. Idempotent. */
void monitor_release(struct monitor *m);
int monitor_save_state(struct monitor *m, struct error *err);

/* firmware.c: variables and seed, where the plan wants them. */
int monitor_prepare_firmware(struct monitor *m, struct error *err);

/* monitor.c */
extern const struct agent_link_events monitor_agent_events;
void monitor_engine_event(enum engine_event ev, const char *detail, void *data);
void monitor_engine_ready(const struct error *err, uint64_t value, void *data);
int monitor_engine_exited(struct loop_source *s, int pidfd, void *data);
int monitor_helper_exited(struct loop_source *s, int pidfd, void *data);
void monitor_clock_changed(void *data);
void monitor_report(struct monitor *m, const struct error *err);
void monitor_wake_waits(struct monitor *m);
/* After an end that nobody asked for. */
bool monitor_policy_restarts(const struct monitor *m);
/* Whether the reset that ended the guest was a reboot. What boots without firmware has our agent, which announces each one, and a kernel that
 * resets when it panics: a reset without notice is that. */
bool monitor_reset_was_meant(const struct monitor *m);
/* After the loop has ended with the engine gone: what to write down. */
void monitor_conclude(struct monitor *m);

/* stop.c */
void monitor_begin_stop(struct monitor *m, uint64_t timeout_ns);
/* Somebody asked a monitor that is dead by now. */
void monitor_stop_adopted(struct monitor *m);
/* The guest is asked at once, not at the next tick. */
void monitor_stop_now(struct monitor *m);
void monitor_kill(struct monitor *m);

/* main_process.c */
void monitor_start_main(struct monitor *m);
void monitor_main_released(struct monitor *m);
/* False when it does not run. */
bool monitor_signal_main(struct monitor *m, int number);

/* hold.c */
void monitor_hold(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len);
void monitor_unhold(struct monitor *m, uint64_t ticket);
/* It goes on, whoever held it. */
void monitor_hold_release(struct monitor *m);
void monitor_hold_peer_gone(struct monitor *m, uint64_t peer);
/* After an adoption, once the engine answers. */
void monitor_hold_adopted(struct monitor *m);
void monitor_hold_agent_ready(struct monitor *m);

/* forward.c */
void monitor_forward(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len);
void monitor_unforward(struct monitor *m, uint64_t ticket, const uint8_t *payload, size_t len);
/* From the record, after an adoption. */
void monitor_forwards_adopt(struct monitor *m);
/* The engine is gone, and with it what it led. */
void monitor_forwards_forget(struct monitor *m);

/* requests.c */
void monitor_reply(struct monitor *m, uint64_t ticket, const struct ProtobufCMessage *message);
extern const struct control_handler monitor_control_handler;
