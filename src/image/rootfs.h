/* What a root file system can do, told from its files. */
#pragma once

#include "image/image.h"
#include "image/tree.h"

/* Fills in init and ssh. */
void rootfs_inspect(struct tree *t, struct image_meta *meta);
