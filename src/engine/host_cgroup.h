/* A cgroup of the host's, where an engine and its helpers are put: what they use is accounted there, by whichever version of cgroups the host has. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/memory.h"

/* The directories that @path (linux.cgroupsPath of the OCI specification: "/default/c1", or systemd's "SLICE:PREFIX:NAME") means on this host: those
 * that have to be made, outermost first in each hierarchy, and the innermost in any case; appended. Nothing is made. Errors: kind DATA a path that is
 * none. */
int host_cgroup_plan(const char *path, struct strv *ret, struct error *err);
/* Where a process is in the hierarchy of @controller ("" = version 2), told by its /proc/PID/cgroup: "" for the root, else "/a/b". Owned by the caller;
 * NULL when it is in none, or outside of what is seen from here. */
char *host_cgroup_find(const char *list, const char *controller);
/* The directories of a cgroup @name of our own below the one that this process is in, where that may be made: it was delegated to us, or we are root
 * and no systemd rules over the tree (systemd.io/CGROUP_DELEGATION). Appended; nothing where it may not. Nothing is made. */
void host_cgroup_plan_own(const char *name, struct strv *ret);
/* Makes them; what is there already is fine, and a hierarchy that refuses is done without. Of version 2, what they account for is asked for in those
 * that have others of them below, and in the root where no systemd rules over it. */
void host_cgroup_make(const struct strv *directories);
/* Removes those that are empty, innermost first. Processes that have just been killed may take a moment to leave theirs: @deadline_ns. */
void host_cgroup_remove(const struct strv *directories, uint64_t deadline_ns);
/* Puts a process into each innermost one. */
void host_cgroup_add(const struct strv *directories, pid_t pid);
