/* Images' trees as ext4 and EROFS disks. The builders of both have the same functions by other names, and nothing is done on the way to them. */
#include "base/memory.h"
#include "cli/image_disk.h"
#include "disk/erofs.h"
#include "disk/ext4.h"

/* FS_tree_of(): a tree over a struct FS *, which it owns, by FS_add(), FS_write() and so on. */
#define DEFINE_DISK_TREE(fs)                                                                                    \
	struct fs##_tree {                                                                                      \
		struct tree tree; /* first: a tree is one of these */                                           \
		struct fs *x;                                                                                   \
	};                                                                                                      \
                                                                                                                \
	static struct fs *fs##_of(struct tree *t)                                                               \
	{                                                                                                       \
		return ((struct fs##_tree *)t)->x;                                                              \
	}                                                                                                       \
                                                                                                                \
	static int fs##_tree_add(struct tree *t, const struct fs_entry *e, struct error *err)                   \
	{                                                                                                       \
		return fs##_add(fs##_of(t), e, err);                                                            \
	}                                                                                                       \
                                                                                                                \
	static int fs##_tree_write(struct tree *t, uint64_t offset, const void *p, size_t n, struct error *err) \
	{                                                                                                       \
		return fs##_write(fs##_of(t), offset, p, n, err);                                               \
	}                                                                                                       \
                                                                                                                \
	static int fs##_tree_end_file(struct tree *t, struct error *err)                                        \
	{                                                                                                       \
		return fs##_end_file(fs##_of(t), err);                                                          \
	}                                                                                                       \
                                                                                                                \
	static int fs##_tree_link(struct tree *t, const char *path, const char *target, struct error *err)      \
	{                                                                                                       \
		return fs##_link(fs##_of(t), path, target, err);                                                \
	}                                                                                                       \
                                                                                                                \
	static int fs##_tree_next_layer(struct tree *t, struct error *err)                                      \
	{                                                                                                       \
		return fs##_next_layer(fs##_of(t), err);                                                        \
	}                                                                                                       \
                                                                                                                \
	static int fs##_tree_remove(struct tree *t, const char *path, bool below, struct error *err)            \
	{                                                                                                       \
		return fs##_remove_lower(fs##_of(t), path, below, err);                                         \
	}                                                                                                       \
                                                                                                                \
	static int fs##_tree_resolve(struct tree *t, const char *path, char **ret_path, mode_t *ret_mode)       \
	{                                                                                                       \
		return fs##_resolve(fs##_of(t), path, ret_path, ret_mode);                                      \
	}                                                                                                       \
                                                                                                                \
	static int fs##_tree_finish(struct tree *t, struct error *err)                                          \
	{                                                                                                       \
		return fs##_finish(fs##_of(t), err);                                                            \
	}                                                                                                       \
                                                                                                                \
	static void fs##_tree_free(struct tree *t)                                                              \
	{                                                                                                       \
		fs##_free(fs##_of(t));                                                                          \
		free(t);                                                                                        \
	}                                                                                                       \
                                                                                                                \
	static const struct tree_ops fs##_tree_ops = {                                                          \
		.add = fs##_tree_add,                                                                           \
		.write = fs##_tree_write,                                                                       \
		.end_file = fs##_tree_end_file,                                                                 \
		.link = fs##_tree_link,                                                                         \
		.next_layer = fs##_tree_next_layer,                                                             \
		.remove = fs##_tree_remove,                                                                     \
		.resolve = fs##_tree_resolve,                                                                   \
		.finish = fs##_tree_finish,                                                                     \
		.free = fs##_tree_free,                                                                         \
	};                                                                                                      \
                                                                                                                \
	static struct tree *fs##_tree_of(struct fs *x)                                                          \
	{                                                                                                       \
		struct fs##_tree *t = xnew(struct fs##_tree);                                                   \
                                                                                                                \
		t->tree.ops = &fs##_tree_ops;                                                                   \
		t->x = x;                                                                                       \
		return &t->tree;                                                                                \
	}

DEFINE_DISK_TREE(ext4)
DEFINE_DISK_TREE(erofs)

int ext4_tree_create(int fd, const struct tree_format *f, struct tree **ret, struct error *err)
{
	struct ext4 *x;
	int r = ext4_create(fd, f->bytes, f->label, f->uuid, f->seed, f->time_s, f->journal, &x, err);

	if (r >= 0)
		*ret = ext4_tree_of(x);
	return r;
}

int erofs_tree_create(int fd, const struct tree_format *f, struct tree **ret, struct error *err)
{
	struct erofs *x;
	int r = erofs_create(fd, f->bytes, f->label, f->uuid, f->time_s, &x, err);

	if (r >= 0)
		*ret = erofs_tree_of(x);
	return r;
}
