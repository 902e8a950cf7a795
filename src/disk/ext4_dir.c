/* Directories are written once, when all names are known: a small one as one block, a larger one with its hash index from the start
 * (Documentation/filesystems/ext4/directory.rst). Names are sorted, so that the order of arrival leaves no trace. */
#include "disk/ext4_parts.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

enum {
	TAIL = 12,    /* the checksum's entry at the end of a block */
	DX_TAIL = 8,  /* the same of an index block */
	DOTS = 24,    /* "." and ".." */
	ROOT_AT = 32, /* where the index entries of the root begin, and of a node */
	NODE_AT = 8,
	ROOT_LIMIT = (EXT4_BLOCK - ROOT_AT - DX_TAIL) / 8,
	NODE_LIMIT = (EXT4_BLOCK - NODE_AT - DX_TAIL) / 8,
	/* Leaves are left with some room, as a directory that a hash tree has split has it. */
	LEAF_FILL = EXT4_BLOCK - TAIL - 256,
	LOST_BLOCKS = 4, /* e2fsck wants lost+found to have room without allocating */
};

struct entry {
	const struct node *node;
	uint32_t hash, minor;
};

/* One leaf: entries [first, end) and the hash it starts with. */
struct leaf {
	size_t first, end;
	uint32_t hash;
};

static size_t entry_size(size_t name_len)
{
	return (8 + name_len + 3) & ~(size_t)3;
}

static uint8_t file_type(mode_t mode)
{
	switch (mode & S_IFMT) {
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

static void put16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static void put_entry(uint8_t *p, size_t rec_len, uint32_t ino, uint8_t type, const char *name, size_t len)
{
	put32(p, ino);
	put16(p + 4, (uint16_t)rec_len);
	p[6] = (uint8_t)len;
	p[7] = type;
	memcpy(p + 8, name, len);
}

/* The checksum's entry; libext2fs fills the checksum in when the block is written. */
static void put_tail(uint8_t *block)
{
	put16(block + EXT4_BLOCK - TAIL + 4, TAIL);
	block[EXT4_BLOCK - TAIL + 7] = 0xde;
}

/* @at bytes are filled; the last entry, at @last, is stretched to the tail. */
static void close_leaf(uint8_t *block, size_t last, size_t at)
{
	if (at == 0)
		put16(block + 4, EXT4_BLOCK - TAIL);
	else
		put16(block + last + 4, (uint16_t)(EXT4_BLOCK - TAIL - last));
	put_tail(block);
}

static void put_entries(uint8_t *block, size_t at, size_t last, const struct entry *e, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		const struct node *node = e[i].node;
		size_t len = strlen(node->name), size = entry_size(len);

		put_entry(block + at, size, node->ino, file_type(node->mode), node->name, len);
		last = at;
		at += size;
	}
	close_leaf(block, last, at);
}

static void put_dots(uint8_t *block, const struct node *dir, size_t dotdot_len)
{
	put_entry(block, 12, dir->ino, EXT2_FT_DIR, ".", 1);
	put_entry(block + 12, dotdot_len, dir->parent->ino, EXT2_FT_DIR, "..", 2);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->node->name, ((const struct entry *)b)->node->name);
}

static int by_hash(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	if (x->minor != y->minor)
		return x->minor < y->minor ? -1 : 1;
	return by_name(a, b);
}

static size_t split_leaves(const struct entry *e, size_t n, struct leaf *leaves)
{
	size_t n_leaves = 0, fill = 0;

	for (size_t i = 0; i < n; i++) {
		size_t size = entry_size(strlen(e[i].node->name));

		if (i == 0 || fill + size > LEAF_FILL) {
			/* The lowest bit says that names of this hash began in the block before. */
			bool same = i > 0 && e[i].hash == e[i - 1].hash;

			leaves[n_leaves++] = (struct leaf){ .first = i, .hash = e[i].hash | same };
			fill = 0;
		}
		fill += size;
		leaves[n_leaves - 1].end = i + 1;
	}
	return n_leaves;
}

/* Index entries: the first one's hash is implied, limit and count take its place. */
static void put_index(uint8_t *p, size_t limit, size_t n)
{
	put16(p, (uint16_t)limit);
	put16(p + 2, (uint16_t)n);
}

