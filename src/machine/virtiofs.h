/* The server of a shared directory: virtiofsd, whichever of the two programs of that name is installed. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct virtiofs_request {
	const char *directory;                /* absolute */
	int log_fd;                           /* borrowed: its output */
	int death_signal;                     /* when the caller dies; 0 = none */
	int (*on_pid)(pid_t pid, void *data); /* before it runs, as struct spawn has it */
	void *data;
};

/* The program, NULL where there is none; *ret_qemu (may be NULL): it is QEMU's, with options of its own. Static string. */
const char *virtiofs_program(bool *ret_qemu);
#define VIRTIOFS_HINT "apt-get install qemu-system-common (Debian 12), or virtiofsd"

/* Starts it. *ret_socket: connected to it, for the engine (ENGINE_FD_SHARE); *ret_pidfd; both owned by the caller. It ends when its connection
 * does. What is mounted below the directory later is seen if the directory is a shared mount. Errors: kind UNAVAILABLE with a hint. */
int virtiofs_start(const struct virtiofs_request *q, int *ret_socket, int *ret_pidfd, struct error *err);
