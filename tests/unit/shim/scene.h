/* The shim, a process of its own, with one container "c1" in a virtual machine that is none: its agent is the test, which answers what it likes when it
 * likes, as a hostile or a hung guest would. */
#pragma once

#include "../../lib/shim_peer.h"
#include "agent.pb-c.h"
#include "shim/shim.h"
#include "test.h"

/* Why such a machine ends when its guest hangs up. */
#define ITS_REASON "the guest's kernel panicked: not syncing"

enum { METHODS = 16, READS = 8, ANSWER_S = 60 };

/* What the shim has when the test begins. */
struct scene {
	enum {
		RUNS,
		MADE,     /* the guest has it, and it was not started */
		DEFERRED, /* the guest is not told of it before its start */
	} container;
	bool output; /* has some */
	bool fifo;   /* which goes to a reader, not into a file */
	bool socket; /* one of the host's is mounted */
	struct shim_limits limits;
};

struct guest {
	pid_t pid; /* of the shim */
	int fd;
	struct buf in;
	struct {
		char name[32];
		uint32_t stream;
		unsigned times;
	} asked[METHODS];
	size_t n;
	uint32_t reads[READS]; /* not answered, the oldest first */
	size_t n_reads;
	struct shim_peer caller;
};

void begin(struct guest *g, const struct scene *scene);
/* The shim ends in an orderly way, or the test fails. */
void end(struct guest *g);

/* ---- The guest's side ---- */

/* Takes what has come, or comes next. */
void hear(struct guest *g);
/* Until the guest was asked @method: the last such request's stream. */
uint32_t asked(struct guest *g, const char *method);
/* For a while each @method is answered by @answer as soon as it comes: how often. */
unsigned answer_for_a_while(struct guest *g, const char *method, void (*answer)(struct guest *g, uint32_t stream));
/* @m may be NULL: Empty. */
void guest_answers(struct guest *g, uint32_t stream, const struct ProtobufCMessage *m);
/* A Wait is answered: with status 7. */
void guest_says_ended_to(struct guest *g, uint32_t stream);
void guest_says_ended(struct guest *g);
/* One byte for whoever has waited longest. */
void guest_says_a_byte(struct guest *g);
void hang_up(struct guest *g);

/* ---- containerd's side: calls of the service, whose streams are returned ---- */

uint32_t ask(struct guest *g, const char *method);
uint32_t ask_of(struct guest *g, const char *method, const char *exec);
uint32_t ask_signal(struct guest *g, const char *exec, uint32_t sig);
uint32_t ask_kill(struct guest *g);
/* Makes the process "e1", and asks for its start. */
uint32_t ask_exec(struct guest *g);
/* A process has joined, which the guest says. */
void add_exec(struct guest *g);
void assert_answer(struct guest *g, uint32_t stream, int code, const char *text);
void assert_exit(struct guest *g, uint32_t stream, uint32_t status);
