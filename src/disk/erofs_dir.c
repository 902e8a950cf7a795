/* Directories and the superblock, written when all names are known. First each directory gets its place, by which its parent names it; then all
 * are written. Names are sorted, so that the order of arrival leaves no trace in them. */
#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/fault.h"
#include "base/memory.h"
#include "disk/erofs_parts.h"

/* Attributes of directories, which are kept until the end. */
#define XATTRS_BYTES_MAX ((size_t)8 << 20)
#define MAGIC            UINT32_C(0xe0f5e1e2)
enum { FEATURE_CHECKSUM = 1, FEATURE_MTIME = 2, FEATURE_CHUNKS = 4, BLOCK_BITS = 12 };

int erofs_new_dir(struct erofs *x, uint32_t *ret, struct error *err)
{
	if (x->unused_dir) {
		*ret = x->unused_dir;
		x->unused_dir = x->dirs[*ret].nid;
	} else {
		if (x->n_dirs == UINT32_MAX)
			return error_set(err, E2BIG, "file system: more directories than are allowed");
		if (x->n_dirs == x->cap_dirs) {
			x->cap_dirs = x->cap_dirs ? x->cap_dirs + x->cap_dirs / 2 + 1 : 64;
			x->dirs = xrealloc_array(x->dirs, x->cap_dirs, sizeof(*x->dirs));
		}
		*ret = x->n_dirs++;
	}
	x->dirs[*ret] = (struct erofs_dir){};
	x->n_inodes++;
	return 0;
}

int erofs_set_dir(struct erofs *x, uint32_t index, const struct fs_entry *e, struct error *err)
{
	struct erofs_dir *d = &x->dirs[index];
	_cleanup_buf_ struct buf xattrs = {};
	int r = erofs_xattrs_encode(e, &xattrs, err);

	if (r < 0)
		return r;
	x->xattrs_bytes -= d->xattr_bytes;
	free(d->xattrs);
	d->xattrs = NULL;
	d->xattr_bytes = 0;
	if (xattrs.len > XATTRS_BYTES_MAX - x->xattrs_bytes)
		return error_set(err, E2BIG, "'%s': the image's directories have too many extended attributes",
				 e->path);
	if (index == 0 && EROFS_ROOT_AT + EROFS_INODE + xattrs.len > EROFS_ROOT_END)
		return error_set(err, E2BIG, "'%s': extended attributes: more than there is room for", e->path);
	if (xattrs.len) {
		d->xattrs = xmemdup(xattrs.p, xattrs.len);
		d->xattr_bytes = (uint32_t)xattrs.len;
		x->xattrs_bytes += xattrs.len;
	}
	d->uid = e->uid;
	d->gid = e->gid;
	d->mtime_ns = e->mtime_ns;
	return 0;
}

void erofs_drop_dir(struct erofs *x, uint32_t index)
{
	struct erofs_dir *d = &x->dirs[index];

	x->xattrs_bytes -= d->xattr_bytes;
	free(d->xattrs);
	*d = (struct erofs_dir){ .nid = x->unused_dir };
	x->unused_dir = index;
	x->n_inodes--;
}

struct name {
	const char *s;
	const struct node *node;
};

struct list {
	struct name *items; /* owned */
	size_t n;
};

static void list_done(struct list *l)
{
	free(l->items);
}

/* As the kernel compares: bytes, without sign. */
static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->s, ((const struct name *)b)->s);
}

static void list_names(const struct erofs *x, const struct node *dir, struct list *l)
{
	size_t n = 2;

	for (const struct node *c = namespace_first(x->names.space, dir); c; c = namespace_next(x->names.space, c))
		n++;
	l->items = xnew_n(struct name, n);
	l->items[l->n++] = (struct name){ ".", dir };
	l->items[l->n++] = (struct name){ "..", namespace_up(x->names.space, dir) };
	for (const struct node *c = namespace_first(x->names.space, dir); c; c = namespace_next(x->names.space, c))
		l->items[l->n++] = (struct name){ c->name, c };
	qsort(l->items, l->n, sizeof(*l->items), by_name);
}

/* How many of the names from @first on fit into a block; *ret_bytes: what they take. */
static size_t fit_block(const struct list *l, size_t first, size_t *ret_bytes)
{
	size_t n = 0;

	*ret_bytes = 0;
	while (first + n < l->n) {
		size_t size = EROFS_DIRENT + strlen(l->items[first + n].s);

		if (*ret_bytes + size > EROFS_BLOCK)
			break;
		*ret_bytes += size;
		n++;
	}
	return n;
}

static uint32_t nid_of(const struct erofs *x, const struct node *node)
{
	return S_ISDIR(node->mode) ? x->dirs[node->ino].nid : node->ino;
}

static void fill_block(const struct erofs *x, const struct name *names, size_t n, uint8_t *p)
{
	size_t at = n * EROFS_DIRENT;

	for (size_t i = 0; i < n; i++, p += EROFS_DIRENT) {
		size_t len = strlen(names[i].s);

		erofs_put64(p, nid_of(x, names[i].node));
		erofs_put16(p + 8, (uint16_t)at);
		p[10] = fs_names_file_type(names[i].node);
		p[11] = 0;
		memcpy(p + at - i * EROFS_DIRENT, names[i].s, len);
		at += len;
	}
}

