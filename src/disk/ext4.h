/* ext4 file systems built by libext2fs: no root, no loop device, no mount. Entries are applied in any order a tar stream has. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fs_entry.h"

struct ext4;
/* Formats @fd (an empty file, made @bytes long, sparse). @uuid and @hash_seed: 16 bytes each, @time_s: every time stamp that the entry does not
 * give; so that equal input gives equal bytes. @journal: with one. Growable on line (resize inode, 64bit). */
int ext4_create(int fd, uint64_t bytes, const char *label, const uint8_t uuid[16], const uint8_t hash_seed[16],
		uint64_t time_s, bool journal, struct ext4 **ret, struct error *err);
/* Errors, of this and what follows: -EXFULL (kind CANTCREATE) when the file system is full, -ENOSPC when the host's is. */
/* Adds anything but a regular file's content and hard links. An existing entry is replaced (directories merge). For a regular file:
 * ext4_write() follows, in ascending offsets (gaps are holes), then ext4_end_file(). */
int ext4_add(struct ext4 *x, const struct fs_entry *e, struct error *err);
int ext4_write(struct ext4 *x, uint64_t offset, const void *p, size_t n, struct error *err);
int ext4_end_file(struct ext4 *x, struct error *err);
/* Hard link. Errors: -ENOENT when @target is missing, -EINVAL for a directory. */
int ext4_link(struct ext4 *x, const char *path, const char *target, struct error *err);
/* Removes a tree (a whiteout). -ENOENT is success. */
int ext4_remove(struct ext4 *x, const char *path, struct error *err);
/* What is added from now on belongs to the next layer. */
int ext4_next_layer(struct ext4 *x, struct error *err);
/* A layer's whiteout: as ext4_remove(), or with @below only what is below @path; but what was added since ext4_next_layer() stays, with the
 * directories that it stands in. */
int ext4_remove_lower(struct ext4 *x, const char *path, bool below, struct error *err);
/* Does it exist, and with which mode? -ENOENT. */
int ext4_stat(struct ext4 *x, const char *path, mode_t *ret_mode);
/* The same with every symbolic link followed, the last one too. *ret_path (owned by the caller): where it ends. */
int ext4_resolve(struct ext4 *x, const char *path, char **ret_path, mode_t *ret_mode);
/* Writes everything out. After it only ext4_free() may follow. */
int ext4_finish(struct ext4 *x, struct error *err);
struct ext4 *ext4_free(struct ext4 *x); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct ext4 *, ext4_free);
