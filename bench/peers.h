/* What a user would pick instead, measured in the same run where it is installed. */
#pragma once

#include <stdbool.h>

#include "bench/measure.h"

struct peer {
	const char *name;    /* "ctr run --rm" */
	const char *missing; /* set by peer_start(): why it can't be measured; NULL = it can */
	struct server server;
	char *words
		[16]; /* owned; the command to be timed, NULL-terminated; "%ID%" in one of them is made unique for each run */
	char *after[16]; /* owned; run after each, not timed; NULL = nothing */
	char why[256];
};

/* Starts containerd or dockerd in a directory of its own below @scratch, with the busybox root file system @rootfs (a directory). */
void peer_start_ctr(struct peer *p, const char *scratch, const char *rootfs);
/* With a bridge where @bridge: for a network namespace of the caller's own only. */
void peer_start_docker(struct peer *p, const char *scratch, const char *rootfs, bool bridge);
/* Starts libvirtd for a session of its own, without root, with a domain "bench" that boots @kernel (a path) in a plain QEMU machine; what is
 * timed is virsh start, peer_after() ends the domain. */
void peer_start_virsh(struct peer *p, const char *scratch, const char *kernel);
int peer_run(struct peer *p, unsigned nth, uint64_t *ret_ns, struct error *err);
int peer_after(struct peer *p, struct error *err);
void peer_stop(struct peer *p);
