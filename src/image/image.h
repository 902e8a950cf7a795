/* Images as machines see them: sealed disks with metadata. This header links nothing heavy; building is in image/build.h. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "store/store.h"

enum image_boot { IMAGE_BOOT_KERNEL, IMAGE_BOOT_FIRMWARE };
enum image_init { IMAGE_INIT_AGENT, IMAGE_INIT_SYSTEM };

/* images/disks/HEX/meta.json, HEX being the image's digest. An image of files can have a disk of another file system as well, in
 * images/disks/HEX-FSTYPE: a name says which of them it means, and what a machine stands on follows from the machine's record. */
struct image_meta {
	char *digest; /* the image's: that of its OCI manifest, a blob of ours */
	char *disk;   /* "sha256:…" over what the disk holds: digest_disk() in image/digest.h */
	char *chain;  /* what the disk was made from, for images that share one; NULL = nothing that could be shared */
	char *format; /* "raw": disk.raw; "qcow2": disk.qcow2 */
	char *fstype; /* "ext4", "erofs"; NULL = a whole disk with partitions of its own */
	int boot;     /* enum image_boot */
	int init;     /* enum image_init */
	uint64_t virtual_bytes;
	uint64_t created_ns;
	char *source; /* "recipe tiny", "registry docker.io/library/debian:12", "docker-archive app.tar" */
	char *base_source; /* of the image that it was made on, where that came from a registry: what has its layers; NULL = none */
	char *user; /* default user of exec and ssh; NULL = root */
	bool ssh;   /* has an ssh server */
	struct strv entrypoint;
	struct strv command; /* default command, the entrypoint's arguments; empty = none */
	struct strv env;
	char *workdir;
	char *stop_signal;             /* "SIGTERM", "15"; NULL = SIGTERM */
	struct strv volumes;           /* "/data" */
	struct strv ports;             /* "80/tcp", "53/udp" */
	struct strv labels;            /* K=V */
	uint64_t default_memory_bytes; /* 0 = the tool's default */
	bool second;                   /* not in the record: it is the one in HEX-FSTYPE */
};
void image_meta_done(struct image_meta *m);

/* Where a registry has its layers, or those that it was made on: "registry docker.io/library/debian:12", borrowed from @m; NULL = not known. */
const char *image_registry_source(const struct image_meta *m);

/* images/index.json, an OCI image index: its manifests, one for each name (annotation org.opencontainers.image.ref.name). */
struct image_ref {
	char *name;   /* "debian:latest": see reference_name() */
	char *digest; /* of the manifest */
	uint64_t size;
	char *media_type;
	char *fstype; /* of the disk that the name means; NULL = the image's first */
	uint64_t generation;
	uint64_t sealed_ns;
};
struct image_index {
	struct image_ref *refs;
	size_t n;
	struct strv generations; /* of names that are gone: a name that comes back goes on counting */
};
void image_index_done(struct image_index *i);
int image_index_load(const struct store *s, struct image_index *ret, struct error *err);

/* Finds by name or digest. Errors: -ENOENT (kind NOT_FOUND, hint: `skerry image build …` for the recipes, else `skerry image list`). */
int image_find(const struct store *s, const char *name, struct image_meta *ret, struct error *err);
/* By full digest, the disk that was made first. Errors: -ENOENT, -EBADMSG. */
int image_meta_read(const struct store *s, const char *digest, struct image_meta *ret, struct error *err);
/* The one of this file system; NULL = the first. A whole disk has none, and is what it is. Errors: the same. */
int image_meta_read_kind(const struct store *s, const char *digest, const char *fstype, struct image_meta *ret,
			 struct error *err);
/* Absolute path of an image's sealed disk, owned by the caller. */
char *image_disk_path(const struct store *s, const struct image_meta *meta);

/* Gives an image that is there another name as well. Errors: as image_find(). */
int image_tag(const struct store *s, const char *name, const char *new_name, struct error *err);
/* Removes a name, and the disk when no other name and no machine uses it. @in_use tells whether a machine uses a digest (borrowed
 * closure: images do not know machines; it returns 1 and names the user, 0, or -errno). What older generations left behind goes with it.
 * Errors: kind BUSY naming the user. */
int image_delete(const struct store *s, const char *name, int (*in_use)(const char *digest, char **ret_by, void *data),
		 void *data, struct error *err);
/* Removes sealed disks that no name and no machine uses: older generations, leavings of a crash. */
int image_collect(const struct store *s, int (*in_use)(const char *digest, char **ret_by, void *data), void *data,
		  struct error *err);
/* Whose disk is in the directory of that name below images/disks: "sha256:HEX", owned by the caller; NULL = nobody's. */
char *image_directory_digest(const char *name);
/* Descriptor of images/disks. */
int image_disks_open(const struct store *s, struct error *err);
