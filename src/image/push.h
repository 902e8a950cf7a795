/* An image into a registry: what it does not have yet, then the manifest. Source: the OCI distribution specification ("Push"). Linked into
 * skerry-image only. */
#pragma once

#include "base/progress_board.h"
#include "image/oci.h"
#include "image/registry.h"

/* Sends the blobs of @manifest (a blob of ours, as they are) that the registry lacks, and then the manifest under @tag (a digest where it is to have
 * no tag). @from, the other repository that @registry was opened with, may have them (NULL = none): what it lets us take is not sent. @registry was
 * opened for pushing. Errors: kind NOT_FOUND when a blob is not in our store; kind DATA when the registry says that it received something else. */
int push_image(struct registry *r, const struct store *s, const struct oci_descriptor *manifest, const char *tag,
	       const char *from, struct progress_board *board, struct error *err);
