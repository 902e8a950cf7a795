/* What the host has begun in the guest and reads from, writes to and waits for: processes, copies (a process, too) and connections to a
 * port of the guest.
 *
 * Output stays in the pipe until somebody reads it: that is all the back-pressure there is, and it keeps end-of-file in order with the data.
 * Only a session whose output goes to the console as well is read without being asked; what nobody fetched of it is kept up to a bound.
 *
 * After the process has exited its streams usually end at once. A grandchild that holds one open does not hold up the host for ever: a stream
 * somebody waits on ends when it was silent for a second after the exit, one that nobody reads no longer counts after ten. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/loop.h"
#include "guest/launch.h"
#include "guest/link.h"

#define SESSIONS_MAX     256U
#define SESSION_READ_MAX (1U << 20)

struct sessions;

struct sessions *sessions_new(struct loop *l);
/* Kills what lives. Accepts NULL; returns NULL. */
struct sessions *sessions_free(struct sessions *t);
/* Where answers go; borrowed, to be set before the first call. */
void sessions_set_link(struct sessions *t, struct link *k);
/* No request that came before will be answered. */
void sessions_forget_requests(struct sessions *t);
/* A child was reaped. True when it was a session's. */
bool sessions_reaped(struct sessions *t, pid_t pid, int wait_status);

/* Whether @pid is one's process, and was not reaped yet. */
bool sessions_have(const struct sessions *t, pid_t pid);

/* Starts a process under @id. Errors: -EEXIST; -EMFILE too many; as launch(). */
int session_launch(struct sessions *t, const char *id, const struct launch *l, bool tee_console, pid_t *ret_pid,
		   struct error *err);
/* Keeps a place for a process that somebody else is about to start: @id names nothing yet, and nobody else can have it. Errors: as those of
 * session_launch() before it launches. */
int session_reserve(struct sessions *t, const char *id, struct error *err);
/* Gives it up. */
void session_unreserve(struct sessions *t, const char *id);
/* The process that @id was reserved for runs, and is our child now: takes over @p's descriptors, also on error. Errors: -ENOENT not reserved. */
int session_adopt(struct sessions *t, const char *id, const struct launched *p, bool terminal, struct error *err);
/* Sends @sig to the process alone. Errors: -ESRCH when it has ended. */
int session_kill(struct sessions *t, const char *id, int sig, struct error *err);
/* Connects to @port of the loopback interface; answers request @stream_id (Empty) when that is done. */
int session_dial(struct sessions *t, const char *id, uint16_t port, uint32_t stream_id, struct error *err);
/* Makes @fd, a connected socket that does not block, a session; takes it over, also on error. */
int session_take(struct sessions *t, const char *id, int fd, struct error *err);

/* These answer @stream_id now or later, or return an error that the caller answers. Errors: -ENOENT no such session. */
int session_read(struct sessions *t, const char *id, unsigned stream, uint32_t max, uint32_t stream_id,
		 struct error *err);
int session_write(struct sessions *t, const char *id, const uint8_t *p, size_t n, uint32_t stream_id,
		  struct error *err);
int session_wait(struct sessions *t, const char *id, uint32_t stream_id, struct error *err);
/* These are done when they return. */
int session_close_stdin(struct sessions *t, const char *id, struct error *err);
int session_resize(struct sessions *t, const char *id, uint16_t rows, uint16_t cols, struct error *err);
int session_signal(struct sessions *t, const char *id, int sig, struct error *err);
int session_release(struct sessions *t, const char *id, struct error *err);
