/* Which image is meant, in an index or archive that holds several. */
#pragma once

#include "image/oci.h"
#include "store/store.h"

/* Brings in a blob that the store may not have yet; NULL when all are there. */
typedef int (*select_need_fn)(void *data, const struct oci_descriptor *d, struct error *err);

/* The manifest for @platform (NULL = this machine's) under the name @name (NULL = the only one) in an index document, nested ones followed.
 * *ret is released by the caller; *ret_name is its name there, owned by the caller, or NULL. Errors: kind USAGE listing the names when
 * there are several; -ENOENT (kind NOT_FOUND); -EBADMSG. */
int select_manifest(const struct store *s, const struct buf *index, const char *what, const char *name,
		    const char *platform, select_need_fn need, void *data, struct oci_descriptor *ret, char **ret_name,
		    struct error *err);
/* Its config and layers too. */
int select_contents(const struct store *s, const struct oci_descriptor *manifest, select_need_fn need, void *data,
		    struct error *err);
void select_copy(struct oci_descriptor *to, const struct oci_descriptor *from);
