#include "image/tree.h"

#include <sys/stat.h>

#define NS(s) ((s)*UINT64_C(1000000000))

int tree_add_dir(struct tree *t, const char *path, mode_t mode, uint64_t time_s, struct error *err)
{
	return t->ops->add(t, &(struct fs_entry){ .path = path, .mode = S_IFDIR | mode, .mtime_ns = NS(time_s) }, err);
}

int tree_add_file(struct tree *t, const char *path, mode_t mode, const void *p, size_t n, uint64_t time_s,
		  struct error *err)
{
	struct fs_entry e = { .path = path, .mode = S_IFREG | mode, .mtime_ns = NS(time_s), .size = n };
	int r;

	r = t->ops->add(t, &e, err);
	if (r >= 0 && n)
		r = t->ops->write(t, 0, p, n, err);
	return r < 0 ? r : t->ops->end_file(t, err);
}

int tree_add_symlink(struct tree *t, const char *path, const char *target, uint64_t time_s, struct error *err)
{
	return t->ops->add(
		t, &(struct fs_entry){ .path = path, .mode = S_IFLNK | 0777, .mtime_ns = NS(time_s), .link = target },
		err);
}
