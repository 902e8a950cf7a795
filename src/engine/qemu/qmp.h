/* QMP client: the control channel of a running QEMU. Asynchronous on the event loop, with a deadline for every call.
 *
 * A connection greets, negotiates no capabilities, and is ready. Replies may come in any order; events come at any time. Whatever ends the
 * connection (end of file, a line above the limit, something that is not QMP) answers every pending call once and calls @closed once. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/loop.h"
#include "json/json.h"

/* A longer line ends the connection. */
#define QMP_LINE_MAX (8u << 20)

struct qmp;

/* @data: the event's "data" object or NULL; borrowed for the call. */
typedef void (*qmp_event_fn)(const char *event, const struct json *data, void *userdata);
/* Exactly one of @err and @value is NULL; both borrowed for the call. */
typedef void (*qmp_reply_fn)(const struct error *err, struct json *value, void *userdata);
typedef void (*qmp_closed_fn)(const struct error *why, void *userdata);

struct qmp_callbacks {
	qmp_event_fn event;   /* may be NULL */
	qmp_reply_fn ready;   /* may be NULL; called once: negotiated, or the error that prevented it */
	qmp_closed_fn closed; /* may be NULL; called once when the connection ends by itself, not by qmp_free() */
	void *userdata;
};

/* Takes the connected socket @fd (owned from now on, also on failure) and negotiates within @timeout_ns. Callbacks may free the
 * client. Errors: errno of the loop. */
int qmp_new(struct loop *loop, int fd, const struct qmp_callbacks *cb, uint64_t timeout_ns, struct qmp **ret,
	    struct error *err);

/* Closes the connection; pending calls are answered with -ECANCELED first. Accepts NULL; returns NULL. */
struct qmp *qmp_free(struct qmp *q);
DEFINE_CLEANUP(struct qmp *, qmp_free);

/* Sends a command; @arguments (an object, consumed; may be NULL). @fn (may be NULL) is called exactly once, possibly before this returns
 * when the connection is not ready or has ended (-ENOTCONN). Error of a refused command: -EIO with QEMU's description; after
 * @timeout_ns: -ETIMEDOUT (a late reply is then ignored). */
void qmp_call(struct qmp *q, const char *command, struct json *arguments, uint64_t timeout_ns, qmp_reply_fn fn,
	      void *userdata);

/* qmp_call() that turns @loop until the answer is there; *ret (may be NULL) is owned by the caller. For tests and tools: other
 * sources of the loop are served meanwhile. */
int qmp_call_wait(struct qmp *q, struct loop *loop, const char *command, struct json *arguments, uint64_t timeout_ns,
		  struct json **ret, struct error *err);
/* Turns @loop until the client is ready. */
int qmp_wait_ready(struct qmp *q, struct loop *loop, struct error *err);

/* The decoder alone: takes bytes as if the peer had sent them. Returns 0, or the negative errno that ended the connection: -EMSGSIZE,
 * -EBADMSG (not JSON), -EPROTO (not QMP). -ESHUTDOWN when it had ended before; -ECANCELED when a callback freed the client. */
int qmp_feed(struct qmp *q, const void *p, size_t n);
