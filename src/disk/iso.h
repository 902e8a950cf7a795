/* ISO 9660 images with Joliet and Rock Ridge, so that every guest reads the same names: seeds and installers' answers. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/error.h"

struct iso;

/* Begins an image with volume name @label (1 to 16 of A-Z, 0-9 and _) in the empty file @fd (borrowed). */
int iso_create(int fd, const char *label, struct iso **ret, struct error *err);
/* A file with that content; modes are 0644 and times 1980, whoever writes it and when. */
int iso_add_file(struct iso *iso, const char *path, const void *p, size_t n, struct error *err);
/* Everything below the directory @dirfd: directories and regular files; symbolic links are not followed but refused, as is everything else.
 * At most @max_bytes in 10,000 files, 16 levels deep. @what names the directory in errors. */
int iso_add_tree(struct iso *iso, int dirfd, const char *what, uint64_t max_bytes, struct error *err);
/* Writes what was added. Nothing may be added afterwards. */
int iso_finish(struct iso *iso, struct error *err);
struct iso *iso_free(struct iso *iso); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct iso *, iso_free);
#define _cleanup_iso_ _cleanup_(iso_freep)
