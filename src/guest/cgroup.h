/* A container's cgroup, version 2: /sys/fs/cgroup/skerry/ID (cgroup-v2.rst). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define CGROUP_PARENT "/sys/fs/cgroup/skerry"

/* Descriptor of the directory, or -errno. */
int cgroup_open(const char *id);
/* Writes one word into a file of it. */
int cgroup_write(const char *id, const char *file, const char *word);
/* Pids of it and of what is below it; *ret is owned by the caller. */
int cgroup_pids(const char *id, uint32_t **ret, size_t *ret_n);
/* The number behind @key in a file of "key number" lines; 0 when it is not there. */
uint64_t cgroup_number(const char *id, const char *file, const char *key);
/* Kills every process of it and removes it. What is still dying is waited for by nobody: false when it is still there. */
bool cgroup_remove(const char *id);
