#include "disk/ext4_reader.h"

#include <errno.h>
#include <et/com_err.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/parse.h"
#include "disk/ext4_reader_parts.h"

enum {
	SUPER_OFFSET = 1024,
	BUDGET_FACTOR = 8,
	BUDGET_FLOOR = 1 << 20,
	NS_IN_S = 1000000000,
};
#define FILE_MAX      (UINT64_C(16) << 40)
#define GROUPS_MAX    (UINT64_C(1) << 20)
#define EA_MAGIC      UINT32_C(0xEA020000)
#define FLAGS_REFUSED (EXT4_INLINE_DATA_FL | EXT4_ENCRYPT_FL)

int ext4_reader_bad(const struct ext4_reader *x, struct error *err, const char *fmt, ...)
{
	_cleanup_free_ char *why = NULL;
	va_list ap;

	va_start(ap, fmt);
	why = xvasprintf(fmt, ap);
	va_end(ap);
	return error_set(err, EBADMSG, "%s: damaged file system: %s", x->what, why);
}

int ext4_reader_failed(struct ext4_reader *x, struct error *err, long code, const char *of, uint32_t ino)
{
	if (x->trouble.num)
		return error_move(err, &x->trouble);
	if (code == EXT2_ET_NO_MEMORY)
		return error_set(err, ENOMEM, "%s: no memory for its file system", x->what);
	return ext4_reader_bad(x, err, "%s of inode %" PRIu32 ": %s", of, ino, error_message(code));
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
		return ext4_reader_bad(x, err, "block size out of range");
	block_bytes = UINT64_C(1024) << ext2fs_le32_to_cpu(s.s_log_block_size);
	blocks = ext2fs_le32_to_cpu(s.s_blocks_count);
	if (ext2fs_le32_to_cpu(s.s_feature_incompat) & EXT4_FEATURE_INCOMPAT_64BIT)
		blocks |= (uint64_t)ext2fs_le32_to_cpu(s.s_blocks_count_hi) << 32;
	if (blocks == 0 || blocks > disk_reader_bytes(x->disk) / block_bytes)
		return ext4_reader_bad(x, err, "it is larger than its disk");
	if (ext2fs_le16_to_cpu(s.s_inode_size) > EXT4_READER_INODE_MAX)
		return ext4_reader_bad(x, err, "inode size out of range");
	inodes = ext2fs_le32_to_cpu(s.s_inodes_count);
	if (inodes == 0 || inodes > disk_reader_bytes(x->disk) / EXT2_GOOD_OLD_INODE_SIZE)
		return ext4_reader_bad(x, err, "it has too many inodes");
	if (ext2fs_le32_to_cpu(s.s_blocks_per_group) == 0 ||
	    blocks / ext2fs_le32_to_cpu(s.s_blocks_per_group) > GROUPS_MAX)
		return ext4_reader_bad(x, err, "it has too many block groups");
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
		return ext4_reader_bad(x, err, "%s", error_message(c));
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

int ext4_reader_charge(struct ext4_reader *x, uint64_t n, uint32_t ino, struct error *err)
{
	if (n > x->budget)
		return ext4_reader_bad(x, err, "inode %" PRIu32 ": more is mapped than there are blocks", ino);
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
		return ext4_reader_bad(x, err, "a name leads to inode %" PRIu32, ino);
	ret->ino = ino;
	ret->inode_bytes = EXT2_INODE_SIZE(x->fs->super);
	c = ext2fs_read_inode_full(x->fs, ino, &ret->small, (int)ret->inode_bytes);
	if (c)
		return ext4_reader_failed(x, err, c, "inode", ino);
	if (l->i_links_count == 0)
		return ext4_reader_bad(x, err, "a name leads to inode %" PRIu32 ", which is free", ino);
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
		return ext4_reader_bad(x, err, "inode %" PRIu32 " overruns itself", ino);
	ret->mtime_ns = decode_time(l->i_mtime, extra >= 16 ? l->i_mtime_extra : 0);
	ret->crtime_ns = extra >= 24 ? decode_time(l->i_crtime, l->i_crtime_extra) : 0;
	if (S_ISCHR(ret->mode) || S_ISBLK(ret->mode))
		decode_device(&ret->small, ret);
	if (S_ISREG(ret->mode) && ret->size > FILE_MAX)
		return ext4_reader_bad(x, err, "inode %" PRIu32 ": no file is that large", ino);
	ret->acl_block = ext2fs_file_acl_block(x->fs, &ret->small);
	if (ret->acl_block >= x->blocks)
		return ext4_reader_bad(x, err, "inode %" PRIu32 " has blocks outside of it", ino);
	ret->has_xattrs = ret->acl_block != 0;
	if (extra && EXT2_GOOD_OLD_INODE_SIZE + extra + 4 <= ret->inode_bytes) {
		uint32_t magic;

		memcpy(&magic, ret->raw + EXT2_GOOD_OLD_INODE_SIZE + extra, sizeof(magic));
		ret->has_xattrs |= magic == EA_MAGIC;
	}
	return 0;
}
