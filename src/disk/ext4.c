/* How the builder works: names live in memory (namespace.h); inodes and contents are written as they come; directories are written at the
 * end, when all names are known. So an entry may be replaced or removed at any time at the cost of a look-up, and nothing is ever read back
 * from directories. Inodes are numbered in the order of arrival. */
#include "disk/ext4.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/memory.h"
#include "disk/ext4_format.h"
#include "disk/ext4_parts.h"

enum { PENDING = 1 << 20, FAST_SYMLINK = 60, XATTR_VALUE_LIMIT = 64 << 10, XATTRS_LIMIT = 256 };
static void set_time(uint32_t *seconds, uint32_t *extra, uint64_t ns)
{
	uint64_t s = ns / UINT64_C(1000000000);

	*seconds = (uint32_t)s;
	/* The seconds are signed. Two bits are what to add to them past 2038, the others are nanoseconds. */
	*extra = (uint32_t)((s - (uint64_t)(int32_t)(uint32_t)s) >> 32 & 3) | (uint32_t)(ns % UINT64_C(1000000000))
										      << 2;
}

static void init_inode(const struct ext4 *x, const struct fs_entry *e, union ext4_inode *inode)
{
	struct ext2_inode_large *i = &inode->large;
	uint64_t now_ns = x->time_s * UINT64_C(1000000000);

	*inode = (union ext4_inode){};
	i->i_mode = (uint16_t)e->mode;
	i->i_uid = (uint16_t)e->uid;
	i->osd2.linux2.l_i_uid_high = (uint16_t)(e->uid >> 16);
	i->i_gid = (uint16_t)e->gid;
	i->osd2.linux2.l_i_gid_high = (uint16_t)(e->gid >> 16);
	i->i_links_count = 1;
	i->i_extra_isize = 32;
	set_time(&i->i_mtime, &i->i_mtime_extra, e->mtime_ns);
	set_time(&i->i_atime, &i->i_atime_extra, now_ns);
	set_time(&i->i_ctime, &i->i_ctime_extra, now_ns);
	set_time(&i->i_crtime, &i->i_crtime_extra, now_ns);
}

static int new_inode(struct ext4 *x, bool dir, uint32_t *ret, struct error *err)
{
	uint32_t count = x->fs->super->s_inodes_count;

	while (x->next_ino <= count && ext2fs_test_inode_bitmap2(x->fs->inode_map, x->next_ino))
		x->next_ino++;
	if (x->next_ino > count) {
		ext2_ino_t free_ino;

		/* The end was reached; removals may have left room before it. */
		if (ext2fs_find_first_zero_inode_bitmap2(x->fs->inode_map, EXT2_FIRST_INODE(x->fs->super), count,
							 &free_ino))
			return ext4_error(err, EXT2_ET_INODE_ALLOC_FAIL, "inodes");
		*ret = free_ino;
	} else {
		*ret = x->next_ino++;
	}
	ext2fs_inode_alloc_stats2(x->fs, *ret, +1, dir);
	return 0;
}

/* Names that ext4 has an index for; others have no meaning to it and are left out. */
static bool xattr_is_storable(const char *name)
{
	static const char *const prefixes[] = { "user.", "trusted.", "security." };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		const char *rest = after_prefix(name, prefixes[i]);

		if (rest && *rest && strlen(rest) <= 255)
			return true;
	}
	return streq(name, "system.posix_acl_access") || streq(name, "system.posix_acl_default");
}

static int set_xattrs(struct ext4 *x, uint32_t ino, const struct fs_xattr *xattrs, size_t n, struct error *err)
{
	struct ext2_xattr_handle *h = NULL;
	errcode_t c;
	size_t storable = 0;

	for (size_t i = 0; i < n; i++)
		storable += xattr_is_storable(xattrs[i].name);
	if (!storable)
		return 0;
	c = ext2fs_xattrs_open(x->fs, ino, &h);
	for (size_t i = 0; !c && i < n; i++)
		if (xattr_is_storable(xattrs[i].name))
			c = ext2fs_xattr_set(h, xattrs[i].name, xattrs[i].value, xattrs[i].len);
	if (h)
		(void)ext2fs_xattrs_close(&h);
	switch (c) {
	case 0: return 0;
	case EXT2_ET_EA_NO_SPACE:
		return error_set(err, E2BIG, "file system: extended attributes: more than there is room for");
	case EXT2_ET_INVALID_ARGUMENT:
	case EXT2_ET_EA_BAD_VALUE_SIZE:
		return error_set(err, EINVAL, "file system: extended attributes: a value that cannot be");
	default: return ext4_error(err, c, "extended attributes");
	}
}

