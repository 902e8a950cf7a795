/* What the builders of ext4 and of EROFS have in common: which name stands where, in which layer, and what may follow what. What a name stands
 * for is the builder's. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"
#include "base/fs_entry.h"
#include "disk/namespace.h"
#include "disk/namespace_prune.h"

struct fs_names_ops {
	/* An empty directory (0755 root), for the way to something. *ret: what namespace.h calls its inode's number. */
	int (*new_dir)(void *builder, uint32_t *ret);
	/* One name more for what is no directory. @path is for messages. Errors: -EMLINK. */
	int (*add_link)(void *builder, uint32_t ino, const char *path, struct error *err);
	/* One name less; the last one frees what it stands for. */
	namespace_drop_fn drop;
};

struct fs_names {
	struct namespace *space; /* owned */
	const struct fs_names_ops *ops;
	void *builder;   /* borrowed */
	uint64_t visits; /* that whiteouts have left, over all layers */
	uint16_t layer;  /* what is added now belongs to it */
	bool in_file;    /* a regular file's content is expected */
	bool finished;
};

void fs_names_init(struct fs_names *n, const struct fs_names_ops *ops, void *builder, uint32_t root_ino);
void fs_names_done(struct fs_names *n);

/* -E2BIG and its like of namespace.h, with a message. */
int fs_names_error(int r, const char *path, struct error *err);
/* May something else than content follow? Errors: -EBUSY. */
int fs_names_check_idle(const struct fs_names *n, const char *path, struct error *err);
/* The same for the end of it all, which it notes. */
int fs_names_finish(struct fs_names *n, struct error *err);

struct fs_place {
	struct node *parent;
	const char *last; /* borrowed from the entry's path */
};
/* Makes room for @e, which is checked: what is there goes. Returns 1 when both are directories: then *ret_dir, which stays, takes the attributes;
 * else 0, and fs_names_add() follows. */
int fs_names_place(struct fs_names *n, const struct fs_entry *e, struct fs_place *ret, struct node **ret_dir,
		   struct error *err);
int fs_names_add(struct fs_names *n, const struct fs_place *place, const struct fs_entry *e, uint32_t ino,
		 struct node **ret, struct error *err);
/* Hard link. Errors: -ENOENT when @target is missing, -EINVAL for a directory. */
int fs_names_link(struct fs_names *n, const char *path, const char *target, struct error *err);
/* The last component is not followed. Errors, without a message: as namespace_parent(). */
int fs_names_find(struct fs_names *n, const char *path, struct node **ret);
/* With every symbolic link followed. Errors, without a message: as namespace_resolve(). */
int fs_names_resolve(struct fs_names *n, const char *path, char **ret_path, mode_t *ret_mode);

int fs_names_next_layer(struct fs_names *n, struct error *err);
/* As namespace_remove_lower(). Nothing there is fine. */
int fs_names_remove_lower(struct fs_names *n, const char *path, bool below, const struct node *kept, struct error *err);

/* The kind of file as directories have it, which is the same in both: EXT2_FT_REG_FILE and so on. */
uint8_t fs_names_file_type(const struct node *node);
