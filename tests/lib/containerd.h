/* A containerd of the test's own: root, state and sockets in the test's directory, with the shim of the build tree and the test's SKERRY_HOME. */
#pragma once

#include "cli.h"

/* The image that the tests run: busybox, `bb:latest` for ctr. */
#define CTD_IMAGE "docker.io/library/bb:latest"

/* Starts it, and imports the image. Skips the test where something is missing. It is stopped when the test's process ends; so is what it started. */
void ctd_start(void);
/* What its configuration ends with, from its next start on; borrowed. */
void ctd_configure(const char *more);
/* The same in a network and mount namespace of the test's own, with a CNI network configured: bridge, 10.77.0.0/24. */
void ctd_start_with_network(void);
/* And with Kubernetes' way in, the CRI plugin, whose runtime handler is "skerry"; the image is in its namespace, "k8s.io". */
void ctd_start_with_cri(void);
/* The namespace that ctr works in, another one for each test's process. */
const char *ctd_namespace(void);
/* Path of a client that scripts/test-clients.sh builds ("nerdctl", "crictl"), below SKERRY_TEST_CLIENTS; skips the test where there is none. Owned by
 * the caller. */
char *ctd_client(const char *name);
/* The pid of the containerd that runs. */
int ctd_pid(void);
/* Stops it, or kills it with @sig, and waits; starts it again with what it had. */
void ctd_stop(int sig);
void ctd_restart(void);
/* What it and its shims have logged; owned by the caller. */
char *ctd_log(void);
/* Waits until @text is in there: what a shim says is copied by containerd in its own time. */
void ctd_wait_log(const char *text);
/* ctr with these words (the last one NULL), within five minutes. */
struct cli ctr(const char *first, ...) __attribute__((sentinel));
/* ctr run --runtime io.containerd.skerry.v1 with these words; @input may be NULL. */
struct cli ctr_run(const char *input, const char *first, ...) __attribute__((sentinel));
/* Waits until a task's line of `ctr task ls` says @status. */
void ctd_wait_status(const char *id, const char *status);
/* Kills the task, and removes it and its container. */
void ctd_remove(const char *id);
/* How many addresses of ctd_start_with_network()'s network are given out. */
unsigned ctd_leases(void);
/* Waits until what runs of ours besides containerd is gone, nothing is mounted below its directories and no address is given out. Fails the test
 * otherwise. */
void ctd_nothing_left(void);
/* Pid of a process of ours by its name ("qemu-system-x86", "skerry-shim", "virtiofsd"), 0 = none. */
int ctd_process(const char *name);
/* A script in the test's directory; fails the test unless it succeeds, within ten minutes. */
void ctd_sh(const char *script);
