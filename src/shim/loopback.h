/* Who connects to a pod's loopback on the host's side, in its network namespace, means its containers, which are elsewhere: `kubectl port-forward` is
 * served so by containerd. Each such connection is led to the same port of the guest's loopback. */
#pragma once

struct shim;
struct loopback;

/* @netns_fd is borrowed, and not needed afterwards. NULL: it cannot be had here, which is logged. */
struct loopback *loopback_new(struct shim *s, int netns_fd);
/* The guest's agent answers: those who wait are let in. Accepts NULL. */
void loopback_start(struct loopback *l);
struct loopback *loopback_free(struct loopback *l); /* ends all connections; accepts NULL; returns NULL */
