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

		put_entry(block + at, size, node->ino, fs_names_file_type(node), node->name, len);
		last = at;
		at += size;
	}
	close_leaf(block, last, at);
}

static void put_dots(const struct ext4 *x, uint8_t *block, const struct node *dir, size_t dotdot_len)
{
	put_entry(block, 12, dir->ino, EXT2_FT_DIR, ".", 1);
	put_entry(block + 12, dotdot_len, namespace_up(x->names.space, dir)->ino, EXT2_FT_DIR, "..", 2);
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

/* A directory's blocks: those at the beginning as they are to be written, and leaves, each made when it is written: a large directory's
 * blocks never lie in memory together. */
struct blocks {
	uint8_t *first; /* owned */
	size_t n_first;
	struct leaf *leaves; /* owned */
	size_t n_leaves;
	struct entry *entries; /* owned */
	size_t n_entries;
};

static void blocks_done(struct blocks *b)
{
	free(b->first);
	free(b->leaves);
	free(b->entries);
}

/* Root, then nodes (where there are more leaves than the root can name), then leaves. */
static int build_index(const struct ext4 *x, const struct node *dir, uint8_t hash_version, struct blocks *b)
{
	size_t n_nodes;
	bool deep;
	uint8_t *p;

	b->leaves = xnew_n(struct leaf, b->n_entries);
	b->n_leaves = split_leaves(b->entries, b->n_entries, b->leaves);
	deep = b->n_leaves > ROOT_LIMIT;
	n_nodes = deep ? (b->n_leaves + NODE_LIMIT - 1) / NODE_LIMIT : 0;
	if (n_nodes > ROOT_LIMIT)
		return -EFBIG;
	b->n_first = 1 + n_nodes;
	b->first = p = xcalloc(b->n_first, EXT4_BLOCK);
	put_dots(x, p, dir, EXT4_BLOCK - 12);
	p[DOTS + 4] = hash_version;
	p[DOTS + 5] = 8;
	p[DOTS + 6] = deep;
	put_index(p + ROOT_AT, ROOT_LIMIT, deep ? n_nodes : b->n_leaves);
	for (size_t i = 0; i < b->n_leaves; i++) {
		size_t block = b->n_first + i, node = i / NODE_LIMIT, slot = deep ? i % NODE_LIMIT : i;
		uint8_t *index = deep ? p + (1 + node) * EXT4_BLOCK + NODE_AT : p + ROOT_AT;

		if (deep && slot == 0) {
			size_t left = b->n_leaves - i;

			put_entry(p + (1 + node) * EXT4_BLOCK, EXT4_BLOCK, 0, 0, "", 0);
			put_index(index, NODE_LIMIT, left < NODE_LIMIT ? left : NODE_LIMIT);
			if (node > 0)
				put32(p + ROOT_AT + node * 8, b->leaves[i].hash);
			put32(p + ROOT_AT + node * 8 + 4, (uint32_t)(1 + node));
		}
		if (slot > 0)
			put32(index + slot * 8, b->leaves[i].hash);
		put32(index + slot * 8 + 4, (uint32_t)block);
	}
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

static int write_blocks(struct ext4 *x, uint32_t ino, const struct ext4_runs *runs, struct blocks *b, struct error *err)
{
	uint8_t leaf[EXT4_BLOCK];

	for (size_t i = 0; i < runs->n; i++)
		for (uint32_t k = 0; k < runs->items[i].n; k++) {
			size_t block = (size_t)runs->items[i].logical + k;
			uint8_t *p = leaf;
			errcode_t c;

			if (block < b->n_first) {
				p = b->first + block * EXT4_BLOCK;
			} else {
				const struct leaf *l = &b->leaves[block - b->n_first];

				memset(leaf, 0, sizeof(leaf));
				put_entries(leaf, 0, 0, b->entries + l->first, l->end - l->first);
			}
			c = ext2fs_write_dir_block4(x->fs, runs->items[i].physical + k, p, 0, ino);
			if (c)
				return ext4_error(err, c, "a directory");
		}
	return 0;
}

static bool is_lost_found(const struct ext4 *x, const struct node *dir)
{
	const struct node *root = namespace_root(x->names.space);

	return dir != root && namespace_up(x->names.space, dir) == root && streq(dir->name, "lost+found");
}

/* Collects the names. Returns the bytes that they and the dots take. */
static size_t list_entries(const struct ext4 *x, const struct node *dir, struct blocks *b)
{
	size_t n = 0, size = DOTS;

	for (const struct node *c = namespace_first(x->names.space, dir); c; c = namespace_next(x->names.space, c))
		n++;
	b->entries = xnew_n(struct entry, n + 1);
	for (const struct node *c = namespace_first(x->names.space, dir); c; c = namespace_next(x->names.space, c)) {
		b->entries[b->n_entries++].node = c;
		size += entry_size(strlen(c->name));
	}
	return size;
}

static void build_flat(const struct ext4 *x, const struct node *dir, struct blocks *b)
{
	b->n_first = is_lost_found(x, dir) ? LOST_BLOCKS : 1;
	qsort(b->entries, b->n_entries, sizeof(*b->entries), by_name);
	b->first = xcalloc(b->n_first, EXT4_BLOCK);
	put_dots(x, b->first, dir, 12);
	put_entries(b->first, DOTS, 12, b->entries, b->n_entries);
	for (size_t i = 1; i < b->n_first; i++)
		close_leaf(b->first + i * EXT4_BLOCK, 0, 0);
}

int ext4_write_directory(struct ext4 *x, const struct node *dir, struct error *err)
{
	_cleanup_(blocks_done) struct blocks b = {};
	_cleanup_(ext4_runs_clear) struct ext4_runs runs = {};
	bool indexed = list_entries(x, dir, &b) > EXT4_BLOCK - TAIL;
	union ext4_inode inode;
	uint64_t n_blocks;
	int r = 0;

	if (indexed) {
		r = hash_entries(x, b.entries, b.n_entries, err);
		if (r < 0)
			return r;
		r = build_index(x, dir, EXT2_HASH_HALF_MD4, &b);
		if (r < 0)
			return error_set(err, -r, "directory '%s' has too many entries", dir->name);
	} else {
		build_flat(x, dir, &b);
	}
	n_blocks = b.n_first + b.n_leaves;
	r = ext4_read_inode(x, dir->ino, &inode, err);
	if (r < 0)
		return r;
	if (indexed)
		inode.large.i_flags |= EXT2_INDEX_FL;
	/* Past the limit of the field, 1 stands for "many" (feature dir_nlink). */
	inode.large.i_links_count = dir->n_subdirs + 2 > EXT2_LINK_MAX ? 1 : (uint16_t)(dir->n_subdirs + 2);
	inode.large.i_size = (uint32_t)(n_blocks * EXT4_BLOCK);
	inode.large.i_size_high = (uint32_t)(n_blocks * EXT4_BLOCK >> 32);
	r = ext4_append_reserved(x, &runs, 0, n_blocks, err);
	if (r >= 0)
		r = ext4_set_runs(x, dir->ino, &inode, &runs, err);
	if (r >= 0)
		r = ext4_write_inode(x, dir->ino, &inode, err);
	/* After the inode: the blocks' checksums depend on it. */
	return r < 0 ? r : write_blocks(x, dir->ino, &runs, &b, err);
}
