/* Writing archives that carry one image; the save functions of two sources (image/source.h). @progress_fd: a terminal for a bar, -1 = silent. */
#pragma once

#include "image/oci.h"
#include "store/store.h"

int bundle_save_docker(const struct store *s, const struct oci_descriptor *manifest, const char *name,
		       const char *operand, int progress_fd, struct error *err);
/* The same into a descriptor (borrowed), which @what names in messages. */
int bundle_write_docker(const struct store *s, const struct oci_descriptor *manifest, const char *name, int fd,
			const char *what, int progress_fd, struct error *err);
int bundle_save_oci(const struct store *s, const struct oci_descriptor *manifest, const char *name, const char *operand,
		    int progress_fd, struct error *err);
