/* What containerd executes the shim's program for, beside the shim itself (containerd, docs/runtime-v2.md, "Commands"). */
#pragma once

#include "base/error.h"
#include "shim/args.h"

/* "start", in the bundle's directory: finds the shim of the container's group, or starts one, and prints its address. */
int shim_start(const struct shim_args *a, struct error *err);
/* "delete": releases what a shim that is gone left behind, and prints a DeleteResponse. Idempotent; nothing to do is success. */
int shim_delete(const struct shim_args *a, struct error *err);
/* "-info": what the runtime can do (containerd 2.0 and later). */
int shim_info(struct error *err);
