/* A dockerd of the test's own: data, state and socket in the test's directory. DOCKER_HOST names it for every command that follows. */
#pragma once

#include "cli.h"

/* Starts it without networks: for images, and for containers that are not run. Skips the test where something is missing. It is stopped when the
 * test's process ends, its containers removed before. Call cli_home() first: what a daemon that was killed leaves running is found by it. */
void dockerd_start(void);
/* The same in a network and mount namespace of the test's own, in which bridges, published ports and networks of one's own work; the ports are
 * published on this process' 127.0.0.1. */
void dockerd_start_with_network(void);
/* Stops it, or kills it with @sig, and waits; starts it again with what it had. */
void dockerd_stop(int sig);
void dockerd_restart(void);
/* Builds image skerry/NAME there: "runtime", or "debian" with the runtime below it. Skips the test where there is nothing to build it from
 * (SKERRY_TEST_RUNTIME, made by scripts/test-runtime-image.sh), and in a chroot: runc enters a container's mount namespace, whose root is then
 * not the container's. */
void dockerd_image(const char *name);
/* A file of that directory: "tiny.qcow2", a base disk. Owned by the caller; skips the test like dockerd_image(). */
char *dockerd_runtime_file(const char *name);
/* docker with these words (the last one NULL), within ten minutes. */
struct cli docker(const char *first, ...) __attribute__((sentinel));
/* A script in the test's directory; fails the test unless it succeeds. */
void dockerd_sh(const char *script);
