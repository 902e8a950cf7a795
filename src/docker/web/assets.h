/* What the page is made of, held in memory: the program that serves it can open no file. */
#pragma once

#include <stddef.h>

#include "base/error.h"

struct asset {
	char *path;       /* owned: of the URL, "/xterm/xterm.js" */
	const char *type; /* its media type */
	char *p;          /* owned */
	size_t n;
};

struct assets {
	struct asset *items; /* owned; sorted by path */
	size_t n;
};

/* Every file of a known type below the directory @path; links are followed nowhere. Errors: there are more, or larger ones, than a page can have;
 * errno of what cannot be read. */
int assets_load(const char *path, struct assets *ret, struct error *err);
/* NULL when there is none of that name. */
const struct asset *assets_find(const struct assets *a, const char *path);
void assets_done(struct assets *a);
#define _cleanup_assets_ _cleanup_(assets_done)
