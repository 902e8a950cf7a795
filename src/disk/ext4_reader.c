/* Bounds. A walk over a sound file system meets every block at most once, or a few times when the walk is repeated; a hostile one can let
 * each file have the same blocks, or an extent tree name one node a million times. So all mapping is charged against a budget that is a small
 * multiple of the file system's size, and ends with an error when it is used up. Directories are kept from cycles by who walks them. */
#include "disk/ext4_reader.h"

#include <errno.h>
#include <et/com_err.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/parse.h"

enum {
	SUPER_OFFSET = 1024,
	TARGET_MAX = 4096,
	XATTRS_MAX = 256,
	XATTR_VALUE_MAX = 64 << 10,
	BUDGET_FACTOR = 8,
	BUDGET_FLOOR = 1 << 20,
	NS_IN_S = 1000000000,
};
#define FILE_MAX      (UINT64_C(16) << 40)
#define NAMES_MAX     ((size_t)16 << 20) /* in one directory */
#define GROUPS_MAX    (UINT64_C(1) << 20)
#define EA_MAGIC      UINT32_C(0xEA020000)
#define FLAGS_REFUSED (EXT4_INLINE_DATA_FL | EXT4_ENCRYPT_FL)

struct ext4_reader {
	struct disk_reader *disk; /* borrowed */
	char *what;
	ext2_filsys fs;
	struct struct_io_manager manager;
	uint64_t blocks;
	uint64_t budget;      /* blocks and steps that may still be mapped */
	struct error trouble; /* what reading the disk failed with; libext2fs knows only numbers */
};

static int bad(const struct ext4_reader *x, struct error *err, const char *fmt, ...) _printf_(3, 4);
static int bad(const struct ext4_reader *x, struct error *err, const char *fmt, ...)
{
	_cleanup_free_ char *why = NULL;
	va_list ap;

	va_start(ap, fmt);
	why = xvasprintf(fmt, ap);
	va_end(ap);
	return error_set(err, EBADMSG, "%s: damaged file system: %s", x->what, why);
}

static int failed(struct ext4_reader *x, struct error *err, long code, const char *of, uint32_t ino)
{
	if (x->trouble.num)
		return error_move(err, &x->trouble);
	if (code == EXT2_ET_NO_MEMORY)
		return error_set(err, ENOMEM, "%s: no memory for its file system", x->what);
	return bad(x, err, "%s of inode %" PRIu32 ": %s", of, ino, error_message(code));
}

/* ---- The channel: libext2fs reads through the disk_reader ---- */

static errcode_t channel_close(io_channel c)
{
	if (--c->refcount > 0)
		return 0;
	free(c->name);
	free(c);
	return 0;
}

static errcode_t channel_set_blksize(io_channel c, int bytes)
{
	c->block_size = bytes;
	return 0;
}

/* @count < 0: that many bytes. */
static errcode_t channel_read64(io_channel c, unsigned long long block, int count, void *p)
{
	struct ext4_reader *x = c->private_data;
	uint64_t n = count < 0 ? (uint64_t) - (int64_t)count : (uint64_t)count * (uint64_t)c->block_size;
	uint64_t at;

	if (__builtin_mul_overflow(block, (uint64_t)c->block_size, &at))
		return EXT2_ET_SHORT_READ;
	if (disk_reader_read(x->disk, at, p, n, x->trouble.num ? NULL : &x->trouble) < 0)
		return EXT2_ET_SHORT_READ;
	return 0;
}

static errcode_t channel_read(io_channel c, unsigned long block, int count, void *p)
{
	return channel_read64(c, block, count, p);
}

