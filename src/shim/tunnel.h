/* A connected stream socket of the host's and a session of the guest's agent, joined: what comes in at one goes out at the other, and either end is
 * closed by itself. */
#pragma once

struct shim;
struct tunnel;

/* Both ways have ended, or one end has gone; the tunnel is to be freed. Called from the loop, never from tunnel_new(). */
typedef void (*tunnel_done_fn)(void *data);

/* Owns @fd (non-blocking) and the session, which it releases at its end. NULL: out of resources; both are released then. */
struct tunnel *tunnel_new(struct shim *s, int fd, const char *session, tunnel_done_fn done, void *data);
struct tunnel *tunnel_free(struct tunnel *t); /* accepts NULL; returns NULL */
