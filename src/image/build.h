/* Recipes: images that are built here, offline but for apt. Linked into skerry-image only. */
#pragma once

#include "base/error.h"
#include "image/tree.h"
#include "store/store.h"

struct build_request {
	const char *recipe; /* "tiny", "debian", "debian:trixie" */
	const char *name;   /* NULL = the recipe's own: as given */
	const struct strv *packages;
	uint64_t disk_bytes; /* virtual size, 0 = the recipe's */
	int progress_fd;     /* -1 = silent */
	const char *format;  /* what create_tree makes: "ext4" (NULL), "erofs" */
	tree_create_fn create_tree;
};
/* Builds and seals. Nothing is left behind on failure. *ret_digest may be NULL; owned by the caller.
 * Errors: kind UNAVAILABLE with the apt command as the hint when a program is missing; kind NOT_FOUND for an unknown recipe. */
int image_build(const struct store *s, const struct build_request *req, char **ret_digest, struct error *err);

/* What recipes there are: NULL past the last. */
struct image_recipe {
	const char *name;
	const char *description;
	uint64_t virtual_bytes;
	uint64_t default_memory_bytes;
};
const struct image_recipe *image_recipe_at(size_t i);
