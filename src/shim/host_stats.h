/* What a machine uses on the host: engine and file server, as their cgroup has it. Containers' own figures are the guest's (stats.h), as are their limits;
 * what a pod costs beside them is seen in the pod's cgroup on the host, where kubelets, and containerd's PodSandboxStats, look by themselves. */
#pragma once

#include <stdbool.h>

#include "base/buf.h"
#include "base/memory.h"

/* @cgroups: as host_cgroup_plan() gives them. Appends a packed io.containerd.cgroups.v2.Metrics; of a host with cgroups of version 1 it has processor
 * time, memory and processes. False: there is nothing to be read. */
bool host_stats_pack(const struct strv *cgroups, struct buf *out);
