#include "cli/image_disk.h"

#include <errno.h>
#include <unistd.h>

#include "base/memory.h"
#include "disk/disk_file.h"
#include "disk/ext4.h"
#include "image/image.h"

int image_disk_entry(const struct tree_entry *e, struct fs_xattr xattrs[IMAGE_DISK_XATTRS], struct fs_entry *ret,
		     struct error *err)
{
	if (e->n_xattrs > IMAGE_DISK_XATTRS)
		return error_set(err, E2BIG, "'%s': too many extended attributes", e->path);
	for (size_t i = 0; i < e->n_xattrs; i++)
		xattrs[i] = (struct fs_xattr){ .name = e->xattrs[i].name,
					       .value = e->xattrs[i].value,
					       .len = e->xattrs[i].len };
	*ret = (struct fs_entry){
		.path = e->path,
		.mode = e->mode,
		.uid = e->uid,
		.gid = e->gid,
		.mtime_ns = e->mtime_ns,
		.size = e->size,
		.link = e->link,
		.rdev_major = e->rdev_major,
		.rdev_minor = e->rdev_minor,
		.xattrs = xattrs,
		.n_xattrs = e->n_xattrs,
	};
	return 0;
}

struct ext4_tree {
	struct tree tree; /* first: a tree is one of these */
	struct ext4 *x;
};

static struct ext4 *disk(struct tree *t)
{
	return ((struct ext4_tree *)t)->x;
}

static int add(struct tree *t, const struct tree_entry *e, struct error *err)
{
	struct fs_xattr xattrs[IMAGE_DISK_XATTRS];
	struct fs_entry entry;
	int r = image_disk_entry(e, xattrs, &entry, err);

	return r < 0 ? r : ext4_add(disk(t), &entry, err);
}

static int write_piece(struct tree *t, uint64_t offset, const void *p, size_t n, struct error *err)
{
	return ext4_write(disk(t), offset, p, n, err);
}

static int end_file(struct tree *t, struct error *err)
{
	return ext4_end_file(disk(t), err);
}

static int add_link(struct tree *t, const char *path, const char *target, struct error *err)
{
	return ext4_link(disk(t), path, target, err);
}

static int next_layer(struct tree *t, struct error *err)
{
	return ext4_next_layer(disk(t), err);
}

static int remove_lower(struct tree *t, const char *path, bool below, struct error *err)
{
	return ext4_remove_lower(disk(t), path, below, err);
}

static int resolve(struct tree *t, const char *path, char **ret_path, mode_t *ret_mode)
{
	return ext4_resolve(disk(t), path, ret_path, ret_mode);
}

static int finish(struct tree *t, struct error *err)
{
	return ext4_finish(disk(t), err);
}

static void free_tree(struct tree *t)
{
	ext4_free(disk(t));
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

int ext4_tree_create(int fd, const struct tree_format *f, struct tree **ret, struct error *err)
{
	struct ext4_tree *t;
	struct ext4 *x;
	int r;

	r = ext4_create(fd, f->bytes, f->label, f->uuid, f->seed, f->time_s, f->journal, &x, err);
	if (r < 0)
		return r;
	t = xnew(struct ext4_tree);
	t->tree.ops = &ops;
	t->x = x;
	*ret = &t->tree;
	return 0;
}

int image_disk_format(const char *name, tree_create_fn *ret, struct error *err)
{
	static const struct {
		const char *name;
		tree_create_fn create;
	} formats[] = {
		{ "ext4", ext4_tree_create },
		{ "erofs", erofs_tree_create },
	};

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (streq(name ? name : "ext4", formats[i].name)) {
			*ret = formats[i].create;
			return 0;
		}
	return error_set_kind(err, ERROR_USAGE, EINVAL, "no format '%.40s': images become ext4 or erofs disks", name);
}

const char *image_disk_usual(const struct store *s, const char *digest, const char *name)
{
	_cleanup_(image_meta_done) struct image_meta meta = {};
	int r = image_meta_read(s, digest, &meta, NULL);

	if (r < 0)
		r = image_find(s, name, &meta, NULL);
	return r >= 0 && meta.fstype && streq(meta.fstype, "erofs") ? "erofs" : NULL;
}

/* A disk without a partition table is refused like anything else that is none: there is nothing to boot on it. */
int image_disk_make(int fd, int dirfd, const char *name, const char *scratch_path, uint64_t *ret_bytes,
		    struct error *err)
{
	_cleanup_free_ uint8_t *head = xcalloc(1, DISK_FILE_HEAD);
	enum disk_file_kind kind;
	ssize_t n = pread(fd, head, DISK_FILE_HEAD, 0);
	int r;

	if (n < 0)
		return error_set_errno(err, errno, "the disk");
	kind = disk_file_recognise(head, (size_t)n);
	if (kind == DISK_FILE_NONE || kind == DISK_FILE_PACKED || kind == DISK_FILE_ISO)
		return error_set(err, EBADMSG, "the disk: no disk image that is known");
	r = disk_file_check(fd, kind, "the disk", err);
	return r < 0 ? r : disk_file_convert(fd, kind, "the disk", dirfd, name, scratch_path, ret_bytes, err);
}