/* The directory's blocks, and whether the last of them goes behind the inode. */
static int place_dir(struct erofs *x, const struct node *node, struct error *err)
{
	struct erofs_dir *d = &x->dirs[node->ino];
	_cleanup_(list_done) struct list l = {};
	size_t blocks = 0, bytes = 0, behind;
	uint64_t at;
	int r = 0;

	list_names(x, node, &l);
	for (size_t i = 0; i < l.n; blocks++)
		i += fit_block(&l, i, &bytes);
	behind = EROFS_INODE + d->xattr_bytes;
	d->tail = bytes < EROFS_BLOCK && behind + bytes <= EROFS_BLOCK && node->ino != 0 ? (uint16_t)bytes : 0;
	d->size_blocks = (uint32_t)(blocks - (d->tail != 0));
	if (d->size_blocks)
		r = erofs_take_blocks(x, d->size_blocks, &d->block, err);
	if (r < 0 || node->ino == 0)
		return r;
	if (behind <= EROFS_BLOCK) {
		r = erofs_place(x, behind + d->tail, &at, err);
	} else {
		uint32_t block;

		r = erofs_take_blocks(x, (behind + EROFS_BLOCK - 1) / EROFS_BLOCK, &block, err);
		at = r < 0 ? 0 : (uint64_t)block * EROFS_BLOCK;
	}
	if (r >= 0)
		d->nid = (uint32_t)(at / EROFS_SLOT);
	return r;
}

static int write_inode(struct erofs *x, const struct node *node, size_t last_bytes, const uint8_t *tail,
		       struct error *err)
{
	const struct erofs_dir *d = &x->dirs[node->ino];
	uint64_t at = (uint64_t)d->nid * EROFS_SLOT;
	struct erofs_inode i = {
		.layout = d->tail ? EROFS_INLINE : EROFS_PLAIN,
		.mode = node->mode,
		.uid = d->uid,
		.gid = d->gid,
		.nlink = node->n_subdirs + 2,
		.number = ++x->next_number,
		.mtime_ns = d->mtime_ns,
		.u = d->block,
		.xattr_bytes = d->xattr_bytes,
	};
	uint8_t head[EROFS_INODE];
	int r;

	i.size = (uint64_t)d->size_blocks * EROFS_BLOCK + d->tail;
	if (!d->tail)
		i.size -= EROFS_BLOCK - last_bytes;
	erofs_inode_encode(&i, head);
	r = erofs_store(x, at, head, sizeof(head), err);
	if (r >= 0)
		r = erofs_store(x, at + EROFS_INODE, d->xattrs, d->xattr_bytes, err);
	return r < 0 ? r : erofs_store(x, at + EROFS_INODE + d->xattr_bytes, tail, d->tail, err);
}

static int write_dir(struct erofs *x, const struct node *node, struct error *err)
{
	const struct erofs_dir *d = &x->dirs[node->ino];
	_cleanup_(list_done) struct list l = {};
	uint8_t block[EROFS_BLOCK];
	size_t bytes = 0;
	uint32_t done = 0;

	list_names(x, node, &l);
	for (size_t i = 0, n; i < l.n; i += n, done++) {
		int r = 0;

		n = fit_block(&l, i, &bytes);
		memset(block, 0, sizeof(block));
		fill_block(x, l.items + i, n, block);
		if (done < d->size_blocks)
			r = erofs_write_blocks(x, d->block + done, block, 1, err);
		if (r < 0)
			return r;
	}
	return write_inode(x, node, bytes, block, err);
}

static int write_super(struct erofs *x, struct error *err)
{
	uint8_t block[EROFS_BLOCK], *p = block + EROFS_SUPER_AT;
	int r = erofs_load(x, 0, block, sizeof(block), err);

	if (r < 0)
		return r;
	erofs_put32(p, MAGIC);
	erofs_put32(p + 8, FEATURE_CHECKSUM | FEATURE_MTIME);
	p[12] = BLOCK_BITS;
	erofs_put16(p + 14, EROFS_ROOT_AT / EROFS_SLOT);
	erofs_put64(p + 16, x->n_inodes);
	erofs_put64(p + 24, x->time_s);
	erofs_put32(p + 36, (uint32_t)x->next_block);
	memcpy(p + 48, x->uuid, sizeof(x->uuid));
	memcpy(p + 64, x->label, sizeof(x->label));
	erofs_put32(p + 80, x->chunked ? FEATURE_CHUNKS : 0);
	erofs_put32(p + 4, ext2fs_crc32c_le(~0U, p, EROFS_BLOCK - EROFS_SUPER_AT));
	return erofs_store(x, 0, block, sizeof(block), err);
}

int erofs_write_dirs(struct erofs *x, struct error *err)
{
	const struct node *root = namespace_root(x->names.space);
	int r = fault_point("erofs-directories");

	if (r < 0)
		return error_set_errno(err, -r, "file system: directories");
	x->dirs[0].nid = EROFS_ROOT_AT / EROFS_SLOT;
	for (const struct node *at = root; at; at = namespace_walk(x->names.space, at)) {
		r = S_ISDIR(at->mode) ? place_dir(x, at, err) : 0;
		if (r < 0)
			return r;
	}
	r = erofs_flush(x, err);
	for (const struct node *at = root; r >= 0 && at; at = namespace_walk(x->names.space, at))
		r = S_ISDIR(at->mode) ? write_dir(x, at, err) : 0;
	return r < 0 ? r : write_super(x, err);
}
