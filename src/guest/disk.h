/* The guest's disks: found by serial, mounted, grown. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct Skerry__Agent__V1__Disk;

/* Device node of the virtio block device with that serial ("/dev/vda"); waits for it up to @deadline_ns. Owned by the caller.
 * Errors: -ENODEV with the serial. */
int disk_find(const char *serial, uint64_t deadline_ns, char **ret_node, struct error *err);
/* Finds the disk and mounts it on @target (a path of the initrd's world); then makes its file system as large as the device when asked to. A
 * file system that cannot grow is appended to @errors, the mount stays. A root that is read-only gets a layer of memory above it. */
int disk_mount(const struct Skerry__Agent__V1__Disk *d, const char *target, uint64_t deadline_ns, struct buf *errors,
	       struct error *err);
