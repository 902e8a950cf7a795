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

/* images/disks/HEX/meta.json */
struct image_meta {
	char *digest; /* "sha256:…" over what disk.raw holds: see image_digest_disk() in image/build.h */
	char *format; /* "raw" */
	char *fstype; /* "ext4" */
	int boot;     /* enum image_boot */
	int init;     /* enum image_init */
	uint64_t virtual_bytes;
	uint64_t created_ns;
	char *source;        /* "recipe tiny", "recipe debian:bookworm" */
	char *user;          /* default user of exec and ssh; NULL = root */
	bool ssh;            /* has an ssh server */
	struct strv command; /* default command; empty = none */
	struct strv env;
	char *workdir;
	uint64_t default_memory_bytes; /* 0 = the tool's default */
};
void image_meta_done(struct image_meta *m);

/* images/index.json: names -> digest, generation. */
struct image_ref {
	char *name; /* "debian:latest" */
	char *digest;
	uint64_t generation;
	uint64_t sealed_ns;
};
struct image_index {
	struct image_ref *refs;
	size_t n;
};
void image_index_done(struct image_index *i);
int image_index_load(const struct store *s, struct image_index *ret, struct error *err);

/* Finds by name or digest. Errors: -ENOENT (kind NOT_FOUND, hint: `skerry image build …` for the recipes, else `skerry image list`). */
int image_find(const struct store *s, const char *name, struct image_meta *ret, struct error *err);
/* By full digest. Errors: -ENOENT, -EBADMSG. */
int image_meta_read(const struct store *s, const char *digest, struct image_meta *ret, struct error *err);
/* Absolute path of the sealed disk of a digest, owned by the caller; NULL for what is no digest. */
char *image_disk_path(const struct store *s, const char *digest);

/* Seals: @dirfd/@tmp_name (a directory below images/disks that holds disk.raw) becomes images/disks/HEX (mode 0444 for the disk), and
 * @name points at it with the next generation. Equal content already there is reused. @meta must hold the digest; format and time of making are
 * filled in. The caller has synced disk.raw. Holds the images lock meanwhile. */
int image_seal(const struct store *s, const char *name, const char *tmp_name, struct image_meta *meta,
	       struct error *err);
/* Removes a name, and the disk when no other name and no machine uses it. @in_use tells whether a machine uses a digest (borrowed
 * closure: images do not know machines; it returns 1 and names the user, 0, or -errno). What older generations left behind goes with it.
 * Errors: kind BUSY naming the user. */
int image_delete(const struct store *s, const char *name, int (*in_use)(const char *digest, char **ret_by, void *data),
		 void *data, struct error *err);
/* Removes sealed disks that no name and no machine uses: older generations, leavings of a crash. */
int image_collect(const struct store *s, int (*in_use)(const char *digest, char **ret_by, void *data), void *data,
		  struct error *err);
/* Descriptor of images/disks, where a build makes its ".tmp-…" directory and keeps it locked (flock) until it is sealed. */
int image_disks_open(const struct store *s, struct error *err);
/* Removes ".tmp-…" directories that no living build holds. */
int image_remove_leftovers(const struct store *s, struct error *err);
