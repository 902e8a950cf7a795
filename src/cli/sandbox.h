/* Work on what a hostile somebody wrote, in a child that can do nothing but compute, read the descriptors it was given and write into one:
 * no new privileges, no file opened, no network, no program executed, no executable memory (seccomp), memory and CPU time bounded. A
 * child that was taken over can lie about its result, no more. Linked into skerry-image only. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct sandbox {
	pid_t pid;
	int out_fd;    /* owned: what the child writes */
	int report_fd; /* owned: how it ended */
};
#define SANDBOX_INIT                                  \
	{                                             \
		.out_fd = -EBADF, .report_fd = -EBADF \
	}

/* Starts @fn, which writes its output to @out_fd and returns 0 or -errno with @err. @fds: what it reads; everything else is closed. */
int sandbox_start(struct sandbox *ret, const int *fds, size_t n_fds,
		  int (*fn)(int out_fd, void *data, struct error *err), void *data, struct error *err);
/* After the end of its output: did it succeed? @what names the work in the message for one that crashed. */
int sandbox_finish(struct sandbox *s, const char *what, struct error *err);
/* Ends it, if it still is there. */
void sandbox_done(struct sandbox *s);
