/* The directory that a VM sees of the host: SHARE/ID/rootfs and SHARE/ID/mN for each container, mounted in a mount namespace of the shim's own. So
 * nothing of it is left when shim and virtiofsd are gone, however they went. */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "shim/spec.h"

/* As containerd gives it (api/types/mount.proto). Borrowed. */
struct share_mount {
	const char *type, *source, *target;
	const char *const *options;
	size_t n_options;
};

/* Leaves the caller's mount namespace for one of its own, and mounts the share on @directory (made when missing). To be called once, before anything
 * else is mounted. */
int share_begin(const char *directory, struct error *err);
/* Mounts a container's root file system and what it binds, below @directory/@id. On error nothing of it is left. @bundle_rootfs: what the root
 * is when @mounts is empty (an absolute path). */
int share_add(const char *directory, const char *id, const struct share_mount *mounts, size_t n_mounts,
	      const char *bundle_rootfs, const struct spec_info *spec, struct error *err);
/* Takes it away. Idempotent. */
void share_remove(const char *directory, const char *id);
