/* What /etc/skerry/config.yaml says of containers: its section "containerd", and of the keys for machines those that are about the host. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "shim/hotplug.h"
#include "shim/spec.h"

struct shim_config {
	char *path; /* owned: the file's, whether it exists or not */
	/* What holds where annotations say nothing. */
	char *kernel; /* owned, may be NULL */
	bool has_shape;
	enum engine_shape shape;
	enum accel accel;
	/* Of a container without limits; 0 = the host decides. */
	uint64_t cpus, memory_bytes;
	uint64_t overhead_bytes; /* what the guest needs beside what its containers were promised */
	/* How large a machine may become when its containers are updated, or be by annotations; 0 = the host decides, and as large as it starts. */
	uint64_t max_cpus, max_memory_bytes;
	struct hotplug_policy cpu_hotplug, memory_hotplug;
};

/* Built in. */
void shim_config_init(struct shim_config *c);
void shim_config_done(struct shim_config *c);
#define _cleanup_shim_config_ _cleanup_(shim_config_done)

/* Takes what @text says; @path names it in errors. Errors: kind CONFIG (exit 78) with path and key: "/etc/skerry/config.yaml:
 * containerd.cpus: …". */
int shim_config_parse(const char *text, size_t len, const char *path, struct shim_config *ret, struct error *err);
/* Reads $SKERRY_CONFIG, which must exist then, else config.yaml of the configuration directory (store.h), if it exists. */
int shim_config_load(struct shim_config *ret, struct error *err);
/* Fills in what the container's annotations leave open: kernel, shape and accelerator. Sizes that they ask for end where the file's largest ones do.
 * Errors: kind DENIED, they ask for emulation where the file refuses it. */
int shim_config_apply(const struct shim_config *c, struct spec_info *i, struct error *err);
