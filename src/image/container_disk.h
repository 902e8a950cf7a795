/* A whole disk in OCI form, as KubeVirt has it ("containerDisk"): one layer that holds nothing but disk/NAME.qcow2 or disk/NAME.img, and after it
 * what an image of ours can have beside its disk: disk/home.qcow2 and disk/nvram. Linked into skerry-image only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "image/tar.h"

enum { CONTAINER_DISK, CONTAINER_HOME, CONTAINER_NVRAM, CONTAINER_DISK_FILES };
struct container_file {
	int fd;             /* borrowed: empty */
	uint64_t max_bytes; /* no more is taken */
	bool found;         /* set on success */
};
/* Writes what the layer has into @files, holes for zeros. Returns 1, or 0 when the layer is no such one: what the files hold then means nothing.
 * Errors: as reading the layer; -EFBIG (kind DATA) above a file's limit. */
int container_disk_extract(struct tar *t, struct container_file files[CONTAINER_DISK_FILES], struct error *err);
