/* A whole disk that boots by firmware becomes an image: what importing one and installing one end with. */
#pragma once

#include <stdint.h>

#include "image/workshop.h"

struct sealed_disk {
	uint64_t bytes;     /* virtual size */
	const char *source; /* for people: "disk noble.img", "installer debian.iso" */
	const char *user;   /* who logs in; NULL = dev */
};
/* disk.qcow2 in the workshop is sealed, and what is beside it. The caller holds blob_lock() shared. *ret_digest is owned by the caller. */
int image_seal_disk(struct workshop *w, const char *name, const struct sealed_disk *d, char **ret_digest,
		    struct error *err);
