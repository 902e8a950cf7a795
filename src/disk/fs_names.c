#include "disk/fs_names.h"

#include <errno.h>
#include <ext2fs/ext2_fs.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

/* Memory for names: some 600000 of the usual length. Nobody's image has more, and everything together stays below 64 MiB. */
#define NAMES_BYTES ((size_t)32 << 20)
/* Some seconds' work. An image of 100 layers that replace 100,000 names each needs a tenth. */
#define VISITS_MAX UINT64_C(500000000)
#define FILE_MAX   (UINT64_C(1) << 43)
/* A link's target fits into a block of either. */
enum { TARGET_MAX = 4096, MAJOR_MAX = 0xfff, MINOR_MAX = 0xfffff };

void fs_names_init(struct fs_names *n, const struct fs_names_ops *ops, void *builder, uint32_t root_ino)
{
	*n = (struct fs_names){ .ops = ops, .builder = builder, .visits = VISITS_MAX };
	n->space = namespace_new(root_ino, NAMES_BYTES);
}

void fs_names_done(struct fs_names *n)
{
	n->space = namespace_free(n->space);
}

int fs_names_error(int r, const char *path, struct error *err)
{
	if (r == -E2BIG)
		return error_set(err, E2BIG, "file system: '%.200s': more names than are allowed", path);
	return error_set_errno(err, -r, "file system: '%.200s'", path);
}

int fs_names_check_idle(const struct fs_names *n, const char *path, struct error *err)
{
	if (!n->finished && !n->in_file)
		return 0;
	return error_set(err, EBUSY, "file system: '%.200s': the file before it has no end", path);
}

int fs_names_finish(struct fs_names *n, struct error *err)
{
	if (n->finished || n->in_file)
		return error_set(err, EBUSY, "file system: the last file has no end");
	n->finished = true;
	return 0;
}

static int check_entry(const struct fs_entry *e, struct error *err)
{
	switch (e->mode & S_IFMT) {
	case S_IFREG:
		if (e->size > FILE_MAX)
			return error_set(err, EFBIG, "file system: '%.200s' is too large", e->path);
		return 0;
	case S_IFLNK:
		if (!e->link || !*e->link || strlen(e->link) >= TARGET_MAX)
			return error_set(err, EINVAL, "file system: '%.200s': no target for a symbolic link", e->path);
		return 0;
	case S_IFCHR:
	case S_IFBLK:
		if (e->rdev_major > MAJOR_MAX || e->rdev_minor > MINOR_MAX)
			return error_set(err, EINVAL, "file system: '%.200s': no such device number", e->path);
		return 0;
	case S_IFDIR:
	case S_IFIFO:
	case S_IFSOCK: return 0;
	default: return error_set(err, EINVAL, "file system: '%.200s': unknown type of file", e->path);
	}
}

static int make_dir(void *data, struct node *parent, const char *name, size_t len, struct node **ret)
{
	struct fs_names *n = data;
	uint32_t ino;
	int r = n->ops->new_dir(n->builder, &ino);

	if (r >= 0)
		r = namespace_add(n->space, parent, name, len, ino, S_IFDIR | 0755, NULL, ret);
	if (r >= 0)
		(*ret)->layer = n->layer;
	return r;
}

static struct node *at_place(const struct fs_names *n, const struct fs_place *p)
{
	return *p->last ? namespace_lookup(n->space, p->parent, p->last, strlen(p->last)) : p->parent;
}

static int remove_tree(struct fs_names *n, struct node *top, struct error *err)
{
	return namespace_remove_tree(n->space, top, n->ops->drop, n->builder, err);
}

static int find_place(struct fs_names *n, const char *path, struct fs_place *ret, struct error *err)
{
	int r = namespace_parent(n->space, path, make_dir, n, &ret->parent, &ret->last);

	return r < 0 ? fs_names_error(r, path, err) : 0;
}

int fs_names_place(struct fs_names *n, const struct fs_entry *e, struct fs_place *ret, struct node **ret_dir,
		   struct error *err)
{
	struct node *old;
	int r = fs_names_check_idle(n, e->path, err);

	if (r >= 0)
		r = check_entry(e, err);
	if (r >= 0)
		r = find_place(n, e->path, ret, err);
	if (r < 0)
		return r;
	old = at_place(n, ret);
	if (old && S_ISDIR(old->mode) && S_ISDIR(e->mode)) {
		*ret_dir = old;
		return 1;
	}
	if (!*ret->last)
		return error_set(err, EINVAL, "file system: the root is a directory");
	return old ? remove_tree(n, old, err) : 0;
}

