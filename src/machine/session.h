/* What runs in the guest under an id (a process, a dialled connection, a copy): its streams, joined to descriptors of this process.
 *
 * Streams are pulled: a Read is asked for only while less than one read's worth waits to be written here, a Write is answered with what the
 * guest took. So either side may be slow without anything piling up between. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "machine/client.h"

struct session {
	const char *id;
	int in_fd;          /* -1 = nothing is sent; end of file becomes CloseStdin */
	int out_fd, err_fd; /* streams 1 and 2; -1 = not read */
	bool wait;          /* ends when Wait has answered and the streams have ended; else with stream 1 */
	bool terminal;      /* the window's size follows in_fd's; TERM and HUP end the session (-EINTR) */
	bool signals; /* INT, TERM, HUP and QUIT are passed on; INT three times within 2 s ends the session (-EINTR) */
	bool end_on_broken; /* nobody reads out_fd any more: ends (-EPIPE). Else the process gets PIPE and the rest is dropped */
};

/* Blocks in the client's loop to the end. *ret_status (may be NULL): Wait's. Errors: -EINTR, -EPIPE as above; -ECONNRESET the machine or
 * its monitor has gone; -ENOSPC, -EIO … output could not be written, and the process got PIPE; what the guest answered. The session is not
 * released. */
int session_run(struct client *c, const struct session *s, int *ret_status, struct error *err);
/* Tells the guest to forget it; failures do not matter. */
void session_release(struct client *c, const char *id);
/* "PREFIX-" and random letters: unique among everybody who talks to that guest. Owned by the caller. */
char *session_new_id(const char *prefix);
