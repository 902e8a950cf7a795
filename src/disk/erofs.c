/* How the builder works: names live in memory (namespace.h); inodes and contents are written as they come (erofs_space.c), directories at the
 * end, when all names are known (erofs_dir.c). So an entry may be replaced or removed at any time: its place is cleared and stays a hole.
 * The end of a file that fills no block lies behind its inode. A file with holes is kept as chunks, each of which is there or not. */
#include "disk/erofs.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "disk/erofs_parts.h"

enum {
	PENDING = 1 << 20,
	MAP_MAX = 1 << 18, /* chunks of one file, but for the last: larger files have larger ones */
};
static int drop_node(void *data, const struct node *node, struct error *err)
{
	struct erofs *x = data;

	if (!S_ISDIR(node->mode))
		return erofs_drop_inode(x, node->ino, err);
	erofs_drop_dir(x, node->ino);
	return 0;
}

static int new_dir(void *data, uint32_t *ret)
{
	struct erofs *x = data;
	int r = erofs_new_dir(x, ret, NULL);

	if (r >= 0)
		x->dirs[*ret].mtime_ns = x->time_s * UINT64_C(1000000000);
	return r;
}

static int add_link(void *data, uint32_t nid, const char *path, struct error *err)
{
	struct erofs *x = data;
	uint64_t at = (uint64_t)nid * EROFS_SLOT;
	uint8_t head[EROFS_INODE];
	struct erofs_inode i;
	int r = erofs_load(x, at, head, sizeof(head), err);

	if (r < 0)
		return r;
	erofs_inode_decode(head, &i);
	if (i.nlink == UINT32_MAX)
		return fs_names_error(-EMLINK, path, err);
	i.nlink++;
	erofs_inode_encode(&i, head);
	return erofs_store(x, at, head, sizeof(head), err);
}

static const struct fs_names_ops names_ops = { new_dir, add_link, drop_node };

static int merge_directory(struct erofs *x, struct node *node, const struct fs_entry *e, struct error *err)
{
	node->mode = (uint16_t)e->mode;
	node->layer = x->names.layer;
	return erofs_set_dir(x, node->ino, e, err);
}

/* A symbolic link or a special file. */
static int put_special(struct erofs *x, const struct fs_entry *e, const struct buf *xattrs, uint32_t *ret,
		       struct error *err)
{
	struct erofs_inode i = { .mode = e->mode, .uid = e->uid, .gid = e->gid, .nlink = 1, .mtime_ns = e->mtime_ns };
	uint8_t block[EROFS_BLOCK] = {};
	size_t n = 0;
	int r = 0;

	if (S_ISCHR(e->mode) || S_ISBLK(e->mode))
		i.u = (e->rdev_minor & 0xff) | e->rdev_major << 8 | (e->rdev_minor & ~UINT32_C(0xff)) << 12;
	if (S_ISLNK(e->mode)) {
		i.size = strlen(e->link);
		if (EROFS_INODE + xattrs->len + i.size <= EROFS_BLOCK) {
			i.layout = EROFS_INLINE;
			n = (size_t)i.size;
		} else {
			memcpy(block, e->link, (size_t)i.size);
			r = erofs_take_blocks(x, 1, &i.u, err);
			if (r >= 0)
				r = erofs_write_blocks(x, i.u, block, 1, err);
		}
	}
	return r < 0 ? r : erofs_put_inode(x, &i, xattrs, e->link, n, ret, err);
}

static void forget_file(struct erofs *x)
{
	buf_truncate(&x->xattrs, 0);
	free(x->map);
	x->map = NULL;
	x->n_map = 0;
	x->names.in_file = false;
	x->file_node = NULL;
}

static void begin_file(struct erofs *x, const struct fs_entry *e, struct node *node)
{
	x->names.in_file = true;
	x->file_node = node;
	x->inode = (struct erofs_inode){
		.mode = e->mode, .uid = e->uid, .gid = e->gid, .nlink = 1, .mtime_ns = e->mtime_ns, .size = e->size
	};
	x->end = x->pending_at = x->pending_n = x->file_blocks = 0;
}

int erofs_add(struct erofs *x, const struct fs_entry *e, struct error *err)
{
	struct fs_place place;
	struct node *node;
	uint32_t ino = 0;
	int r = fs_names_place(&x->names, e, &place, &node, err);

	if (r != 0)
		return r < 0 ? r : merge_directory(x, node, e, err);
	if (S_ISDIR(e->mode)) {
		r = erofs_new_dir(x, &ino, err);
		if (r >= 0)
			r = fs_names_add(&x->names, &place, e, ino, &node, err);
		return r < 0 ? r : erofs_set_dir(x, ino, e, err);
	}
	buf_truncate(&x->xattrs, 0);
	r = erofs_xattrs_encode(e, &x->xattrs, err);
	if (r >= 0 && !S_ISREG(e->mode))
		r = put_special(x, e, &x->xattrs, &ino, err);
	if (r >= 0)
		r = fs_names_add(&x->names, &place, e, ino, &node, err);
	if (r >= 0 && S_ISREG(e->mode))
		begin_file(x, e, node);
	return r;
}

