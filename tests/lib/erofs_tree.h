/* What is in an EROFS, read without the code that wrote it, by the documentation (Linux, Documentation/filesystems/erofs.rst). For uncompressed
 * ones as we write them; whatever is not as it has to be fails the test. */
#pragma once

#include "disk/ext4_diff.h"

/* Tells every entry in the order of paths, as ext4_diff() does when there is no base. */
void erofs_tree_tell(int fd, const struct ext4_diff_ops *ops, void *data);
