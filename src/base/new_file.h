/* A file for its user that is there whole or not at all: while it is written it has no name (O_TMPFILE of open(2)), so that nothing of it is
 * left however we end. On file systems that cannot do that it has one beside its place, which a kill leaves behind. */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "base/cleanup.h"

struct new_file {
	int fd;     /* owned; for reading and writing */
	char *path; /* owned */
	char *tmp;  /* owned; NULL = it has no name yet */
};
#define NEW_FILE_INIT ((struct new_file){ .fd = -EBADF })

/* For @path, relative to where we are. Errors: of open(2); -EISDIR, -ENOTSUP when what is there is a directory, or a device or the like. */
int new_file_open(struct new_file *f, const char *path, mode_t mode);
/* What was written reaches the disk and gets its name. @replace: it takes the place of what is there; else -EEXIST. */
int new_file_finish(struct new_file *f, bool replace);
/* Without new_file_finish() there is nothing. Safe to call twice. */
void new_file_done(struct new_file *f);
