/* Between the files of sessions only: session.c (their life, processes), session_stream.c (what goes in and out), session_dial.c
 * (connections). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/loop.h"
#include "guest/session.h"

struct request {
	uint32_t stream_id;
	uint32_t max;  /* read */
	uint8_t *data; /* write: owned */
	size_t len;
	struct request *next;
};

struct queue {
	struct request *first, **last; /* last NULL = empty from the start */
	unsigned n;
};

struct stream {
	struct session *session;
	int fd;                     /* owned; -EBADF = ended */
	struct loop_source *source; /* NULL while nobody ever waited */
	struct queue readers;
	struct buf kept; /* console sessions only */
	bool active;     /* bytes came since the last tick */
	bool abandoned;
	uint64_t read_ns; /* when the host read last, or the beginning */
};

struct session {
	struct sessions *table;
	char *id; /* owned; NULL once released */
	pid_t pid;
	bool exited;
	int status; /* of wait(2) */
	bool terminal;
	bool tee;
	bool is_socket;
	bool reserved; /* for a process that is being started: nobody finds it yet */
	struct stream out[2];
	int in; /* owned; -EBADF = none or closed */
	struct loop_source *in_source;
	struct queue writers;
	bool close_when_written;
	struct queue waiters;
	struct loop_source *timer; /* ticks after the exit; SIGKILL after a release */

	uint16_t port; /* dialling */
	bool dialling, dialling_v4;
	uint32_t dial_stream_id;
	bool dial_forgotten;

	struct session *next;
};

struct sessions {
	struct loop *loop;
	struct link *link; /* borrowed */
	struct session *first;
	unsigned n;
	int console; /* owned; opened at the first use */
	struct buf scratch;
};

/* session.c */
/* Errors: -ENOENT. */
struct session *session_find(struct sessions *t, const char *id, struct error *err);
/* Those who wait for its end, when that has come and its output is drained. */
void session_answer_waiters(struct session *s);
void session_close_input(struct session *s);
/* After the exit: looks again in a while whether its streams have ended. */
void session_tick_soon(struct session *s);
void session_stream_close(struct stream *o);
/* Errors: -EEXIST, -EMFILE. */
int session_new(struct sessions *t, const char *id, struct session **ret, struct error *err);
void session_free(struct session *s);
/* session_stream.c */
/* NULL when too many wait already. */
struct request *session_queue_add(struct queue *q, uint32_t stream_id);
void session_queue_pop(struct queue *q);
void session_queue_clear(struct queue *q);
/* Gives to those who wait what is there, or the end. */
void session_serve_readers(struct stream *o);
/* Nobody reads it, and nobody did for a while. */
bool session_unread(const struct stream *o);
void session_watch_output(struct stream *o, bool wanted);
/* Console sessions: takes output without being asked, up to a bound. */
void session_keep_output(struct stream *o);
