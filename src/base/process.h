/* Who is a process: pid alone is reused, so records hold pid + start time + boot. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct process_id {
	pid_t pid;           /* 0 = none */
	uint64_t start_time; /* field 22 of /proc/PID/stat, clock ticks since boot */
};

/* Fills @ret for a process that exists now. Errors: -ESRCH. */
int process_identify(pid_t pid, struct process_id *ret);
/* A pidfd for exactly that process. Errors: -ESRCH when it has gone or another one has its pid. Owned by the caller. */
int process_open(const struct process_id *id);
bool process_alive(const struct process_id *id);
/* Its end has begun, or is over: it may have files and locks yet, but does nothing with them any more. */
bool process_ending(const struct process_id *id);
/* Sends @sig through a pidfd (pidfd_send_signal(2)). */
int pidfd_kill(int pidfd, int sig);
/* Waits until the pidfd's process has exited. Errors: -ETIMEDOUT. @deadline_ns as clock_poll_timeout(). */
int pidfd_wait_exit(int pidfd, uint64_t deadline_ns);
/* Reaps a child by pidfd (waitid(P_PIDFD)). @ret_status as waitpid's; may be NULL. Errors: -ECHILD, -EAGAIN still running. */
int pidfd_reap(int pidfd, int *ret_status);
/* 36 characters of /proc/sys/kernel/random/boot_id and a NUL; "" when unreadable. Cached. */
const char *boot_id(void);
/* "killed by signal 9 (KILL)", "exited with status 3" from a wait status. @out 64 bytes. */
const char *wait_status_text(int status, char *out, unsigned n);
/* Whether this process ignores @sig (SIG_IGN, as nohup(1) leaves it for HUP). Blocked it would be reported all the same: who waits for signals leaves
 * out what was to be ignored. */
bool signal_ignored(int sig);
/* kB of private memory (Private_Clean + Private_Dirty of /proc/PID/smaps_rollup), or PSS. */
int process_memory(pid_t pid, uint64_t *ret_private_bytes, uint64_t *ret_pss_bytes, uint64_t *ret_rss_bytes);
