/* flock(2) locks whose holder can be named. The lock dies with its last descriptor; the file stays. */
#pragma once

#include <stdint.h>

#include "base/error.h"

/* Takes an exclusive lock on the file @name below @dirfd, created 0600 when missing, and writes "PID COMMAND" into it for others to
 * read. @what is the noun in messages ("machine 'web'"). @wait_ns: 0 = fail at once, UINT64_MAX = wait without end, else a deadline
 * from now (polled with growing pauses, at most 50 ms, as flock has no timed wait).
 * Returns the descriptor that holds the lock (CLOEXEC), owned by the caller; it may be passed to a child, which then shares the lock.
 * Errors: -EBUSY with holder's pid and command in the message (exit 75); errno of open. */
int lock_acquire(int dirfd, const char *name, const char *what, uint64_t wait_ns, struct error *err);
/* Writes the calling process and its command into a lock that it was passed, instead of those who took it. */
void lock_describe(int fd);
