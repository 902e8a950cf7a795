/* Kernel modules that the initrd brings for a kernel that does not have all built in. */
#pragma once

#include "base/buf.h"

/* Loads what /modules/load lists: a path (from /modules) per line, parameters after a space. virtio_mmio gets the devices that the kernel's command line names.
 * What fails is appended to @errors, a line each. No list: nothing to do. */
void modules_load(struct buf *errors);
