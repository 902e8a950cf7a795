/* What a recipe gets and gives. A new recipe is a new recipe_NAME.c and a line in build.c's table. */
#pragma once

#include "image/build.h"
#include "image/image.h"
#include "image/tree.h"

struct recipe_run {
	const struct store *store;
	const struct build_request *request;
	const char *variant; /* what follows the colon: a suite; NULL = the recipe's default */
	uint64_t time_s;     /* SOURCE_DATE_EPOCH, or what the recipe's prepare() chose, or now */
	struct tree *tree;
	struct image_meta *meta; /* source, user, ssh, init … are the recipe's to fill */
	char *scratch_path;      /* a directory of this build's own, removed afterwards */
	void *state;             /* between prepare and fill; freed with free(3) */
};

struct recipe {
	struct image_recipe facts;
	bool journal;
	/* Checks what the host offers before anything is made, and refuses a variant that it does not know. */
	int (*prepare)(struct recipe_run *run, struct error *err);
	int (*fill)(struct recipe_run *run, struct error *err);
};

extern const struct recipe recipe_tiny;
extern const struct recipe recipe_debian;
extern const struct recipe recipe_blank;

/* Fetches a Debian package with apt-get download, which needs no root, into cache/packages; one that is there already serves. @name may have a
 * version ("linux-image-…"). *ret_path is owned by the caller. Errors: kind UNAVAILABLE. */
int package_fetch(const struct store *s, const char *name, char **ret_path, struct error *err);
