/* Root file systems that the guest mounts itself: block devices, or files that hold a file system, as a snapshotter gives them (devmapper, blockfile:
 * one ext4; erofs: one EROFS for each layer, and what is written above them). Each of these becomes a disk of the machine where it has room for it, else
 * a file of the share that the guest makes a block device of. The host mounts and reads none of them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "shim/share.h"

struct Skerry__Agent__V1__CreateContainerRequest;

/* What a machine of shape micro has slots for beside one network. */
enum { ROOT_DISKS_MAX = 3 };

struct root_file {
	char *path;        /* owned; absolute, the host's */
	bool block_device; /* or a regular file */
	bool read_only;    /* the guest gets no more */
	bool disk;         /* of the machine, its serial root_serial(); else a file of the share */
	uint64_t bytes;
};

struct root_mount {
	char *type;          /* owned: "ext4", "erofs" */
	size_t file;         /* of struct root.files */
	size_t n_devices;    /* the files after it that an EROFS has the content in */
	struct strv options; /* of mount(8), for the guest */
};

struct root_directory {
	char *path; /* owned; "0/upper" is in the first mount */
	uint32_t mode, uid, gid;
};

struct root {
	struct root_file *files;
	size_t n_files;
	struct root_mount *mounts; /* in the guest, each named by its number */
	size_t n_mounts;
	char *top;           /* owned: what is made of them, "overlay" or "bind"; NULL: the only one is the root */
	char *source;        /* of a bind: as in struct root_directory */
	struct strv options; /* of the top, as paths of that kind */
	struct root_directory *directories; /* made before it */
	size_t n_directories;
	char *upper_parent; /* the host's directory that an overlay's two are in, NULL = they are in a mount, or there are none */
	char *upper, *work; /* their names in it, or paths as above */
};
/* Accepts NULL; returns NULL. */
struct root *root_free(struct root *r);
DEFINE_CLEANUP(struct root *, root_free);
#define _cleanup_root_ _cleanup_(root_freep)

/* *ret is NULL when these mounts are to be made on the host and shared: they are of another kind, or hold what guests cannot read. @disks_max: how many
 * disks the machine may get. Looks at EROFS' superblocks alone. Errors: what can be mounted neither here nor there. */
int root_find(const struct share_mount *mounts, size_t n, size_t disks_max, struct root **ret, struct error *err);
/* Of the file with this number. Owned by the caller. */
char *root_serial(size_t file);

/* root_layers.c: several mounts with one above them, and what names others of them ("{{ mount 0 }}"; containerd, docs/mounts.md). */
bool root_is_layered(const struct share_mount *mounts, size_t n);
int root_read_layers(const struct share_mount *mounts, size_t n, struct root *ret, struct error *err);

/* Between the two: appends the file system that @m is, of @type without what is in front of it. */
int root_add_mount(struct root *r, const struct share_mount *m, const char *type, struct error *err);

/* root_tell.c: what the guest is asked to mount. @share: the container's directory in the share, as the guest sees it; @target: what it is mounted on, or
 * below. Returns where the root is then, owned by the caller. What it appends is released by root_forget(). */
char *root_tell(const struct root *r, const char *share, const char *target,
		struct Skerry__Agent__V1__CreateContainerRequest *q);
void root_forget(struct Skerry__Agent__V1__CreateContainerRequest *q);
