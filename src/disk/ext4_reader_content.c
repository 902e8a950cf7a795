/* Where content is, and content. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "disk/ext4_reader_parts.h"

struct mapping {
	struct ext4_reader *x;
	uint32_t ino;
	struct ext4_runs *runs, *blocks;
	uint64_t end;   /* logical: where the last run ended */
	uint64_t limit; /* blocks that the file's size has */
	struct error *err;
	int result;
};

static void append_run(struct ext4_runs *runs, uint64_t logical, uint64_t physical, uint32_t n)
{
	struct ext4_run *last = runs->n ? &runs->items[runs->n - 1] : NULL;

	runs->blocks += n;
	if (last && last->logical + last->n == logical && last->physical + last->n == physical &&
	    last->n <= UINT32_MAX - n) {
		last->n += n;
		return;
	}
	if ((runs->n & (runs->n - 1)) == 0)
		runs->items = xrealloc_array(runs->items, runs->n ? runs->n * 2 : 1, sizeof(*runs->items));
	runs->items[runs->n++] = (struct ext4_run){ .logical = logical, .physical = physical, .n = n };
}

static int map(struct mapping *m, uint64_t logical, uint64_t physical, uint64_t n)
{
	struct ext4_reader *x = m->x;

	if (n == 0 || physical == 0 || physical >= x->blocks || n > x->blocks - physical)
		return ext4_reader_bad(x, m->err, "inode %" PRIu32 " has blocks outside of it", m->ino);
	if (logical < m->end)
		return ext4_reader_bad(x, m->err, "inode %" PRIu32 " has one place twice", m->ino);
	m->end = logical + n;
	if (logical >= m->limit)
		return 0;
	if (n > m->limit - logical)
		n = m->limit - logical;
	append_run(m->runs, logical, physical, (uint32_t)n);
	return ext4_reader_charge(x, n, m->ino, m->err);
}

static int map_extents(struct mapping *m, struct ext4_node *n)
{
	struct ext4_reader *x = m->x;
	ext2_extent_handle_t h = NULL;
	struct ext2fs_extent e;
	errcode_t c = ext2fs_extent_open2(x->fs, m->ino, &n->small, &h);
	int r = 0;

	if (!c)
		c = ext2fs_extent_get(h, EXT2_EXTENT_ROOT, &e);
	while (!c && r >= 0) {
		r = ext4_reader_charge(x, 1, m->ino, m->err);
		if (r >= 0 && e.e_flags & EXT2_EXTENT_FLAGS_LEAF) {
			if (!(e.e_flags & EXT2_EXTENT_FLAGS_UNINIT))
				r = map(m, e.e_lblk, e.e_pblk, e.e_len);
		} else if (r >= 0 && m->blocks && !(e.e_flags & EXT2_EXTENT_FLAGS_SECOND_VISIT)) {
			if (e.e_pblk == 0 || e.e_pblk >= x->blocks)
				r = ext4_reader_bad(x, m->err, "inode %" PRIu32 " has blocks outside of it", m->ino);
			else
				append_run(m->blocks, 0, e.e_pblk, 1);
		}
		if (r >= 0)
			c = ext2fs_extent_get(h, EXT2_EXTENT_NEXT, &e);
	}
	ext2fs_extent_free(h);
	if (r < 0)
		return r;
	/* An empty tree has no root entry to get. */
	if (c && c != EXT2_ET_EXTENT_NO_NEXT && c != EXT2_ET_NO_CURRENT_NODE)
		return ext4_reader_failed(x, m->err, c, "extents", m->ino);
	return 0;
}

static int on_block(ext2_filsys fs, blk64_t *at, e2_blkcnt_t logical, blk64_t ref, int ref_offset, void *data)
{
	struct mapping *m = data;

	(void)fs, (void)ref, (void)ref_offset;
	m->result = ext4_reader_charge(m->x, 1, m->ino, m->err);
	if (m->result < 0)
		return BLOCK_ABORT;
	if (logical < 0) {
		if (m->blocks)
			append_run(m->blocks, 0, *at, 1);
		return 0;
	}
	m->result = map(m, (uint64_t)logical, *at, 1);
	return m->result < 0 ? BLOCK_ABORT : 0;
}

/* As ext2 and ext3 do it. */
static int map_blocks(struct mapping *m, const struct ext4_node *n)
{
	errcode_t c;

	if (!ext2fs_inode_has_valid_blocks2(m->x->fs, (struct ext2_inode *)(uintptr_t)&n->small))
		return 0;
	c = ext2fs_block_iterate3(m->x->fs, m->ino, BLOCK_FLAG_READ_ONLY, NULL, on_block, m);
	if (m->result < 0)
		return m->result;
	return c ? ext4_reader_failed(m->x, m->err, c, "blocks", m->ino) : 0;
}

int ext4_reader_runs(struct ext4_reader *x, const struct ext4_node *n, struct ext4_runs *ret, struct ext4_runs *blocks,
		     struct error *err)
{
	struct ext4_runs runs = {};
	struct ext4_node copy = *n; /* libext2fs takes it writable */
	struct mapping m = { .x = x, .ino = n->ino, .runs = &runs, .blocks = blocks, .err = err };
	int r;

	m.limit = (n->size + x->fs->blocksize - 1) / x->fs->blocksize;
	r = n->small.i_flags & EXT4_EXTENTS_FL ? map_extents(&m, &copy) : map_blocks(&m, n);
	if (r < 0) {
		ext4_runs_clear(&runs);
		return r;
	}
	*ret = runs;
	return 0;
}

/* The first run that ends behind @block, or n. */
static size_t find_run(const struct ext4_runs *runs, uint64_t block)
{
	size_t low = 0, high = runs->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (runs->items[mid].logical + runs->items[mid].n <= block)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

uint64_t ext4_reader_next_data(const struct ext4_reader *x, const struct ext4_runs *runs, uint64_t offset)
{
	size_t i = find_run(runs, offset / x->fs->blocksize);
	uint64_t begin;

	if (i == runs->n)
		return UINT64_MAX;
	begin = runs->items[i].logical * x->fs->blocksize;
	return begin > offset ? begin : offset;
}

int ext4_reader_read(struct ext4_reader *x, const struct ext4_runs *runs, uint64_t offset, void *p, size_t n,
		     struct error *err)
{
	uint32_t unit = x->fs->blocksize;
	size_t i = find_run(runs, offset / unit);
	uint8_t *to = p;

	while (n) {
		const struct ext4_run *run = i < runs->n ? &runs->items[i] : NULL;
		uint64_t begin = run ? run->logical * unit : UINT64_MAX, k;
		int r;

		if (offset < begin) {
			k = begin - offset < n ? begin - offset : n;
			memset(to, 0, k);
		} else {
			uint64_t end = begin + (uint64_t)run->n * unit;

			k = end - offset < n ? end - offset : n;
			r = disk_reader_read(x->disk, run->physical * unit + (offset - begin), to, k, err);
			if (r < 0)
				return r;
			i++;
		}
		to += k;
		offset += k;
		n -= k;
	}
	return 0;
}
