/* images/index.json between the files of this room only. */
#pragma once

#include "image/image.h"

/* @tree keeps what others wrote into the document. */
int image_index_read(const struct store *s, struct image_index *ret, struct json **tree, struct error *err);
int image_index_write(const struct store *s, const struct image_index *index, struct json **tree, struct error *err);
struct image_ref *image_index_find(const struct image_index *index, const char *name);
bool image_index_uses(const struct image_index *index, const char *digest);
/* @name points at the manifest, and the disk of @fstype (NULL = the first), from now on, as its next generation. @name is what reference_name() gave. */
void image_index_set(struct image_index *index, const char *name, const char *digest, const char *media_type,
		     uint64_t size, const char *fstype);
/* The generation is remembered: the name's next one goes on from there. */
void image_index_remove(struct image_index *index, struct image_ref *ref);

/* Held by whoever changes the index or the sealed disks. */
int images_lock(const struct store *s, struct error *err);
/* The same, and images/disks with it: *ret_disks is a descriptor of that, owned by the caller as the lock is; <0 when there is an error. */
int images_lock_disks(const struct store *s, int *ret_disks, struct error *err);
/* -ENOENT leaves @err alone only where nothing was found. @tree may be NULL. */
int image_record_read(const struct store *s, const char *digest, struct image_meta *ret, struct error *err);
/* The same of one directory below images/disks, HEX or HEX-FSTYPE. */
int image_record_read_in(const struct store *s, const char *directory, struct image_meta *ret, struct error *err);
int image_record_write(int dir_fd, const struct image_meta *meta, struct error *err);
/* The file that holds an image's disk, in its directory: "disk.raw". */
const char *image_disk_file(const struct image_meta *meta);
int image_list_disks(int disks_fd, struct strv *ret, struct error *err);
/* HEX-FSTYPE. Owned by the caller. */
char *image_second_directory(const char *digest, const char *fstype);
