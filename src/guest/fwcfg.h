/* Files that QEMU hands to the guest (docs/specs/fw_cfg), by port I/O: no driver is needed, which a distribution's kernel has as a module. */
#pragma once

#include <stddef.h>

#include "base/buf.h"

/* Appends the file's content. Falls back to the driver's directory in sysfs. Errors: -ENODEV no such device; -ENOENT no such file;
 * -EFBIG above @limit. Needs root. */
int fwcfg_read(const char *name, size_t limit, struct buf *out);
