/* What the host asks about the guest as a whole, and tells it. */
#pragma once

#include <stdint.h>

struct Skerry__Agent__V1__StatsResponse;

/* Fills an initialised message; what cannot be read stays 0. */
void system_stats(struct Skerry__Agent__V1__StatsResponse *ret);
/* Steps the clock. Errors: -EINVAL, -EPERM. */
int system_set_time(uint64_t realtime_ns);
/* Forgets files that nobody has open, with what of them was read (proc(5), drop_caches). Blocks. */
int system_drop_caches(void);
/* FITRIM on every writable ext4 (or xfs, btrfs) that is mounted from a block device, each once. Errors: the first one, when none worked. */
int system_trim(uint64_t *ret_bytes);
