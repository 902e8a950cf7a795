/* A file system that is being filled, whoever makes it: recipes and archives write into a tree, the door that links them decides what kind
 * of disk it becomes. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/cleanup.h"
#include "base/error.h"
#include "base/fs_entry.h"

struct tree;
struct tree_ops {
	/* A regular file's content follows with write (ascending offsets, gaps are holes), then end_file. An entry that exists is
	 * replaced; directories merge. */
	int (*add)(struct tree *t, const struct fs_entry *e, struct error *err);
	int (*write)(struct tree *t, uint64_t offset, const void *p, size_t n, struct error *err);
	int (*end_file)(struct tree *t, struct error *err);
	int (*link)(struct tree *t, const char *path, const char *target, struct error *err);
	/* What comes from now on is another layer's. */
	int (*next_layer)(struct tree *t, struct error *err);
	/* Takes away what the layers before this one brought at @path (everything below it too), or with @below only what is below it. What
	 * this layer has brought stays, with the directories that it stands in. Nothing there is fine. */
	int (*remove)(struct tree *t, const char *path, bool below, struct error *err);
	/* Follows every symbolic link, inside the root: where it ends (owned by the caller) and its mode. Errors, without a message: -ENOENT,
	 * -ENOTDIR, -ELOOP. */
	int (*resolve)(struct tree *t, const char *path, char **ret_path, mode_t *ret_mode);
	int (*finish)(struct tree *t, struct error *err);
	void (*free)(struct tree *t);
};

struct tree {
	const struct tree_ops *ops;
};

static inline struct tree *tree_free(struct tree *t)
{
	if (t)
		t->ops->free(t);
	return NULL;
}
DEFINE_CLEANUP(struct tree *, tree_free);

struct tree_format {
	uint64_t bytes;
	const char *label;
	uint8_t uuid[16], seed[16];
	uint64_t time_s;
	bool journal;
};
/* Makes an empty tree in @fd, an empty file. */
typedef int (*tree_create_fn)(int fd, const struct tree_format *f, struct tree **ret, struct error *err);

/* Shorthands: everything is root's, at @time_s. */
int tree_add_dir(struct tree *t, const char *path, mode_t mode, uint64_t time_s, struct error *err);
int tree_add_file(struct tree *t, const char *path, mode_t mode, const void *p, size_t n, uint64_t time_s,
		  struct error *err);
int tree_add_symlink(struct tree *t, const char *path, const char *target, uint64_t time_s, struct error *err);