static int check_xattrs(const struct fs_entry *e, struct error *err)
{
	if (e->n_xattrs > XATTRS_LIMIT)
		return error_set(err, E2BIG, "'%s': too many extended attributes", e->path);
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (e->xattrs[i].len > XATTR_VALUE_LIMIT)
			return error_set(err, E2BIG, "'%s': an extended attribute is too large", e->path);
	return 0;
}

static void forget_file(struct ext4 *x)
{
	for (size_t i = 0; i < x->n_xattrs; i++) {
		free((void *)(uintptr_t)x->xattrs[i].name);
		free((void *)(uintptr_t)x->xattrs[i].value);
	}
	free(x->xattrs);
	x->xattrs = NULL;
	x->n_xattrs = 0;
	ext4_runs_clear(&x->runs);
	x->names.in_file = false;
}

/* Keeps a regular file's attributes until its inode is written. */
static void keep_xattrs(struct ext4 *x, const struct fs_entry *e)
{
	if (!e->n_xattrs)
		return;
	x->xattrs = xnew_n(struct fs_xattr, e->n_xattrs);
	x->n_xattrs = e->n_xattrs;
	for (size_t i = 0; i < e->n_xattrs; i++) {
		x->xattrs[i].name = xstrdup(e->xattrs[i].name);
		x->xattrs[i].value = e->xattrs[i].len ? xmemdup(e->xattrs[i].value, e->xattrs[i].len) : NULL;
		x->xattrs[i].len = e->xattrs[i].len;
	}
}

/* Blocks that the library chose by itself, for attributes and extent trees, may lie among those that were thought to be unused. */
static void note_freed(struct ext4 *x, const union ext4_inode *inode, bool attributes)
{
	const struct ext3_extent_header *h = (const struct ext3_extent_header *)inode->small.i_block;

	if (attributes || ((inode->small.i_flags & EXT4_EXTENTS_FL) && h->eh_depth))
		x->unused = UINT64_MAX;
}

/* One name less for an inode; the last one frees it. */
static int drop_inode(struct ext4 *x, uint32_t ino, bool dir, struct error *err)
{
	union ext4_inode inode;
	errcode_t c = 0;
	int r;

	r = ext4_read_inode(x, ino, &inode, err);
	if (r < 0)
		return r;
	if (!dir && inode.large.i_links_count > 1) {
		inode.large.i_links_count--;
		return ext4_write_inode(x, ino, &inode, err);
	}
	note_freed(x, &inode, ext2fs_file_acl_block(x->fs, &inode.small) != 0);
	if (ext2fs_file_acl_block(x->fs, &inode.small))
		c = ext2fs_free_ext_attr(x->fs, ino, &inode.large);
	if (!c && !dir && ext2fs_inode_has_valid_blocks2(x->fs, &inode.small))
		c = ext2fs_punch(x->fs, ino, &inode.small, NULL, 0, ~0ULL);
	if (c)
		return ext4_error(err, c, "cannot free an inode");
	inode = (union ext4_inode){};
	r = ext4_write_inode(x, ino, &inode, err);
	if (r >= 0)
		ext2fs_inode_alloc_stats2(x->fs, ino, -1, dir);
	return r;
}

static int drop_node(void *data, const struct node *node, struct error *err)
{
	return drop_inode(data, node->ino, S_ISDIR(node->mode), err);
}

static int new_dir(void *data, uint32_t *ret)
{
	struct ext4 *x = data;
	union ext4_inode inode;
	int r;

	init_inode(x, &(struct fs_entry){ .mode = S_IFDIR | 0755, .mtime_ns = x->time_s * UINT64_C(1000000000) },
		   &inode);
	r = new_inode(x, true, ret, NULL);
	return r < 0 ? r : ext4_write_inode(x, *ret, &inode, NULL);
}

static int add_link(void *data, uint32_t ino, const char *path, struct error *err)
{
	struct ext4 *x = data;
	union ext4_inode inode;
	int r = ext4_read_inode(x, ino, &inode, err);

	if (r < 0)
		return r;
	if (inode.large.i_links_count >= EXT2_LINK_MAX)
		return fs_names_error(-EMLINK, path, err);
	inode.large.i_links_count++;
	return ext4_write_inode(x, ino, &inode, err);
}

static const struct fs_names_ops names_ops = { new_dir, add_link, drop_node };