static int add(struct fs_names *n, const struct fs_place *place, const char *path, uint32_t ino, mode_t mode,
	       const char *target, struct node **ret, struct error *err)
{
	int r = namespace_add(n->space, place->parent, place->last, strlen(place->last), ino, mode, target, ret);

	if (r < 0)
		return fs_names_error(r, path, err);
	(*ret)->layer = n->layer;
	return 0;
}

int fs_names_add(struct fs_names *n, const struct fs_place *place, const struct fs_entry *e, uint32_t ino,
		 struct node **ret, struct error *err)
{
	return add(n, place, e->path, ino, e->mode, S_ISLNK(e->mode) ? e->link : NULL, ret, err);
}

int fs_names_link(struct fs_names *n, const char *path, const char *target, struct error *err)
{
	_cleanup_free_ char *link = NULL;
	struct node *to, *old;
	struct fs_place place;
	uint32_t ino;
	mode_t mode;
	int r = fs_names_check_idle(n, path, err);

	if (r < 0)
		return r;
	r = fs_names_find(n, target, &to);
	if (r < 0)
		return error_set_errno(err, -r, "file system: '%.200s': link to '%.200s'", path, target);
	if (S_ISDIR(to->mode))
		return error_set(err, EINVAL, "file system: '%.200s': link to the directory '%.200s'", path, target);
	r = find_place(n, path, &place, err);
	if (r < 0)
		return r;
	if (!*place.last)
		return error_set(err, EINVAL, "file system: the root is a directory");
	old = at_place(n, &place);
	if (old && !S_ISDIR(old->mode) && old->ino == to->ino)
		return 0;
	/* The count is up before the old entry goes: it may be a directory that holds the target. */
	r = n->ops->add_link(n->builder, to->ino, path, err);
	if (r < 0)
		return r;
	ino = to->ino;
	mode = to->mode;
	link = S_ISLNK(mode) ? xstrdup(node_target(to)) : NULL;
	r = old ? remove_tree(n, old, err) : 0;
	return r < 0 ? r : add(n, &place, path, ino, mode, link, &to, err);
}

int fs_names_find(struct fs_names *n, const char *path, struct node **ret)
{
	struct fs_place place;
	int r = namespace_parent(n->space, path, NULL, NULL, &place.parent, &place.last);

	if (r < 0)
		return r;
	*ret = at_place(n, &place);
	return *ret ? 0 : -ENOENT;
}

int fs_names_resolve(struct fs_names *n, const char *path, char **ret_path, mode_t *ret_mode)
{
	struct node *node;
	int r = namespace_resolve(n->space, path, &node);

	if (r < 0)
		return r;
	*ret_mode = node->mode;
	*ret_path = namespace_path(n->space, node);
	return 0;
}

int fs_names_next_layer(struct fs_names *n, struct error *err)
{
	if (n->layer == UINT16_MAX)
		return error_set(err, E2BIG, "file system: too many layers");
	n->layer++;
	return 0;
}

int fs_names_remove_lower(struct fs_names *n, const char *path, bool below, const struct node *kept, struct error *err)
{
	struct node *node;
	int r = fs_names_check_idle(n, path, err);

	if (r < 0)
		return r;
	r = fs_names_find(n, path, &node);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return fs_names_error(r, path, err);
	if (node == namespace_root(n->space) && !below)
		return error_set(err, EINVAL, "file system: the root cannot be removed");
	return namespace_remove_lower(n->space, node, n->layer, below, kept, &n->visits, n->ops->drop, n->builder, err);
}

uint8_t fs_names_file_type(const struct node *node)
{
	switch (node->mode & S_IFMT) {
	case S_IFREG: return EXT2_FT_REG_FILE;
	case S_IFDIR: return EXT2_FT_DIR;
	case S_IFCHR: return EXT2_FT_CHRDEV;
	case S_IFBLK: return EXT2_FT_BLKDEV;
	case S_IFIFO: return EXT2_FT_FIFO;
	case S_IFSOCK: return EXT2_FT_SOCK;
	case S_IFLNK: return EXT2_FT_SYMLINK;
	default: return EXT2_FT_UNKNOWN;
	}
}
