/* Taking names away from a tree that is being built: replaced by other entries, or gone by a layer's whiteout. */
#pragma once

#include <stdbool.h>

#include "base/error.h"
#include "disk/namespace.h"

/* One name of what @node stands for goes; the name itself is removed by the caller. */
typedef int (*namespace_drop_fn)(void *data, const struct node *node, struct error *err);

/* @top and all that is below it. */
int namespace_remove_tree(struct namespace *n, struct node *top, namespace_drop_fn drop, void *data, struct error *err);
/* The same, or with @below only what is below @top; but what is of @layer stays, with the directories that it stands in, and so does @kept
 * (may be NULL). *visits: how many names may be looked at, lessened by those that were: what stays is looked at by each layer's mark above it, of
 * which there may be millions. Errors: -E2BIG when they are used up. */
int namespace_remove_lower(struct namespace *n, struct node *top, uint16_t layer, bool below, const struct node *kept,
			   uint64_t *visits, namespace_drop_fn drop, void *data, struct error *err);
/* The node after @at in a walk over all of the tree, directories before what is in them; NULL at the end. */
const struct node *namespace_walk(const struct namespace *n, const struct node *at);
