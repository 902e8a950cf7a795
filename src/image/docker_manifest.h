/* manifest.json, which `docker save` writes beside the layers: what the archive holds. */
#pragma once

#include <stddef.h>

#include "base/error.h"
#include "base/memory.h"

struct docker_manifest_image {
	char *config; /* path in the archive, as are the layers; unchecked */
	struct strv tags, layers;
};
struct docker_manifest {
	struct docker_manifest_image *images; /* owned */
	size_t n;
};
/* Errors: -EBADMSG (kind DATA). */
int docker_manifest_parse(const char *text, size_t len, struct docker_manifest *ret, struct error *err);
void docker_manifest_done(struct docker_manifest *m);
/* The one that has the tag @select, however it is spelled; NULL = the only one. *ret_name is the tag that it has, NULL = none; both are
 * borrowed from @m. @what names the archive in messages. Errors: kind NOT_FOUND; kind USAGE when there are several, which the hint lists. */
int docker_manifest_choose(const struct docker_manifest *m, const char *select, const char *what,
			   const struct docker_manifest_image **ret, const char **ret_name, struct error *err);