/* Root, then nodes (where there are more leaves than the root can name), then leaves. */
static int build_index(const struct node *dir, const struct entry *e, size_t n, uint8_t hash_version, uint8_t **ret,
		       size_t *ret_blocks)
{
	_cleanup_free_ struct leaf *leaves = xnew_n(struct leaf, n);
	size_t n_leaves = split_leaves(e, n, leaves), n_nodes, blocks;
	bool deep = n_leaves > ROOT_LIMIT;
	uint8_t *b;

	n_nodes = deep ? (n_leaves + NODE_LIMIT - 1) / NODE_LIMIT : 0;
	if (n_nodes > ROOT_LIMIT)
		return -EFBIG;
	blocks = 1 + n_nodes + n_leaves;
	b = xcalloc(blocks, EXT4_BLOCK);
	put_dots(b, dir, EXT4_BLOCK - 12);
	b[DOTS + 4] = hash_version;
	b[DOTS + 5] = 8;
	b[DOTS + 6] = deep;
	put_index(b + ROOT_AT, ROOT_LIMIT, deep ? n_nodes : n_leaves);
	for (size_t i = 0; i < n_leaves; i++) {
		size_t block = 1 + n_nodes + i, node = i / NODE_LIMIT, slot = deep ? i % NODE_LIMIT : i;
		uint8_t *index = deep ? b + (1 + node) * EXT4_BLOCK + NODE_AT : b + ROOT_AT;

		if (deep && slot == 0) {
			size_t left = n_leaves - i;

			put_entry(b + (1 + node) * EXT4_BLOCK, EXT4_BLOCK, 0, 0, "", 0);
			put_index(index, NODE_LIMIT, left < NODE_LIMIT ? left : NODE_LIMIT);
			if (node > 0)
				put32(b + ROOT_AT + node * 8, leaves[i].hash);
			put32(b + ROOT_AT + node * 8 + 4, (uint32_t)(1 + node));
		}
		if (slot > 0)
			put32(index + slot * 8, leaves[i].hash);
		put32(index + slot * 8 + 4, (uint32_t)block);
		put_entries(b + block * EXT4_BLOCK, 0, 0, e + leaves[i].first, leaves[i].end - leaves[i].first);
	}
	*ret = b;
	*ret_blocks = blocks;
	return 0;
}

static int hash_entries(struct ext4 *x, struct entry *e, size_t n, struct error *err)
{
	for (size_t i = 0; i < n; i++) {
		ext2_dirhash_t hash, minor;
		const char *name = e[i].node->name;
		errcode_t c = ext2fs_dirhash2(EXT2_HASH_HALF_MD4, name, (int)strlen(name), NULL, 0,
					      x->fs->super->s_hash_seed, &hash, &minor);

		if (c)
			return ext4_error(err, c, name);
		e[i].hash = hash;
		e[i].minor = minor;
	}
	qsort(e, n, sizeof(*e), by_hash);
	return 0;
}

static int write_blocks(struct ext4 *x, uint32_t ino, const struct ext4_runs *runs, uint8_t *blocks, struct error *err)
{
	for (size_t i = 0; i < runs->n; i++)
		for (uint32_t k = 0; k < runs->items[i].n; k++) {
			uint8_t *p = blocks + (runs->items[i].logical + k) * EXT4_BLOCK;
			errcode_t c = ext2fs_write_dir_block4(x->fs, runs->items[i].physical + k, p, 0, ino);

			if (c)
				return ext4_error(err, c, "a directory");
		}
	return 0;
}

static bool is_lost_found(struct ext4 *x, const struct node *dir)
{
	return dir->parent == namespace_root(x->names) && dir != dir->parent && streq(dir->name, "lost+found");
}

int ext4_write_directory(struct ext4 *x, const struct node *dir, struct error *err)
{
	_cleanup_free_ struct entry *entries = xnew_n(struct entry, dir->n_children + 1);
	_cleanup_(ext4_runs_clear) struct ext4_runs runs = {};
	_cleanup_free_ uint8_t *blocks = NULL;
	size_t n = 0, size = DOTS, n_blocks = 1;
	union ext4_inode inode;
	bool indexed = false;
	int r;

	for (const struct node *c = dir->first_child; c; c = c->next) {
		entries[n++].node = c;
		size += entry_size(strlen(c->name));
	}
	if (size <= EXT4_BLOCK - TAIL) {
		if (is_lost_found(x, dir))
			n_blocks = LOST_BLOCKS;
		qsort(entries, n, sizeof(*entries), by_name);
		blocks = xcalloc(n_blocks, EXT4_BLOCK);
		put_dots(blocks, dir, 12);
		put_entries(blocks, DOTS, 12, entries, n);
		for (size_t i = 1; i < n_blocks; i++)
			close_leaf(blocks + i * EXT4_BLOCK, 0, 0);
	} else {
		r = hash_entries(x, entries, n, err);
		if (r < 0)
			return r;
		r = build_index(dir, entries, n, EXT2_HASH_HALF_MD4, &blocks, &n_blocks);
		if (r < 0)
			return error_set(err, -r, "directory '%s' has too many entries", dir->name);
		indexed = true;
	}
	r = ext4_read_inode(x, dir->ino, &inode, err);
	if (r < 0)
		return r;
	if (indexed)
		inode.large.i_flags |= EXT2_INDEX_FL;
	/* Past the limit of the field, 1 stands for "many" (feature dir_nlink). */
	inode.large.i_links_count = dir->n_subdirs + 2 > EXT2_LINK_MAX ? 1 : (uint16_t)(dir->n_subdirs + 2);
	inode.large.i_size = (uint32_t)(n_blocks * EXT4_BLOCK);
	inode.large.i_size_high = (uint32_t)((uint64_t)n_blocks * EXT4_BLOCK >> 32);
	r = ext4_append_reserved(x, &runs, 0, n_blocks, err);
	if (r >= 0)
		r = ext4_set_runs(x, dir->ino, &inode, &runs, err);
	if (r >= 0)
		r = ext4_write_inode(x, dir->ino, &inode, err);
	/* After the inode: the blocks' checksums depend on it. */
	return r < 0 ? r : write_blocks(x, dir->ino, &runs, blocks, err);
}
