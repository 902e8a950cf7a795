/* Between the files of containers only: container.c (their life), container_job.c (what crun is asked, and what it leaves running). */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "agent.pb-c.h"
#include "base/loop.h"
#include "base/memory.h"
#include "guest/container.h"
#include "guest/container_socket.h"

#define CONTAINER_DIRECTORY "/run/skerry/containers"

enum { CONTAINER_ENDED_MAX = 256 };

struct container {
	char *id;      /* owned */
	char *session; /* of its first process */
	struct strv mounts;
	struct container_sockets *sockets; /* owned, may be NULL */
	int events;                        /* inotify on its memory.events */
	struct loop_source *events_source;
	uint64_t oom_kills;
	bool deleting;
	struct container *next;
};

struct job {
	struct containers *table;
	pid_t pid;
	char *container; /* its id */
	char *session;   /* what is left running becomes this, NULL = nothing is */
	unsigned number; /* grows from one to the next */
	bool reserved;   /* a place for the session is kept */
	char *stem;      /* of its files: DIRECTORY/ID/NAME */
	uint32_t stream_id;
	bool forgotten; /* nobody waits for the answer any more */
	int in, out[2]; /* owned: our ends of the process's streams */
	int console;    /* owned: where crun sends the terminal */
	uint16_t rows, cols;
	void (*done)(struct job *j, int status);
	struct job *next;
};

/* A stranger that was reaped while jobs ran that leave a process: it may be theirs. */
struct ended {
	pid_t pid;
	int status;
	unsigned job; /* the youngest of that time: what later ones leave behind is another */
};

struct event {
	char *id;
	struct event *next;
};

struct containers {
	struct loop *loop;
	struct sessions *sessions;
	struct link *link;
	const char *crun; /* the program, borrowed */
	struct container *first;
	unsigned n;
	struct job *jobs;
	unsigned last_job;
	struct ended ended[CONTAINER_ENDED_MAX];
	unsigned n_ended;
	struct event *events;
	uint32_t event_waiter;
};

/* container_job.c */
struct job *job_new(struct containers *t, const char *container, const char *session, uint32_t stream_id,
		    void (*done)(struct job *j, int status));
void job_free(struct job *j);
/* Path of one of its files: "log", "pid", "sock", "json". Owned by the caller. */
char *job_file(const struct job *j, const char *suffix);
/* A file of the job's that crun reads. */
int job_write(const struct job *j, const char *suffix, const void *p, size_t n);
/* What crun is given as its three streams, which the container's process inherits; ours stay in @j. */
int job_make_streams(struct job *j, bool terminal, bool open_stdin, int stdio[3]);
void job_close_streams(int stdio[3]);
/* Before it runs: what it leaves behind will have a place among the sessions. */
int job_reserve(struct job *j, struct error *err);
/* Starts crun with @args (NULL-terminated) after its own options; its streams as @stdio, -1 = /dev/null. */
int job_run(struct job *j, const char *const *args, const int stdio[3], struct error *err);
/* Makes the process that it left a session. It may be over already. On error it is killed. */
int job_adopt(struct job *j, pid_t *ret_pid, struct error *err);
void job_answer(struct job *j, const ProtobufCMessage *m);
/* With what crun wrote about it, or @what. */
void job_answer_error(struct job *j, int num, const char *what);