/* Puts the type's own content into the inode: a link's target, a device's number. */
static int fill_special(struct ext4 *x, const struct fs_entry *e, uint32_t ino, union ext4_inode *inode,
			struct error *err)
{
	if (S_ISLNK(e->mode)) {
		_cleanup_(ext4_runs_clear) struct ext4_runs runs = {};
		size_t len = strlen(e->link);
		char block[EXT4_BLOCK] = {};
		int r;

		inode->large.i_size = (uint32_t)len;
		if (len < FAST_SYMLINK) {
			memcpy(inode->large.i_block, e->link, len);
			return 0;
		}
		memcpy(block, e->link, len);
		r = ext4_append_blocks(x, &runs, 0, block, 1, err);
		return r < 0 ? r : ext4_set_runs(x, ino, inode, &runs, err);
	}
	if (S_ISCHR(e->mode) || S_ISBLK(e->mode)) {
		if (e->rdev_major < 256 && e->rdev_minor < 256)
			inode->large.i_block[0] = e->rdev_major << 8 | e->rdev_minor;
		else
			inode->large.i_block[1] =
				(e->rdev_minor & 0xff) | e->rdev_major << 8 | (e->rdev_minor & ~UINT32_C(0xff)) << 12;
	}
	return 0;
}

/* A directory that exists takes the new attributes and keeps its children. */
static int merge_directory(struct ext4 *x, struct node *node, const struct fs_entry *e, struct error *err)
{
	union ext4_inode inode, old;
	errcode_t c;
	int r;

	r = ext4_read_inode(x, node->ino, &old, err);
	if (r < 0)
		return r;
	if (ext2fs_file_acl_block(x->fs, &old.small)) {
		note_freed(x, &old, true);
		c = ext2fs_free_ext_attr(x->fs, node->ino, &old.large);
		if (c)
			return ext4_error(err, c, e->path);
	}
	init_inode(x, e, &inode);
	r = ext4_write_inode(x, node->ino, &inode, err);
	if (r < 0)
		return r;
	node->mode = e->mode;
	node->layer = x->names.layer;
	return set_xattrs(x, node->ino, e->xattrs, e->n_xattrs, err);
}

static void begin_file(struct ext4 *x, const struct fs_entry *e, uint32_t ino, const union ext4_inode *inode)
{
	x->names.in_file = true;
	x->file_ino = ino;
	x->inode = *inode;
	x->size = e->size;
	x->end = x->pending_at = x->pending_n = 0;
	keep_xattrs(x, e);
}

int ext4_add(struct ext4 *x, const struct fs_entry *e, struct error *err)
{
	struct fs_place place;
	union ext4_inode inode;
	struct node *node;
	uint32_t ino;
	int r = check_xattrs(e, err);

	if (r >= 0)
		r = fs_names_place(&x->names, e, &place, &node, err);
	if (r != 0)
		return r < 0 ? r : merge_directory(x, node, e, err);
	r = new_inode(x, S_ISDIR(e->mode), &ino, err);
	if (r >= 0)
		r = fs_names_add(&x->names, &place, e, ino, &node, err);
	if (r < 0)
		return r;
	init_inode(x, e, &inode);
	if (S_ISREG(e->mode)) {
		begin_file(x, e, ino, &inode);
		return 0;
	}
	r = fill_special(x, e, ino, &inode, err);
	if (r >= 0)
		r = ext4_write_inode(x, ino, &inode, err);
	return r < 0 ? r : set_xattrs(x, ino, e->xattrs, e->n_xattrs, err);
}

static int flush(struct ext4 *x, struct error *err)
{
	size_t n = (x->pending_n + EXT4_BLOCK - 1) / EXT4_BLOCK;
	int r;

	if (!n)
		return 0;
	memset(x->pending + x->pending_n, 0, n * EXT4_BLOCK - x->pending_n);
	r = ext4_append_blocks(x, &x->runs, x->pending_at / EXT4_BLOCK, x->pending, n, err);
	x->pending_at += n * EXT4_BLOCK;
	x->pending_n = 0;
	return r;
}

int ext4_write(struct ext4 *x, uint64_t offset, const void *p, size_t n, struct error *err)
{
	const uint8_t *from = p;
	int r;

	if (!x->names.in_file)
		return error_set(err, EINVAL, "file system: content without a file");
	if (offset < x->end || n > x->size || offset > x->size - n)
		return error_set(err, EINVAL, "file system: content outside its file");
	if (!n)
		return 0;
	if (offset / EXT4_BLOCK * EXT4_BLOCK >=
		    x->pending_at + ((x->pending_n + EXT4_BLOCK - 1) & ~(size_t)(EXT4_BLOCK - 1)) &&
	    offset != x->pending_at + x->pending_n) {
		/* A gap that holds whole blocks, or ends the block before. */
		r = flush(x, err);
		if (r < 0)
			return r;
		x->pending_at = offset / EXT4_BLOCK * EXT4_BLOCK;
	}
	x->end = offset + n;
	while (n) {
		size_t at = (size_t)(offset - x->pending_at), k;

		if (at == PENDING) {
			r = flush(x, err);
			if (r < 0)
				return r;
			continue;
		}
		if (at > x->pending_n)
			memset(x->pending + x->pending_n, 0, at - x->pending_n);
		k = n < PENDING - at ? n : PENDING - at;
		memcpy(x->pending + at, from, k);
		x->pending_n = at + k;
		from += k;
		offset += k;
		n -= k;
	}
	return 0;
}

