/* The names of a file system that is being built, kept in memory until its directories are written: looked up by hash, resolved as inside
 * a chroot. Knows inode numbers and modes, nothing of any disk format. A name takes 36 bytes and its own length, so that images of half a
 * million files need little memory. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/memory.h"

/* Stays where it is until it is removed. The links to others are numbers: namespace_up() and its like follow them. */
struct node {
	uint32_t self, up, first, next, prev, hash_next;
	uint32_t ino;       /* hard links share one */
	uint32_t n_subdirs; /* of a directory */
	uint16_t mode;
	uint16_t layer; /* the caller's */
	char name[];    /* "" for the root; behind the NUL a symbolic link's target */
};

struct namespace;
/* @limit_bytes: how much memory its names may take. */
struct namespace *namespace_new(uint32_t root_ino, size_t limit_bytes);
struct namespace *namespace_free(struct namespace *n); /* accepts NULL; returns NULL */
struct node *namespace_root(const struct namespace *n);

/* The directory a node is in (the root's is itself), the first of what is in it, the next beside it; NULL where there is none. */
struct node *namespace_up(const struct namespace *n, const struct node *node);
struct node *namespace_first(const struct namespace *n, const struct node *node);
struct node *namespace_next(const struct namespace *n, const struct node *node);
/* Borrowed. */
static inline const char *node_target(const struct node *node)
{
	return node->name + strlen(node->name) + 1;
}

/* What is wrong with a path from outside: 0, or -EINVAL (empty, absolute, ".", "..", empty component), -ENAMETOOLONG. "." alone is the
 * root and fine. */
int namespace_check_path(const char *path);

/* Makes a directory that is missing on the way; NULL: -ENOENT instead. */
typedef int (*namespace_mkdir_fn)(void *data, struct node *parent, const char *name, size_t len, struct node **ret);
/* The directory that holds @path's last component, and that component (borrowed from @path; "" for the root itself). Symbolic links on the
 * way are followed inside the root, at most 40 of them. Errors: as check_path; -ENOTDIR, -ELOOP, -ENOENT. */
int namespace_parent(struct namespace *n, const char *path, namespace_mkdir_fn mkdir, void *data,
		     struct node **ret_parent, const char **ret_last);
/* The node of @path with every link followed, the last one too. Errors: as namespace_parent(). */
int namespace_resolve(struct namespace *n, const char *path, struct node **ret);
/* "usr/lib", or "." for the root. Owned by the caller. */
char *namespace_path(const struct namespace *n, const struct node *node);
struct node *namespace_lookup(const struct namespace *n, const struct node *parent, const char *name, size_t len);
/* A new name. @target may be NULL. Errors: -E2BIG at the limit. */
int namespace_add(struct namespace *n, struct node *parent, const char *name, size_t len, uint32_t ino, mode_t mode,
		  const char *target, struct node **ret);
/* Forgets one name; a directory must be empty. */
void namespace_remove(struct namespace *n, struct node *node);
