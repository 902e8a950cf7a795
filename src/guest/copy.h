/* Copying trees out of and into the guest: a child process with one end of a copystream (wire/copytree.h) on its standard streams. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

struct sessions;

/* A session whose standard output is the stream. Errors: -ENOENT and others for @path. */
int copy_out_start(struct sessions *t, const char *id, const char *path, struct error *err);
/* A session that takes the stream on its standard input; on failure it says why on standard error and exits with 1.
 * Errors: those of opening @directory, -ENOTDIR. @rename may be NULL. */
int copy_in_start(struct sessions *t, const char *id, const char *directory, const char *rename, bool keep_owner,
		  struct error *err);
