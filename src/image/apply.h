/* One layer's tar put into a tree: image-spec "layer.md". Names are resolved as inside a chroot: where a lower layer has a symbolic link on the
 * way, it is followed, and never leads out. Linked into skerry-image only. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "image/tar.h"
#include "image/tree.h"

/* Counted over all layers of an image. */
struct apply_limits {
	uint64_t entries_left;
};
/* Errors: -EBADMSG and others of kind DATA naming the entry; what reading and the tree return. */
int layer_apply(struct tar *tar, struct tree *tree, struct apply_limits *limits, struct error *err);
