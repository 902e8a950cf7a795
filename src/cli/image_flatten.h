/* A machine's delta and what lies below it become one disk without either: read in a confined child, as its guest wrote it. Linked into
 * skerry-image only. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "image/workshop.h"

struct flatten_request {
	const char *what; /* "machine 'web'" */
	int disk_fd;      /* borrowed: a qcow2 delta */
	int base_fd;      /* borrowed: what it is a delta over */
	bool base_qcow2;
};
/* Writes what the machine sees into a raw file of the workshop's, without a name. Returns its descriptor. Errors: -EBADMSG (kind DATA). */
int image_flatten(struct workshop *w, const struct flatten_request *r, struct error *err);
