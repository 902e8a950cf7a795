/* Mounts onto descriptors. A path below the share is not resolved a second time between looking at a place and mounting on it. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

struct mount_attr; /* mount_setattr(2) */
struct share_mount;

/* What open_tree(2) calls a clone: the mounts at @source, or with those below, as @attr says, and nowhere yet. A descriptor. Errors: plain. */
int mount_tree(const char *source, bool recursive, const struct mount_attr *attr);
/* Puts it on @place, an O_PATH descriptor. Errors: plain. */
int mount_attach(int tree, int place);
/* What containerd asks for, on @place. Errors: what could not be mounted. */
int mount_given(const struct share_mount *m, int place, struct error *err);
/* "@what @source: reason", with a hint where the kernel is too old for it. */
int mount_error(struct error *err, int num, const char *what, const char *source);

/* What a descriptor is called where only a path will do. */
struct fd_path {
	char s[32];
};
struct fd_path mount_path(int fd);