static size_t chunk_blocks(const struct erofs *x)
{
	return (size_t)1 << x->chunk_bits;
}

/* From now on the file has chunks; what was written becomes the first of them. */
static int make_chunks(struct erofs *x, struct error *err)
{
	uint64_t chunk = EROFS_BLOCK, blocks = x->file_blocks;
	uint32_t unused;

	if (x->map)
		return 0;
	x->chunk_bits = 0;
	for (; x->inode.size / chunk > MAP_MAX; chunk *= 2)
		x->chunk_bits++;
	x->n_map = (size_t)(x->inode.size / chunk + (x->inode.size % chunk != 0));
	x->map = xnew_n(uint32_t, x->n_map);
	memset(x->map, 0xff, x->n_map * sizeof(*x->map));
	for (size_t i = 0; i * chunk_blocks(x) < blocks; i++)
		x->map[i] = x->inode.u + (uint32_t)(i * chunk_blocks(x));
	/* The rest of the last one, which nothing has been written to, is its zeros. */
	return erofs_take_blocks(x, -blocks & (chunk_blocks(x) - 1), &unused, err);
}

/* Writes @n whole blocks that come from block @logical of the file on. */
static int write_chunks(struct erofs *x, uint64_t logical, const uint8_t *p, size_t n, struct error *err)
{
	while (n) {
		size_t i = (size_t)(logical >> x->chunk_bits), in = (size_t)(logical & (chunk_blocks(x) - 1));
		size_t k = chunk_blocks(x) - in, next = i + 1;
		int r = 0;

		if (x->map[i] == EROFS_NO_BLOCK)
			r = erofs_take_blocks(x, chunk_blocks(x), &x->map[i], err);
		/* Further ones lie behind it when they are new. */
		for (; r >= 0 && k < n && x->map[next] == EROFS_NO_BLOCK; next++, k += chunk_blocks(x))
			r = erofs_take_blocks(x, chunk_blocks(x), &x->map[next], err);
		k = k < n ? k : n;
		if (r >= 0)
			r = erofs_write_blocks(x, x->map[i] + (uint32_t)in, p, k, err);
		if (r < 0)
			return r;
		logical += k;
		p += k * EROFS_BLOCK;
		n -= k;
	}
	return 0;
}

/* Writes the whole blocks of what is pending; the caller has filled the last one up where it is to go, too. */
static int write_pending(struct erofs *x, struct error *err)
{
	size_t n = x->pending_n / EROFS_BLOCK, bytes = n * EROFS_BLOCK;
	uint32_t at;
	int r;

	if (!n)
		return 0;
	if (x->map) {
		r = write_chunks(x, x->pending_at / EROFS_BLOCK, x->pending, n, err);
	} else {
		r = erofs_take_blocks(x, n, &at, err);
		if (r >= 0 && !x->file_blocks)
			x->inode.u = at;
		if (r >= 0)
			r = erofs_write_blocks(x, at, x->pending, n, err);
		x->file_blocks += n;
	}
	memmove(x->pending, x->pending + bytes, x->pending_n - bytes);
	x->pending_at += bytes;
	x->pending_n -= bytes;
	return r;
}