static errcode_t channel_write(io_channel c, unsigned long block, int count, const void *p)
{
	(void)c, (void)block, (void)count, (void)p;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t channel_write64(io_channel c, unsigned long long block, int count, const void *p)
{
	(void)c, (void)block, (void)count, (void)p;
	return EXT2_ET_RO_FILSYS;
}

static errcode_t channel_flush(io_channel c)
{
	(void)c;
	return 0;
}

/* The name is the reader's address in digits: libext2fs has no other way to hand it over. */
static errcode_t channel_open(const char *name, int flags, io_channel *ret)
{
	struct ext4_reader *x;
	uint64_t address;
	io_channel c;

	(void)flags;
	if (parse_u64(name, 1, UINTPTR_MAX, &address) < 0)
		return EXT2_ET_BAD_DEVICE_NAME;
	x = (struct ext4_reader *)(uintptr_t)address;
	c = xcalloc(1, sizeof(*c));
	c->magic = EXT2_ET_MAGIC_IO_CHANNEL;
	c->manager = &x->manager;
	c->name = xstrdup(x->what);
	c->block_size = 1024;
	c->refcount = 1;
	c->private_data = x;
	*ret = c;
	return 0;
}

/* ---- Opening ---- */

/* Before libext2fs believes any of it: sizes that allocations follow from. */
static int check_super(struct ext4_reader *x, struct error *err)
{
	struct ext2_super_block s;
	uint64_t blocks, block_bytes, inodes;
	int r = disk_reader_read(x->disk, SUPER_OFFSET, &s, sizeof(s), err);

	if (r < 0)
		return r;
	if (ext2fs_le16_to_cpu(s.s_magic) != EXT2_SUPER_MAGIC) {
		(void)error_set(err, EBADMSG, "%s: there is no ext4 file system on it", x->what);
		return -EBADMSG;
	}
	if (ext2fs_le32_to_cpu(s.s_log_block_size) > 6)
		return bad(x, err, "block size out of range");
	block_bytes = UINT64_C(1024) << ext2fs_le32_to_cpu(s.s_log_block_size);
	blocks = ext2fs_le32_to_cpu(s.s_blocks_count);
	if (ext2fs_le32_to_cpu(s.s_feature_incompat) & EXT4_FEATURE_INCOMPAT_64BIT)
		blocks |= (uint64_t)ext2fs_le32_to_cpu(s.s_blocks_count_hi) << 32;
	if (blocks == 0 || blocks > disk_reader_bytes(x->disk) / block_bytes)
		return bad(x, err, "it is larger than its disk");
	if (ext2fs_le16_to_cpu(s.s_inode_size) > EXT4_READER_INODE_MAX)
		return bad(x, err, "inode size out of range");
	inodes = ext2fs_le32_to_cpu(s.s_inodes_count);
	if (inodes == 0 || inodes > disk_reader_bytes(x->disk) / EXT2_GOOD_OLD_INODE_SIZE)
		return bad(x, err, "it has too many inodes");
	if (ext2fs_le32_to_cpu(s.s_blocks_per_group) == 0 ||
	    blocks / ext2fs_le32_to_cpu(s.s_blocks_per_group) > GROUPS_MAX)
		return bad(x, err, "it has too many block groups");
	return 0;
}

static int check_state(const struct ext4_reader *x, struct error *err)
{
	struct ext2_super_block *s = x->fs->super;

	if (ext2fs_has_feature_journal_needs_recovery(s)) {
		(void)error_set_kind(err, ERROR_BUSY, EBUSY,
				     "%s: its file system was not unmounted cleanly: what is in the journal only would "
				     "be missing",
				     x->what);
		return error_hint(err, "start the machine once and stop it");
	}
	if (s->s_state & EXT2_ERROR_FS) {
		(void)error_set(err, EBADMSG, "%s: its file system is marked as having errors", x->what);
		return error_hint(err, "repair it in the machine, with fsck");
	}
	return 0;
}

int ext4_reader_open(struct disk_reader *disk, const char *what, struct ext4_reader **ret, struct error *err)
{
	_cleanup_(ext4_reader_freep) struct ext4_reader *x = xnew(struct ext4_reader);
	_cleanup_free_ char *name = xasprintf("%" PRIuPTR, (uintptr_t)x);
	errcode_t c;
	int r;

	x->disk = disk;
	x->what = xstrdup(what);
	x->manager = (struct struct_io_manager){
		.magic = EXT2_ET_MAGIC_IO_MANAGER,
		.name = "disk reader",
		.open = channel_open,
		.close = channel_close,
		.set_blksize = channel_set_blksize,
		.read_blk = channel_read,
		.write_blk = channel_write,
		.flush = channel_flush,
		.read_blk64 = channel_read64,
		.write_blk64 = channel_write64,
	};
	r = check_super(x, err);
	if (r < 0)
		return r;
	initialize_ext2_error_table();
	c = ext2fs_open2(name, NULL, EXT2_FLAG_64BITS, 0, 0, &x->manager, &x->fs);
	if (c && x->trouble.num)
		return error_move(err, &x->trouble);
	if (c)
		return bad(x, err, "%s", error_message(c));
	x->blocks = ext2fs_blocks_count(x->fs->super);
	x->budget = x->blocks * BUDGET_FACTOR + BUDGET_FLOOR;
	r = check_state(x, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(x);
	return 0;
}

struct ext4_reader *ext4_reader_free(struct ext4_reader *x)
{
	if (!x)
		return NULL;
	if (x->fs)
		ext2fs_free(x->fs);
	error_done(&x->trouble);
	free(x->what);
	free(x);
	return NULL;
}

bool ext4_reader_is_clean(const struct ext4_reader *x)
{
	return x->fs->super->s_state & EXT2_VALID_FS;
}

struct disk_reader *ext4_reader_disk(const struct ext4_reader *x)
{
	return x->disk;
}

uint32_t ext4_reader_block_bytes(const struct ext4_reader *x)
{
	return x->fs->blocksize;
}

uint64_t ext4_reader_inodes(const struct ext4_reader *x)
{
	return x->fs->super->s_inodes_count;
}

static int charge(struct ext4_reader *x, uint64_t n, uint32_t ino, struct error *err)
{
	if (n > x->budget)
		return bad(x, err, "inode %" PRIu32 ": more is mapped than there are blocks", ino);
	x->budget -= n;
	return 0;
}

/* ---- Inodes ---- */

static uint64_t decode_time(uint32_t seconds, uint32_t extra)
{
	int64_t s = (int64_t)(int32_t)seconds + ((int64_t)(extra & 3) << 32);
	uint32_t ns = extra >> 2;

	/* Before 1970: not kept. */
	return s < 0 ? 0 : (uint64_t)s * NS_IN_S + (ns < NS_IN_S ? ns : 0);
}

static void decode_device(const struct ext2_inode *i, struct ext4_node *ret)
{
	uint32_t old = i->i_block[0], v = i->i_block[1];

	if (old) {
		ret->rdev_major = (old >> 8) & 0xff;
		ret->rdev_minor = old & 0xff;
	} else {
		ret->rdev_major = (v >> 8) & 0xfff;
		ret->rdev_minor = (v & 0xff) | ((v >> 12) & 0xfff00);
	}
}

int ext4_reader_node(struct ext4_reader *x, uint32_t ino, struct ext4_node *ret, struct error *err)
{
	const struct ext2_inode_large *l = &ret->large;
	size_t extra;
	errcode_t c;

	memset(ret, 0, sizeof(*ret));
	if (ino != EXT2_ROOT_INO && (ino < EXT2_FIRST_INODE(x->fs->super) || ino > x->fs->super->s_inodes_count))
		return bad(x, err, "a name leads to inode %" PRIu32, ino);
	ret->ino = ino;
	ret->inode_bytes = EXT2_INODE_SIZE(x->fs->super);
	c = ext2fs_read_inode_full(x->fs, ino, &ret->small, (int)ret->inode_bytes);
	if (c)
		return failed(x, err, c, "inode", ino);
	if (l->i_links_count == 0)
		return bad(x, err, "a name leads to inode %" PRIu32 ", which is free", ino);
	if (l->i_flags & FLAGS_REFUSED)
		return error_set(err, EOPNOTSUPP, "%s: inode %" PRIu32 " is %s, which is not read here", x->what, ino,
				 l->i_flags & EXT4_ENCRYPT_FL ? "encrypted" : "stored inline");
	ret->mode = l->i_mode;
	ret->uid = l->i_uid | (uint32_t)l->osd2.linux2.l_i_uid_high << 16;
	ret->gid = l->i_gid | (uint32_t)l->osd2.linux2.l_i_gid_high << 16;
	ret->nlink = l->i_links_count;
	ret->generation = l->i_generation;
	ret->size = EXT2_I_SIZE(l);
	extra = ret->inode_bytes > EXT2_GOOD_OLD_INODE_SIZE ? l->i_extra_isize : 0;
	if (extra > ret->inode_bytes - EXT2_GOOD_OLD_INODE_SIZE || extra % 4)
		return bad(x, err, "inode %" PRIu32 " overruns itself", ino);
	ret->mtime_ns = decode_time(l->i_mtime, extra >= 16 ? l->i_mtime_extra : 0);
	ret->crtime_ns = extra >= 24 ? decode_time(l->i_crtime, l->i_crtime_extra) : 0;
	if (S_ISCHR(ret->mode) || S_ISBLK(ret->mode))
		decode_device(&ret->small, ret);
	if (S_ISREG(ret->mode) && ret->size > FILE_MAX)
		return bad(x, err, "inode %" PRIu32 ": no file is that large", ino);
	ret->acl_block = ext2fs_file_acl_block(x->fs, &ret->small);
	if (ret->acl_block >= x->blocks)
		return bad(x, err, "inode %" PRIu32 " has blocks outside of it", ino);
	ret->has_xattrs = ret->acl_block != 0;
	if (extra && EXT2_GOOD_OLD_INODE_SIZE + extra + 4 <= ret->inode_bytes) {
		uint32_t magic;

		memcpy(&magic, ret->raw + EXT2_GOOD_OLD_INODE_SIZE + extra, sizeof(magic));
		ret->has_xattrs |= magic == EA_MAGIC;
	}
	return 0;
}

/* ---- Mapping ---- */

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
		return bad(x, m->err, "inode %" PRIu32 " has blocks outside of it", m->ino);
	if (logical < m->end)
		return bad(x, m->err, "inode %" PRIu32 " has one place twice", m->ino);
	m->end = logical + n;
	if (logical >= m->limit)
		return 0;
	if (n > m->limit - logical)
		n = m->limit - logical;
	append_run(m->runs, logical, physical, (uint32_t)n);
	return charge(x, n, m->ino, m->err);
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
		r = charge(x, 1, m->ino, m->err);
		if (r >= 0 && e.e_flags & EXT2_EXTENT_FLAGS_LEAF) {
			if (!(e.e_flags & EXT2_EXTENT_FLAGS_UNINIT))
				r = map(m, e.e_lblk, e.e_pblk, e.e_len);
		} else if (r >= 0 && m->blocks && !(e.e_flags & EXT2_EXTENT_FLAGS_SECOND_VISIT)) {
			if (e.e_pblk == 0 || e.e_pblk >= x->blocks)
				r = bad(x, m->err, "inode %" PRIu32 " has blocks outside of it", m->ino);
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
		return failed(x, m->err, c, "extents", m->ino);
	return 0;
}

static int on_block(ext2_filsys fs, blk64_t *at, e2_blkcnt_t logical, blk64_t ref, int ref_offset, void *data)
{
	struct mapping *m = data;

	(void)fs, (void)ref, (void)ref_offset;
	m->result = charge(m->x, 1, m->ino, m->err);
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
	return c ? failed(m->x, m->err, c, "blocks", m->ino) : 0;
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

/* ---- Directories, links, attributes ---- */

void ext4_names_done(struct ext4_names *n)
{
	for (size_t i = 0; i < n->n; i++)
		free(n->items[i].name);
	free(n->items);
	*n = (struct ext4_names){};
}

static int take_name(struct ext4_reader *x, uint32_t dir, const struct ext2_dir_entry *de, struct ext4_names *ret,
		     struct error *err)
{
	size_t len = de->name_len & 0xff;

	if (de->inode == 0 || (len == 1 && de->name[0] == '.') || (len == 2 && memcmp(de->name, "..", 2) == 0))
		return 0;
	if (len == 0 || memchr(de->name, '/', len) || memchr(de->name, 0, len))
		return bad(x, err, "directory inode %" PRIu32 " has a name that is none", dir);
	if (ret->n == NAMES_MAX)
		return bad(x, err, "directory inode %" PRIu32 " has too many names", dir);
	if ((ret->n & (ret->n - 1)) == 0)
		ret->items = xrealloc_array(ret->items, ret->n ? ret->n * 2 : 1, sizeof(*ret->items));
	ret->items[ret->n++] = (struct ext4_name){ .ino = de->inode, .name = xstrndup(de->name, len) };
	return 0;
}

static int list_block(struct ext4_reader *x, uint32_t dir, const uint8_t *block, struct ext4_names *ret,
		      struct error *err)
{
	uint32_t bytes = x->fs->blocksize, at = 0;

	while (at < bytes) {
		struct ext2_dir_entry de = {};
		unsigned rec_len = 0;
		int r;

		if (bytes - at < 8)
			return bad(x, err, "directory inode %" PRIu32 " overruns itself", dir);
		memcpy(&de, block + at, bytes - at < sizeof(de) ? bytes - at : sizeof(de));
		if (ext2fs_get_rec_len(x->fs, &de, &rec_len) || rec_len < 8 || rec_len % 4 || rec_len > bytes - at ||
		    (de.inode && (de.name_len & 0xffu) + 8 > rec_len))
			return bad(x, err, "directory inode %" PRIu32 " overruns itself", dir);
		r = take_name(x, dir, &de, ret, err);
		if (r < 0)
			return r;
		at += rec_len;
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct ext4_name *)a)->name, ((const struct ext4_name *)b)->name);
}

int ext4_reader_list(struct ext4_reader *x, const struct ext4_node *dir, struct ext4_names *ret, struct error *err)
{
	_cleanup_free_ uint8_t *block = xcalloc(1, x->fs->blocksize);
	_cleanup_(ext4_runs_clear) struct ext4_runs runs = {};
	_cleanup_(ext4_names_done) struct ext4_names names = {};
	int r = ext4_reader_runs(x, dir, &runs, NULL, err);

	for (size_t i = 0; r >= 0 && i < runs.n; i++)
		for (uint32_t k = 0; r >= 0 && k < runs.items[i].n; k++) {
			/* It verifies the checksum. */
			errcode_t c = ext2fs_read_dir_block4(x->fs, runs.items[i].physical + k, block, 0, dir->ino);

			r = c ? failed(x, err, c, "content of directory", dir->ino)
			      : list_block(x, dir->ino, block, &names, err);
		}
	if (r < 0)
		return r;
	if (names.n)
		qsort(names.items, names.n, sizeof(*names.items), by_name);
	for (size_t i = 1; i < names.n; i++)
		if (streq(names.items[i].name, names.items[i - 1].name))
			return bad(x, err, "directory inode %" PRIu32 " has a name twice", dir->ino);
	*ret = names;
	names = (struct ext4_names){};
	return 0;
}

int ext4_reader_link(struct ext4_reader *x, const struct ext4_node *n, char **ret, struct error *err)
{
	struct ext4_node copy = *n;
	_cleanup_free_ char *target = NULL;
	int r;

	if (n->size == 0 || n->size > TARGET_MAX)
		return bad(x, err, "symbolic link inode %" PRIu32 " is too long or leads nowhere", n->ino);
	target = xcalloc(1, n->size + 1);
	if (ext2fs_is_fast_symlink(&copy.small) && n->size < sizeof(copy.small.i_block)) {
		memcpy(target, copy.small.i_block, n->size);
	} else {
		_cleanup_(ext4_runs_clear) struct ext4_runs runs = {};

		r = ext4_reader_runs(x, n, &runs, NULL, err);
		if (r >= 0)
			r = ext4_reader_read(x, &runs, 0, target, n->size, err);
		if (r < 0)
			return r;
	}
	if (strlen(target) != n->size)
		return bad(x, err, "symbolic link inode %" PRIu32 " holds a NUL", n->ino);
	*ret = TAKE_PTR(target);
	return 0;
}

void ext4_xattrs_done(struct ext4_xattrs *a)
{
	for (size_t i = 0; i < a->n; i++) {
		free((void *)(uintptr_t)a->items[i].name);
		free((void *)(uintptr_t)a->items[i].value);
	}
	free(a->items);
	*a = (struct ext4_xattrs){};
}

struct gathering {
	struct ext4_xattrs *to;
	bool too_much;
};

static int on_xattr(char *name, char *value, size_t len, void *data)
{
	struct gathering *g = data;

	if (g->to->n == XATTRS_MAX || len > XATTR_VALUE_MAX || strlen(name) > 300) {
		g->too_much = true;
		return XATTR_ABORT;
	}
	g->to->items = xrealloc_array(g->to->items, g->to->n + 1, sizeof(*g->to->items));
	g->to->items[g->to->n++] =
		(struct fs_xattr){ .name = xstrdup(name), .value = len ? xmemdup(value, len) : NULL, .len = len };
	return 0;
}

static int by_xattr_name(const void *a, const void *b)
{
	return strcmp(((const struct fs_xattr *)a)->name, ((const struct fs_xattr *)b)->name);
}

/* Access lists have a form of their own on disk; ext2fs_xattr_get() gives them as system calls do, the iteration does not. */
static errcode_t convert_acls(struct ext2_xattr_handle *h, struct ext4_xattrs *all)
{
	for (size_t i = 0; i < all->n; i++) {
		struct fs_xattr *a = &all->items[i];
		void *value = NULL;
		errcode_t c;
		size_t len;

		if (!after_prefix(a->name, "system.posix_acl_"))
			continue;
		c = ext2fs_xattr_get(h, a->name, &value, &len);
		if (c)
			return c;
		free((void *)(uintptr_t)a->value);
		a->value = len ? xmemdup(value, len) : NULL;
		a->len = len;
		(void)ext2fs_free_mem(&value);
	}
	return 0;
}

int ext4_reader_xattrs(struct ext4_reader *x, const struct ext4_node *n, struct ext4_xattrs *ret, struct error *err)
{
	_cleanup_(ext4_xattrs_done) struct ext4_xattrs all = {};
	struct gathering g = { .to = &all };
	struct ext2_xattr_handle *h = NULL;
	errcode_t c;

	*ret = (struct ext4_xattrs){};
	if (!n->has_xattrs)
		return 0;
	c = ext2fs_xattrs_open(x->fs, n->ino, &h);
	if (!c)
		c = ext2fs_xattrs_read(h);
	if (!c)
		c = ext2fs_xattrs_iterate(h, on_xattr, &g);
	if (!c && !g.too_much)
		c = convert_acls(h, &all);
	if (h)
		(void)ext2fs_xattrs_close(&h);
	if (c)
		return failed(x, err, c, "extended attributes", n->ino);
	if (g.too_much)
		return bad(x, err, "inode %" PRIu32 " has too many or too large extended attributes", n->ino);
	if (all.n)
		qsort(all.items, all.n, sizeof(*all.items), by_xattr_name);
	*ret = all;
	all = (struct ext4_xattrs){};
	return 0;
}
