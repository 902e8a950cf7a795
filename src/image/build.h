/* Recipes: images that are built here, offline but for apt. Linked into skerry-image only. */
#pragma once

#include "base/error.h"
#include "store/store.h"

struct build_request {
	const char *recipe; /* "tiny", "debian", "debian:trixie" */
	const char *name;   /* NULL = the recipe's own */
	const struct strv *packages;
	uint64_t disk_bytes; /* virtual size, 0 = the recipe's */
	int progress_fd;     /* -1 = silent */
};
/* Builds and seals. Nothing is left behind on failure. Errors: kind UNAVAILABLE with the apt command as the hint when a program is missing. */
int image_build(const struct store *s, const struct build_request *req, struct error *err);