/* @p NULL: zeros. */
static int append(struct erofs *x, const uint8_t *p, uint64_t n, struct error *err)
{
	while (n) {
		size_t room = PENDING - x->pending_n, k = n < room ? (size_t)n : room;
		int r = 0;

		if (p) {
			memcpy(x->pending + x->pending_n, p, k);
			p += k;
		} else {
			memset(x->pending + x->pending_n, 0, k);
		}
		x->pending_n += k;
		n -= k;
		if (x->pending_n == PENDING)
			r = write_pending(x, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static uint64_t to_block(uint64_t bytes)
{
	return -bytes & (EROFS_BLOCK - 1);
}

/* A hole follows: what is pending goes out, up to the end of its block. */
static int begin_hole(struct erofs *x, struct error *err)
{
	int r = append(x, NULL, to_block(x->end), err);

	if (r >= 0)
		r = write_pending(x, err);
	return r < 0 ? r : make_chunks(x, err);
}

/* Does nothing stand in some whole block before @offset? */
static bool is_hole(const struct erofs *x, uint64_t offset)
{
	return offset - x->end >= to_block(x->end) + EROFS_BLOCK;
}

static int skip(struct erofs *x, uint64_t offset, struct error *err)
{
	int r;

	if (!is_hole(x, offset))
		return append(x, NULL, offset - x->end, err);
	r = begin_hole(x, err);
	x->pending_at = offset / EROFS_BLOCK * EROFS_BLOCK;
	return r < 0 ? r : append(x, NULL, offset % EROFS_BLOCK, err);
}

int erofs_write(struct erofs *x, uint64_t offset, const void *p, size_t n, struct error *err)
{
	int r;

	if (!x->names.in_file)
		return error_set(err, EINVAL, "file system: content without a file");
	if (offset < x->end || n > x->inode.size || offset > x->inode.size - n)
		return error_set(err, EINVAL, "file system: content outside its file");
	if (!n)
		return 0;
	r = skip(x, offset, err);
	if (r >= 0)
		r = append(x, p, n, err);
	x->end = offset + n;
	return r;
}

/* The map goes behind the inode. */
static int put_chunked(struct erofs *x, uint32_t *ret, struct error *err)
{
	int r = append(x, NULL, to_block(x->pending_n), err);

	if (r >= 0)
		r = write_pending(x, err);
	if (r < 0)
		return r;
	for (size_t i = 0; i < x->n_map; i++)
		x->map[i] = htole32(x->map[i]);
	x->chunked = true;
	x->inode.layout = EROFS_CHUNKS;
	x->inode.u = x->chunk_bits;
	return erofs_put_inode(x, &x->inode, &x->xattrs, x->map, x->n_map * sizeof(*x->map), ret, err);
}

static int put_file(struct erofs *x, uint32_t *ret, struct error *err)
{
	size_t tail = (size_t)(x->inode.size % EROFS_BLOCK);
	int r;

	if (is_hole(x, x->inode.size))
		r = begin_hole(x, err);
	else
		r = append(x, NULL, x->inode.size - x->end, err);
	if (r < 0 || x->map)
		return r < 0 ? r : put_chunked(x, ret, err);
	if (EROFS_INODE + x->xattrs.len + tail > EROFS_BLOCK) {
		r = append(x, NULL, to_block(tail), err);
		tail = 0;
	}
	if (r >= 0)
		r = write_pending(x, err);
	x->inode.layout = tail ? EROFS_INLINE : EROFS_PLAIN;
	return r < 0 ? r : erofs_put_inode(x, &x->inode, &x->xattrs, x->pending, tail, ret, err);
}

int erofs_end_file(struct erofs *x, struct error *err)
{
	int r;

	if (!x->names.in_file)
		return error_set(err, EINVAL, "file system: the end of no file");
	r = put_file(x, &x->file_node->ino, err);
	forget_file(x);
	return r;
}

int erofs_link(struct erofs *x, const char *path, const char *target, struct error *err)
{
	return fs_names_link(&x->names, path, target, err);
}

int erofs_next_layer(struct erofs *x, struct error *err)
{
	return fs_names_next_layer(&x->names, err);
}

int erofs_remove_lower(struct erofs *x, const char *path, bool below, struct error *err)
{
	return fs_names_remove_lower(&x->names, path, below, NULL, err);
}

int erofs_resolve(struct erofs *x, const char *path, char **ret_path, mode_t *ret_mode)
{
	return fs_names_resolve(&x->names, path, ret_path, ret_mode);
}

int erofs_create(int fd, uint64_t limit_bytes, const char *label, const uint8_t uuid[16], uint64_t time_s,
		 struct erofs **ret, struct error *err)
{
	_cleanup_(erofs_freep) struct erofs *x = xnew(struct erofs);
	struct fs_entry root = { .path = ".", .mode = S_IFDIR | 0755, .mtime_ns = time_s * UINT64_C(1000000000) };
	uint32_t index;
	int r;

	x->fd = fd;
	x->flusher = flusher_new(fd);
	x->limit_blocks = limit_bytes / EROFS_BLOCK < EROFS_NO_BLOCK ? limit_bytes / EROFS_BLOCK : EROFS_NO_BLOCK - 1;
	/* Superblock and root. */
	x->next_block = EROFS_ROOT_END / EROFS_BLOCK;
	x->time_s = time_s;
	memcpy(x->uuid, uuid, sizeof(x->uuid));
	for (size_t i = 0; i + 1 < sizeof(x->label) && label[i]; i++)
		x->label[i] = label[i];
	x->pending = xcalloc(1, PENDING);
	x->blocks = xnew_n(struct erofs_block, EROFS_OPEN_BLOCKS);
	fs_names_init(&x->names, &names_ops, x, 0);
	r = erofs_new_dir(x, &index, err);
	if (r >= 0)
		r = merge_directory(x, namespace_root(x->names.space), &root, err);
	/* What is not written reads as zeros. */
	if (r >= 0 && ftruncate(fd, EROFS_ROOT_END) < 0)
		r = error_set_errno(err, errno, "file system: cannot begin it");
	if (r < 0)
		return r;
	*ret = TAKE_PTR(x);
	return 0;
}

int erofs_finish(struct erofs *x, struct error *err)
{
	int r = fs_names_finish(&x->names, err);

	if (r >= 0)
		r = erofs_write_dirs(x, err);
	if (r >= 0 && ftruncate(x->fd, (off_t)(x->next_block * EROFS_BLOCK)) < 0)
		r = error_set_errno(err, errno, "file system: cannot end it");
	return r;
}

struct erofs *erofs_free(struct erofs *x)
{
	if (!x)
		return NULL;
	forget_file(x);
	flusher_free(x->flusher);
	buf_done(&x->xattrs);
	for (uint32_t i = 0; i < x->n_dirs; i++)
		free(x->dirs[i].xattrs);
	free(x->dirs);
	free(x->blocks);
	fs_names_done(&x->names);
	free(x->pending);
	free(x);
	return NULL;
}
