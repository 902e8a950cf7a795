/* Where shims are found again by who did not start them: RUN/.shims/NAME (RUN of the store) is a symbolic link to the bundle that holds the record. It
 * is on the file system that a restart of the host empties. */
#pragma once

#include "base/error.h"

#define REGISTRY_DIRECTORY ".shims"

/* Where the link of the shim that listens at @socket_path is or will be; owned by the caller. */
char *registry_link(const char *socket_path, struct error *err);
/* Makes it, in place of an older one. */
int registry_add(const char *link, const char *bundle, struct error *err);
/* Releases what shims that were killed have left, from their records, where containerd did not have that done, and does again what networks refused
 * to take back (lease.h); tells on standard output of each. What
 * lives is not touched. May be done any number of times. */
int registry_recover(struct error *err);
