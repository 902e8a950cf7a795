/* Blocks and inodes of the ext4 builder. Free space is handed out in one direction, so that files lie one behind the other and most of
 * them are one extent. */
#include "disk/ext4_parts.h"

#include <et/com_err.h>
#include <errno.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"

int ext4_error(struct error *err, long code, const char *what)
{
	int num = EIO;

	if (code > 0 && code < 256)
		return error_set_errno(err, (int)code, "file system: %s", what);
	if (code == EXT2_ET_BLOCK_ALLOC_FAIL || code == EXT2_ET_INODE_ALLOC_FAIL || code == EXT2_ET_DIR_NO_SPACE) {
		num = error_set_kind(err, ERROR_CANTCREATE, EXFULL, "file system: %s: the disk is full", what);
		(void)error_hint(err, "ask for a larger disk (--disk)");
		return num;
	}
	if (code == EXT2_ET_EA_NO_SPACE)
		num = ENOSPC;
	return error_set(err, num, "file system: %s: %s", what, error_message(code));
}

void ext4_runs_clear(struct ext4_runs *runs)
{
	free(runs->items);
	*runs = (struct ext4_runs){};
}

static void add_run(struct ext4_runs *runs, uint64_t logical, uint64_t physical, uint32_t n)
{
	struct ext4_run *last = runs->n ? &runs->items[runs->n - 1] : NULL;

	runs->blocks += n;
	if (last && last->logical + last->n == logical && last->physical + last->n == physical &&
	    last->n + n <= EXT_INIT_MAX_LEN) {
		last->n += n;
		return;
	}
	/* Grows by halves, as a hostile file can have as many runs as blocks. */
	if ((runs->n & (runs->n - 1)) == 0)
		runs->items = xrealloc_array(runs->items, runs->n ? runs->n * 2 : 1, sizeof(*runs->items));
	runs->items[runs->n++] = (struct ext4_run){ .logical = logical, .physical = physical, .n = n };
}

/* Blocks never written before need no zeros written to them: they are no less the file's, and cost the host nothing. */
static bool can_stay_hole(const struct ext4 *x, uint64_t at, const uint8_t *p, uint64_t n)
{
	return at >= x->unused && p[0] == 0 && memcmp(p, p + 1, n * EXT4_BLOCK - 1) == 0;
}

/* The library's channel empties its cache before every large write, and would read the inodes in it again after each file. Blocks that were
 * never used cannot be in that cache: they are written past it. */
static int write_blocks(struct ext4 *x, uint64_t at, const uint8_t *p, uint64_t n, struct error *err)
{
	if (at >= x->unused) {
		int r = pwrite_full(x->fd, p, n * EXT4_BLOCK, at * EXT4_BLOCK);

		if (r < 0)
			return error_set_errno(err, -r, "file system: content");
	} else {
		errcode_t c = io_channel_write_blk64(x->fs->io, at, (int)n, p);

		if (c)
			return ext4_error(err, c, "content");
	}
	flusher_note(x->flusher, at * EXT4_BLOCK, n * EXT4_BLOCK);
	return 0;
}

static int append(struct ext4 *x, struct ext4_runs *runs, uint64_t logical, const uint8_t *p, uint64_t n,
		  struct error *err)
{
	while (n) {
		blk64_t at = 0, got = 0;
		blk64_t want = n < EXT_INIT_MAX_LEN ? n : EXT_INIT_MAX_LEN;
		errcode_t c = ext2fs_new_range(x->fs, 0, x->goal, want, NULL, &at, &got);

		if (c)
			return ext4_error(err, c, "content");
		if (got > want)
			got = want;
		ext2fs_block_alloc_stats_range(x->fs, at, (blk_t)got, 1);
		x->goal = at + got;
		if (x->goal >= ext2fs_blocks_count(x->fs->super))
			x->goal = x->fs->super->s_first_data_block;
		if (p && !can_stay_hole(x, at, p, got)) {
			int r = write_blocks(x, at, p, got, err);

			if (r < 0)
				return r;
		}
		if (p)
			p += got * EXT4_BLOCK;
		if (x->unused < at + got)
			x->unused = at + got;
		add_run(runs, logical, at, (uint32_t)got);
		logical += got;
		n -= got;
	}
	return 0;
}

int ext4_append_blocks(struct ext4 *x, struct ext4_runs *runs, uint64_t logical, const void *p, uint64_t n,
		       struct error *err)
{
	return append(x, runs, logical, p, n, err);
}

int ext4_append_reserved(struct ext4 *x, struct ext4_runs *runs, uint64_t logical, uint64_t n, struct error *err)
{
	return append(x, runs, logical, NULL, n, err);
}

int ext4_set_runs(struct ext4 *x, uint32_t ino, union ext4_inode *inode, const struct ext4_runs *runs,
		  struct error *err)
{
	ext2_extent_handle_t handle = NULL;
	errcode_t c;

	memset(inode->large.i_block, 0, sizeof(inode->large.i_block));
	inode->large.i_flags |= EXT4_EXTENTS_FL;
	/* A directory's attributes may have a block of their own already. */
	(void)ext2fs_iblk_set(x->fs, &inode->small, runs->blocks + (ext2fs_file_acl_block(x->fs, &inode->small) != 0));
	c = ext2fs_extent_open2(x->fs, ino, &inode->small, &handle);
	for (size_t i = 0; !c && i < runs->n; i++) {
		struct ext2fs_extent e = {
			.e_pblk = runs->items[i].physical,
			.e_lblk = runs->items[i].logical,
			.e_len = runs->items[i].n,
		};

		c = ext2fs_extent_insert(handle, EXT2_EXTENT_INSERT_AFTER, &e);
	}
	ext2fs_extent_free(handle);
	return c ? ext4_error(err, c, "content") : 0;
}

int ext4_read_inode(struct ext4 *x, uint32_t ino, union ext4_inode *ret, struct error *err)
{
	errcode_t c = ext2fs_read_inode_full(x->fs, ino, &ret->small, sizeof(ret->raw));

	return c ? ext4_error(err, c, "inode") : 0;
}

int ext4_write_inode(struct ext4 *x, uint32_t ino, const union ext4_inode *inode, struct error *err)
{
	union ext4_inode copy = *inode;
	errcode_t c = ext2fs_write_inode_full(x->fs, ino, &copy.small, sizeof(copy.raw));

	return c ? ext4_error(err, c, "inode") : 0;
}
