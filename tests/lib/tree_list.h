/* What is in a disk's file system as lines of text, one for each name, in order: to compare one kind of file system with another. */
#pragma once

#include <stdint.h>

#include "base/memory.h"

struct tree_list {
	struct strv lines;
	uint64_t hash, at; /* of the file that is being told */
	uint64_t size;
};

/* Of an ext4, without its lost+found, or an EROFS. Fails the test when it cannot be read. */
void tree_list_ext4(int fd, struct tree_list *ret);
void tree_list_erofs(int fd, struct tree_list *ret);
void tree_list_done(struct tree_list *l);
/* Fails the test at the first line that differs. */
void tree_list_same(const struct tree_list *a, const struct tree_list *b);
