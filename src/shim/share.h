/* The directory that a VM sees of the host: SHARE/ID/rootfs and SHARE/ID/mN for each container, and SHARE/ID/lN and SHARE/ID/upper where the guest makes
 * its root file system, mounted in a mount namespace of the shim's own. So nothing of it is left when shim and virtiofsd are gone, however they went.
 *
 * The guest is root of what virtiofsd shows to it, and may be hostile. The share itself, a tmpfs of mount points, is shown read-only: what is
 * mounted on it can be written to as its own mount says, but no name in the share can be made, moved or replaced, and so none leads elsewhere. The
 * shim makes its names through a second mount of the tmpfs that is in no namespace; and whatever it opens in the share it opens without following
 * a symbolic link. */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "shim/spec.h"

struct root;
struct share;

/* As containerd gives it (api/types/mount.proto). Borrowed. */
struct share_mount {
	const char *type, *source, *target;
	const char *const *options;
	size_t n_options;
};

/* Leaves the caller's mount namespace for one of its own, and mounts the share on @directory (made when missing). To be called once, before anything
 * else is mounted. */
int share_begin(const char *directory, struct share **ret, struct error *err);
/* Mounts a container's root file system and what it binds, below ID: a name that is not there yet (-EEXIST). On error nothing of it is left.
 * @bundle_rootfs: what the root is when @mounts is empty (an absolute path); NULL: nothing, the guest has it from elsewhere. */
int share_add(const struct share *s, const char *id, const struct share_mount *mounts, size_t n_mounts,
	      const char *bundle_rootfs, const struct spec_info *spec, struct error *err);
/* Adds what of a root file system that the guest mounts is no disk. On error nothing of the container is left. */
int share_add_root(const struct share *s, const char *id, const struct root *root, struct error *err);
/* A container's root file system: an O_PATH descriptor, owned by the caller. Errors: plain. */
int share_root(const struct share *s, const char *id);
/* Takes it away. Idempotent. */
void share_remove(const struct share *s, const char *id);
/* What is mounted stays until the namespace ends. Accepts NULL; returns NULL. */
struct share *share_free(struct share *s);
