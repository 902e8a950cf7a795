/* The server of a shared directory: virtiofsd, whichever of the two programs of that name is installed. */
#pragma once

#include <sys/types.h>

#include "base/error.h"

struct virtiofs_request {
	const char *directory;                /* absolute */
	int log_fd;                           /* borrowed: its output */
	int death_signal;                     /* when the caller dies; 0 = none */
	int (*on_pid)(pid_t pid, void *data); /* before it runs, as struct spawn has it */
	void *data;
};

/* Starts it. *ret_socket: connected to it, for the engine (ENGINE_FD_SHARE); *ret_pidfd; both owned by the caller. It ends when its connection
 * does. What is mounted below the directory later is seen if the directory is a shared mount. Errors: kind UNAVAILABLE with a hint. */
int virtiofs_start(const struct virtiofs_request *q, int *ret_socket, int *ret_pidfd, struct error *err);
