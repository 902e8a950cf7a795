/* A cgroup's files as containerd's metrics. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* @payload: the guest's ContainerStatsResponse (hostile). Appends a packed io.containerd.cgroups.v2.Metrics; what cannot be read counts as 0. */
void stats_pack(const uint8_t *payload, size_t len, struct buf *out);
