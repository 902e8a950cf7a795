/* Network namespaces that outlive whoever made them, by a path: a file with the namespace mounted on it, as ip-netns(8) has them. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

/* Makes @path (absolute; its directory exists) and a namespace there, empty but for its loopback, which is up. What is a namespace already is kept;
 * an empty file that a broken-off call left is used. Needs CAP_SYS_ADMIN.
 * Errors: kind EXISTS the path is something else; DENIED. */
int netns_make(const char *path, struct error *err);
/* Takes it away again; whoever holds a descriptor of the namespace keeps it. Idempotent: no such path is success. */
int netns_remove(const char *path, struct error *err);
/* A descriptor of the namespace, owned, CLOEXEC. Errors: NOT_FOUND; kind CONFIG it is something else. */
int netns_open(const char *path, struct error *err);
/* Is it the one that this process is in? What is no namespace, or not there, is not. */
bool netns_is_own(const char *path);
