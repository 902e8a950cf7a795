/* The guest's disks: found by serial, mounted, grown. */
#pragma once

#include <stdint.h>

#include "base/buf.h"
#include "base/error.h"

struct Skerry__Agent__V1__Disk;

/* Where the file system above a read-only root is mounted, for what is about disks: making it read-only at the end, freezing, trimming. What is
 * in /run/initramfs systemd leaves alone until its last program makes all disks read-only (systemd.mount(5), mount_is_extrinsic()). */
#define DISK_DELTA "/run/initramfs/skerry/delta"

/* Device node of the virtio block device with that serial ("/dev/vda"); waits for it up to @deadline_ns. Owned by the caller.
 * Errors: -ENODEV with the serial. */
int disk_find(const char *serial, uint64_t deadline_ns, char **ret_node, struct error *err);
/* Finds the disk and mounts it on @target (a path of the initrd's world); then makes its file system as large as the device when asked to. A
 * file system that cannot grow is appended to @errors, the mount stays. A root that is read-only gets another file system above it: that of the
 * disk @upper, or one of memory. */
int disk_mount(const struct Skerry__Agent__V1__Disk *d, const char *target, uint64_t deadline_ns, struct buf *errors,
	       struct error *err);
