/* A whole disk in OCI form, as KubeVirt has it ("containerDisk"): one layer that holds nothing but disk/NAME.qcow2 or disk/NAME.img. Linked
 * into skerry-image only. */
#pragma once

#include "base/error.h"
#include "image/tar.h"

/* Writes the disk into the empty file @fd, holes for zeros. Returns 1, or 0 when the layer is no such one: what @fd holds then means nothing.
 * Errors: as reading the layer; -EFBIG (kind DATA) above @max_bytes. */
int container_disk_extract(struct tar *t, int fd, uint64_t max_bytes, struct error *err);
