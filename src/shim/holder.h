/* A process that stands for a container on the host: containerd's clients look at /proc/PID/ns/net for its network and at /proc/PID/root for its
 * files, and OCI hooks are told its pid. It does nothing and dies with the shim. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

#define HOLDER_NAME "skerry-holder" /* which it is called in /proc */

struct holder {
	pid_t pid; /* 0 = none */
	int pidfd; /* owned */
	int netns; /* owned: its network namespace */
};

/* @netns: path of the namespace to be in; NULL: one of its own, unless @host_net. @root_fd: directory that becomes its root, borrowed; negative = as it
 * is. Errors name the path. */
int holder_start(const char *netns, bool host_net, int root_fd, struct holder *ret, struct error *err);
void holder_end(struct holder *h);
