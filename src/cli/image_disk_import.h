/* Disk images become images of ours: unpacked where the whole file is compressed, converted, sealed. What the rooms of disks and images do for
 * it is joined here. Linked into skerry-image only. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "store/store.h"

struct disk_import {
	const char *path, *name;
	const char *user;         /* who logs in; NULL = dev */
	const char *source;       /* for people; NULL = made from the path */
	const char *nvram, *home; /* of what an installer made: paths, or NULL */
};
/* Is it "disk:FILE", or a file whose content is a disk (or a CD, which the import then refuses with a hint)? *ret_path is borrowed from @given. */
bool disk_import_recognise(const char *given, const char **ret_path);
/* *ret_digest is owned by the caller. Errors: kind DATA for a hostile or damaged file; -ENOSPC; nothing is left in any case. */
int disk_import(const struct store *s, const struct disk_import *d, char **ret_digest, struct error *err);
