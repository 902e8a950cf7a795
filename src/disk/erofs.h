/* EROFS file systems, written in-process and uncompressed: no root, no mount, no library. Linux' documentation has the format
 * (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h); what is used of it, Linux 5.15 and later read. Entries are applied in any order a
 * tar stream has. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs_entry.h"

struct erofs;
/* Begins one in @fd (borrowed), an empty file, which will be as long as what is in it, but at most @limit_bytes. @uuid: 16 bytes; @time_s: every
 * time stamp that the entry does not give; so that equal input gives equal bytes. @label: at most 15 bytes. */
int erofs_create(int fd, uint64_t limit_bytes, const char *label, const uint8_t uuid[16], uint64_t time_s,
		 struct erofs **ret, struct error *err);
/* Errors, of this and what follows: -EXFULL (kind CANTCREATE) beyond the limit, -ENOSPC when the host's disk is full, -E2BIG for more names or
 * attributes than are allowed. */
/* Adds anything but a regular file's content and hard links. An existing entry is replaced (directories merge). For a regular file:
 * erofs_write() follows, in ascending offsets (gaps are holes), then erofs_end_file(). */
int erofs_add(struct erofs *x, const struct fs_entry *e, struct error *err);
int erofs_write(struct erofs *x, uint64_t offset, const void *p, size_t n, struct error *err);
int erofs_end_file(struct erofs *x, struct error *err);
/* Hard link. Errors: -ENOENT when @target is missing, -EINVAL for a directory. */
int erofs_link(struct erofs *x, const char *path, const char *target, struct error *err);
/* What is added from now on belongs to the next layer. */
int erofs_next_layer(struct erofs *x, struct error *err);
/* A layer's whiteout: @path and what is below it goes, or with @below only what is below it; but what was added since erofs_next_layer() stays,
 * with the directories that it stands in. Nothing there is fine. */
int erofs_remove_lower(struct erofs *x, const char *path, bool below, struct error *err);
/* Where @path ends with every symbolic link followed (owned by the caller), and its mode. Errors, without a message: -ENOENT, -ENOTDIR, -ELOOP. */
int erofs_resolve(struct erofs *x, const char *path, char **ret_path, mode_t *ret_mode);
/* Writes directories and superblock. After it only erofs_free() may follow. */
int erofs_finish(struct erofs *x, struct error *err);
struct erofs *erofs_free(struct erofs *x); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct erofs *, erofs_free);
