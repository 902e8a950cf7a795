/* Containers of containerd in our runtime, beside the same in runc. */
#pragma once

#include "bench/peers.h"

#define BENCH_RUNTIME "io.containerd.skerry.v1"

/* Before the daemon is started: it finds our shim in @directory. */
void containers_prepare(const char *directory);
/* A file for containers_run() to read, in the root file system. */
int containers_add_file(const char *rootfs, const char *name, uint64_t bytes, struct error *err);
/* `ctr run --rm` of one shell command, with the daemon of @ctr; @runtime NULL = containerd's own. */
int containers_run(const struct peer *ctr, const char *runtime, unsigned nth, const char *script, uint64_t *ret_ns,
		   struct error *err);
/* Memory (proportional set size) of everything that runs for one container that waits; what its shim has for itself alone. */
int containers_memory(const struct peer *ctr, const char *runtime, uint64_t *ret_bytes, uint64_t *ret_shim_bytes,
		      struct error *err);
