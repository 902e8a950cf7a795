/* The one way to start a program: an argv, never a shell. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"

struct spawn_fd {
	int from; /* borrowed descriptor of the parent */
	int to;   /* its number in the child */
};

struct spawn {
	const char *const *argv; /* NULL-terminated; argv[0] is looked up in PATH when it has no slash */
	const char *const *env;  /* NULL = the parent's */
	int stdio[3];            /* borrowed; -1 = /dev/null. Note: a zeroed struct would pass fd 0: use SPAWN_INIT */
	const struct spawn_fd *fds; /* every other descriptor is closed in the child */
	size_t n_fds;
	const char *cwd; /* NULL = the parent's */
	uid_t uid;       /* both set when drop_privileges */
	gid_t gid;
	const gid_t *groups; /* supplementary groups when drop_privileges */
	size_t n_groups;
	bool drop_privileges;
	int capability;   /* with drop_privileges: one of capabilities(7) that the program has all the same; 0 = none */
	bool new_session; /* setsid(2) */
	bool own_mounts; /* a mount namespace of its own, where that is permitted: what it mounts goes with its processes */
	bool foreground_tty; /* with new_session: stdio[0] becomes the controlling terminal */
	int death_signal;    /* PR_SET_PDEATHSIG, 0 = none */
	bool patient; /* begins with HUP, INT and TERM blocked: who sends those to everything leaves its end to us */
	bool keep_hangup;  /* HUP stays ignored where it is, as nohup(1) wants it */
	bool mask_signals; /* keep the parent's signal mask; default: empty mask, default dispositions */
	/* Called in the parent while the child waits before its exec, so that the pid is on record before the program runs. A negative
	 * return (and the parent's death) ends the child; spawn_start() then returns it. */
	int (*on_pid)(pid_t pid, void *data);
	void *on_pid_data;
	/* spawn_run() and spawn_check() hand standard output over as it comes; nothing of it is kept. */
	void (*on_out)(const char *p, size_t n, void *data);
	void *on_out_data;
};
#define SPAWN_INIT                      \
	{                               \
		.stdio = { -1, -1, -1 } \
	}

/* Starts it. Uses clone3/fork + an error pipe, so that a program that cannot be executed is an error here, naming it.
 * On success *ret_pid and *ret_pidfd (owned, CLOEXEC; either may be NULL).
 * Errors: -ENOENT (kind UNAVAILABLE, "NAME: not installed"), errno of what failed in the child. */
int spawn_start(const struct spawn *s, pid_t *ret_pid, int *ret_pidfd, struct error *err);

/* Runs it to its end: standard input from @input (may be NULL), standard output collected into @out and standard error into @errout
 * (each may be NULL, both capped at @limit; more is read and dropped). *ret_status is waitpid's.
 * After @timeout_ns (0 = none) it is killed: -ETIMEDOUT. */
int spawn_run(const struct spawn *s, const struct buf *input, struct buf *out, struct buf *errout, size_t limit,
	      uint64_t timeout_ns, int *ret_status, struct error *err);

/* As spawn_run(), and a status other than 0 is an error that carries the last line of standard error. */
int spawn_check(const struct spawn *s, const struct buf *input, struct buf *out, size_t limit, uint64_t timeout_ns,
		struct error *err);

/* Full path of a program in PATH plus /usr/sbin, /sbin, /usr/local/sbin. Owned by the caller; NULL when there is none. */
char *program_find(const char *name);
