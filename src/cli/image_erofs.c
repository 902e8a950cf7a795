/* Makes images' trees EROFS disks. */
#include "base/memory.h"
#include "cli/image_disk.h"
#include "disk/erofs.h"

struct erofs_tree {
	struct tree tree; /* first: a tree is one of these */
	struct erofs *x;
};

static struct erofs *disk(struct tree *t)
{
	return ((struct erofs_tree *)t)->x;
}

static int add(struct tree *t, const struct tree_entry *e, struct error *err)
{
	struct fs_xattr xattrs[IMAGE_DISK_XATTRS];
	struct fs_entry entry;
	int r = image_disk_entry(e, xattrs, &entry, err);

	return r < 0 ? r : erofs_add(disk(t), &entry, err);
}

static int write_piece(struct tree *t, uint64_t offset, const void *p, size_t n, struct error *err)
{
	return erofs_write(disk(t), offset, p, n, err);
}

static int end_file(struct tree *t, struct error *err)
{
	return erofs_end_file(disk(t), err);
}

static int add_link(struct tree *t, const char *path, const char *target, struct error *err)
{
	return erofs_link(disk(t), path, target, err);
}

static int next_layer(struct tree *t, struct error *err)
{
	return erofs_next_layer(disk(t), err);
}

static int remove_lower(struct tree *t, const char *path, bool below, struct error *err)
{
	return erofs_remove_lower(disk(t), path, below, err);
}

static int resolve(struct tree *t, const char *path, char **ret_path, mode_t *ret_mode)
{
	return erofs_resolve(disk(t), path, ret_path, ret_mode);
}

static int finish(struct tree *t, struct error *err)
{
	return erofs_finish(disk(t), err);
}

static void free_tree(struct tree *t)
{
	erofs_free(disk(t));
	free(t);
}

static const struct tree_ops ops = {
	.add = add,
	.write = write_piece,
	.end_file = end_file,
	.link = add_link,
	.next_layer = next_layer,
	.remove = remove_lower,
	.resolve = resolve,
	.finish = finish,
	.free = free_tree,
};

int erofs_tree_create(int fd, const struct tree_format *f, struct tree **ret, struct error *err)
{
	struct erofs_tree *t;
	struct erofs *x;
	int r;

	r = erofs_create(fd, f->bytes, f->label, f->uuid, f->time_s, &x, err);
	if (r < 0)
		return r;
	t = xnew(struct erofs_tree);
	t->tree.ops = &ops;
	t->x = x;
	*ret = &t->tree;
	return 0;
}
