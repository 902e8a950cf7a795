/* A process in the guest, with this process's terminal or standard streams. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/memory.h"
#include "machine/client.h"

struct exec_options {
	const struct strv *args;
	const struct strv *env;
	const char *user; /* NULL = root */
	const char *cwd;
	bool terminal;
	bool interactive; /* pass standard input on */
};

/* Starts it and stays with it to its end: raw mode and window size for a terminal (put back on every way out), signals INT/TERM/HUP/QUIT passed on
 * without a terminal, back-pressure both ways, nothing lost at the end. *ret_status: exit status 0..255 as a shell would have it (128+N); where it could not be started, 127 (not found), 126 (not
 * executable) or 125. Errors: -ENOSPC, -EIO … its output cannot be written here (it gets PIPE); -EINTR ended by a signal
 * or by INT three times within 2 s: the process lives on. */
int exec_run(struct client *c, const struct exec_options *o, int *ret_status, struct error *err);
/* The same with a process that exists already (the main one: id "main"). */
int attach_run(struct client *c, const char *id, bool terminal, bool interactive, int *ret_status, struct error *err);
/* Standard streams <-> TCP port on the guest's loopback (ProxyCommand of ssh). Ends when either side does. */
int dial_run(struct client *c, uint16_t port, struct error *err);

/* Copies a file or tree: guest path -> host path and back, as cp -a would: into a directory that exists, else to that name. */
int copy_out(struct client *c, const char *guest_path, const char *host_path, struct error *err);
int copy_in(struct client *c, const char *host_path, const char *guest_path, struct error *err);
