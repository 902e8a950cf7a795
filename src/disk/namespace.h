/* The names of a file system that is being built, kept in memory until its directories are written: looked up by hash, resolved as inside
 * a chroot. Knows inode numbers and modes, nothing of any disk format. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct node {
	struct node *parent; /* the root's is itself */
	struct node *first_child, *next, *prev;
	struct node *hash_next;
	uint32_t ino; /* hard links share one */
	mode_t mode;
	uint32_t n_children, n_subdirs;
	uint16_t layer; /* the caller's */
	char *target;   /* owned; of a symbolic link */
	char name[];    /* "" for the root */
};

struct namespace;
/* @limit: how many names it may hold. */
struct namespace *namespace_new(uint32_t root_ino, size_t limit);
struct namespace *namespace_free(struct namespace *n); /* accepts NULL; returns NULL */
struct node *namespace_root(struct namespace *n);

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
char *namespace_path(const struct node *node);
struct node *namespace_lookup(struct namespace *n, const struct node *parent, const char *name, size_t len);
/* A new name. @target may be NULL. Errors: -E2BIG at the limit. */
int namespace_add(struct namespace *n, struct node *parent, const char *name, size_t len, uint32_t ino, mode_t mode,
		  const char *target, struct node **ret);
/* Forgets one name; a directory must be empty. */
void namespace_remove(struct namespace *n, struct node *node);
