/* A process's standard streams between the guest's agent and what containerd names: FIFOs, files, logging programs (containerd, docs/runtime-v2.md,
 * "IO"). Output is pulled from the guest as fast as it is taken here, and no faster; not a byte is held back or dropped. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "base/loop.h"
#include "machine/rpc.h"

struct streams;

struct streams_request {
	const char *in, *out, *err; /* "" = none; a path, "fifo://", "file://", "binary://PROGRAM?ARG=VALUE" */
	bool terminal;              /* standard error is part of standard output */
	const char *id, *namespace; /* for logging programs: the container's */
	const char *session;        /* of the agent; copied */
	uint64_t
		silent_ns; /* how long the guest may leave a stream without an end once the process is gone; four times that where more comes */
};

/* Opens the outputs that are named; nothing flows yet. Errors name what cannot be. */
int streams_open(struct loop *l, const struct streams_request *q, struct streams **ret, struct error *err);
/* Lets it flow. @drained is called once, when both outputs have ended and everything was written; or nobody took it for a while. */
void streams_start(struct streams *io, struct rpc *agent, void (*drained)(void *data), void *data);
/* Clients that write to a FIFO wait until somebody reads it, and say CloseIO when they have no more: which nobody hears before containerd knows the
 * task. So what is written is taken from the moment on that the process is started, not from when it is made. Idempotent. */
int streams_open_input(struct streams *io, struct error *err);
/* Whether one is named. */
bool streams_has_input(const struct streams *io);
/* What has been written to the input until now still reaches the process, then it reads its end. */
void streams_close_input(struct streams *io);
/* The guest is gone: what it has sent is still written, nothing more comes. */
void streams_guest_gone(struct streams *io);
/* The process is gone: outputs that nobody reads may hold it up no longer than a few seconds. */
void streams_process_gone(struct streams *io);
struct streams *streams_free(struct streams *io); /* accepts NULL; returns NULL */