int ext4_end_file(struct ext4 *x, struct error *err)
{
	int r;

	if (!x->names.in_file)
		return error_set(err, EINVAL, "file system: the end of no file");
	r = flush(x, err);
	x->inode.large.i_size = (uint32_t)x->size;
	x->inode.large.i_size_high = (uint32_t)(x->size >> 32);
	if (r >= 0)
		r = ext4_set_runs(x, x->file_ino, &x->inode, &x->runs, err);
	if (r >= 0)
		r = ext4_write_inode(x, x->file_ino, &x->inode, err);
	if (r >= 0)
		r = set_xattrs(x, x->file_ino, x->xattrs, x->n_xattrs, err);
	forget_file(x);
	return r;
}

int ext4_link(struct ext4 *x, const char *path, const char *target, struct error *err)
{
	return fs_names_link(&x->names, path, target, err);
}

int ext4_remove(struct ext4 *x, const char *path, struct error *err)
{
	struct node *node;
	int r = fs_names_check_idle(&x->names, path, err);

	if (r < 0)
		return r;
	r = fs_names_find(&x->names, path, &node);
	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return fs_names_error(r, path, err);
	if (node == namespace_root(x->names.space))
		return error_set(err, EINVAL, "file system: the root cannot be removed");
	return namespace_remove_tree(x->names.space, node, drop_node, x, err);
}

int ext4_next_layer(struct ext4 *x, struct error *err)
{
	return fs_names_next_layer(&x->names, err);
}

int ext4_remove_lower(struct ext4 *x, const char *path, bool below, struct error *err)
{
	const struct node *root = namespace_root(x->names.space);

	/* Every ext4 has it, whatever an image says of its root. */
	return fs_names_remove_lower(&x->names, path, below,
				     namespace_lookup(x->names.space, root, "lost+found", strlen("lost+found")), err);
}

int ext4_stat(struct ext4 *x, const char *path, mode_t *ret_mode)
{
	struct node *node;
	int r = fs_names_find(&x->names, path, &node);

	if (r >= 0)
		*ret_mode = node->mode;
	return r;
}

int ext4_resolve(struct ext4 *x, const char *path, char **ret_path, mode_t *ret_mode)
{
	return fs_names_resolve(&x->names, path, ret_path, ret_mode);
}

int ext4_create(int fd, uint64_t bytes, const char *label, const uint8_t uuid[16], const uint8_t hash_seed[16],
		uint64_t time_s, bool journal, struct ext4 **ret, struct error *err)
{
	_cleanup_(ext4_freep) struct ext4 *x = xnew(struct ext4);
	struct fs_entry root = { .path = ".", .mode = S_IFDIR | 0755, .mtime_ns = time_s * UINT64_C(1000000000) };
	struct fs_entry lost = root;
	int r;

	r = ext4_format(fd, bytes, label, uuid, hash_seed, time_s, journal, &x->fs, err);
	if (r < 0)
		return r;
	x->fd = fd;
	x->flusher = flusher_new(fd);
	x->time_s = time_s;
	x->next_ino = EXT2_FIRST_INODE(x->fs->super);
	x->goal = x->fs->super->s_first_data_block;
	x->pending = xcalloc(1, PENDING);
	fs_names_init(&x->names, &names_ops, x, EXT2_ROOT_INO);
	r = merge_directory(x, namespace_root(x->names.space), &root, err);
	if (r < 0)
		return r;
	/* Its inode is the first free one by convention. */
	lost.path = "lost+found";
	lost.mode = S_IFDIR | 0700;
	r = ext4_add(x, &lost, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(x);
	return 0;
}

int ext4_finish(struct ext4 *x, struct error *err)
{
	errcode_t c;
	int r = fs_names_finish(&x->names, err);

	if (r < 0)
		return r;
	for (const struct node *at = namespace_root(x->names.space); at; at = namespace_walk(x->names.space, at)) {
		r = S_ISDIR(at->mode) ? ext4_write_directory(x, at, err) : 0;

		if (r < 0)
			return r;
	}
	c = ext2fs_close_free(&x->fs);
	return c ? ext4_error(err, c, "cannot write it") : 0;
}

struct ext4 *ext4_free(struct ext4 *x)
{
	if (!x)
		return NULL;
	forget_file(x);
	flusher_free(x->flusher);
	if (x->fs)
		ext2fs_free(x->fs);
	fs_names_done(&x->names);
	free(x->pending);
	free(x);
	return NULL;
}
