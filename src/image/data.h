/* Files that come with the program: recipes, the kernel's configuration and build script. */
#pragma once

#include "base/error.h"

/* Absolute path of "kernel/build.sh" and so on: below SKERRY_DATA_DIR, beside the program (libexec/skerry), or in the source tree that it was
 * built from; the first that has it. Owned by the caller. Errors: -ENOENT (kind UNAVAILABLE). */
int data_path(const char *name, char **ret, struct error *err);
