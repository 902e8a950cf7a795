/* An empty ext4 with the features of today's mke2fs, made so that equal input gives equal bytes: fixed UUID, hash seed and time. Inode
 * tables and the journal are left as holes, which read as the zeros that they ought to hold; the groups say so, hence the kernel has
 * nothing to initialize later. */
#include "disk/ext4_format.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"

enum {
	INODE_RATIO = 16384,
	RESERVED_PERCENT = 1,
	JOURNAL_BLOCKS_MAX = 16384,
	/* Blocks of group descriptors to grow into: one describes 64 groups of 128 MiB, so 128 of them reach 1 TiB. */
	RESERVED_GDT = 128,
};
#define SIZE_MIN       (UINT64_C(8) << 20)
#define SIZE_MAX_BYTES (UINT64_C(16) << 40)

static void set_features(struct ext2_super_block *p, bool journal)
{
	ext2fs_set_feature_xattr(p);
	ext2fs_set_feature_resize_inode(p);
	ext2fs_set_feature_dir_index(p);
	ext2fs_set_feature_filetype(p);
	ext2fs_set_feature_extents(p);
	ext2fs_set_feature_64bit(p);
	ext2fs_set_feature_flex_bg(p);
	ext2fs_set_feature_sparse_super(p);
	ext2fs_set_feature_large_file(p);
	ext2fs_set_feature_huge_file(p);
	ext2fs_set_feature_dir_nlink(p);
	ext2fs_set_feature_extra_isize(p);
	ext2fs_set_feature_metadata_csum(p);
	if (journal)
		ext2fs_set_feature_journal(p);
}

static void fill_super(ext2_filsys fs, const char *label, const uint8_t uuid[16], const uint8_t seed[16],
		       uint64_t time_s)
{
	struct ext2_super_block *s = fs->super;

	memcpy(s->s_uuid, uuid, 16);
	memcpy(s->s_hash_seed, seed, 16);
	memcpy(s->s_volume_name, label, strnlen(label, sizeof(s->s_volume_name)));
	s->s_checksum_type = EXT2_CRC32C_CHKSUM;
	s->s_def_hash_version = EXT2_HASH_HALF_MD4;
	s->s_flags |= EXT2_FLAGS_SIGNED_HASH;
	s->s_default_mount_opts = EXT2_DEFM_XATTR_USER | EXT2_DEFM_ACL;
	s->s_mkfs_time = s->s_lastcheck = s->s_wtime = (uint32_t)time_s;
	s->s_max_mnt_count = -1;
	s->s_checkinterval = 0;
	ext2fs_r_blocks_count_set(s, ext2fs_blocks_count(s) * RESERVED_PERCENT / 100);
	ext2fs_init_csum_seed(fs);
}

/* Inode tables: holes are zeros already. */
static void mark_tables_zeroed(ext2_filsys fs)
{
	for (dgrp_t g = 0; g < fs->group_desc_count; g++) {
		ext2fs_bg_flags_set(fs, g, EXT2_BG_INODE_ZEROED);
		ext2fs_group_desc_csum_set(fs, g);
	}
}

static void reserve_inodes(ext2_filsys fs)
{
	for (ext2_ino_t i = 1; i < EXT2_FIRST_INODE(fs->super); i++)
		ext2fs_inode_alloc_stats2(fs, i, +1, i == EXT2_ROOT_INO);
}

static errcode_t add_journal(ext2_filsys fs)
{
	struct ext2fs_journal_params j;
	errcode_t c = ext2fs_get_journal_params(&j, fs);

	if (c)
		return c;
	if (j.num_journal_blocks > JOURNAL_BLOCKS_MAX)
		j.num_journal_blocks = JOURNAL_BLOCKS_MAX;
	return ext2fs_add_journal_inode3(fs, &j, ~(blk64_t)0, EXT2_MKJOURNAL_LAZYINIT | EXT2_MKJOURNAL_NO_MNT_CHECK);
}

int ext4_format(int fd, uint64_t bytes, const char *label, const uint8_t uuid[16], const uint8_t hash_seed[16],
		uint64_t time_s, bool journal, ext2_filsys *ret, struct error *err)
{
	struct ext2_super_block param = {};
	_cleanup_free_ char *name = NULL;
	ext2_filsys fs = NULL;
	struct stat st;
	errcode_t c;

	if (bytes < SIZE_MIN || bytes > SIZE_MAX_BYTES)
		return error_set_kind(err, ERROR_USAGE, EINVAL,
				      "file system: %" PRIu64 " bytes are no size for an ext4 (8 MiB to 16 TiB)",
				      bytes);
	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "file system");
	if (!S_ISREG(st.st_mode) || st.st_size != 0)
		return error_set(err, EINVAL, "file system: not an empty file");
	bytes -= bytes % EXT4_BLOCK;
	if (ftruncate(fd, (off_t)bytes) < 0)
		return error_set_errno(err, errno, "file system: cannot make a file of %" PRIu64 " bytes", bytes);

	param.s_rev_level = EXT2_DYNAMIC_REV;
	param.s_log_block_size = 2;
	param.s_log_cluster_size = 2;
	param.s_inode_size = EXT4_INODE;
	param.s_min_extra_isize = param.s_want_extra_isize = 32;
	param.s_desc_size = EXT2_MIN_DESC_SIZE_64BIT;
	param.s_log_groups_per_flex = 4;
	param.s_inodes_count = (uint32_t)(bytes / INODE_RATIO);
	if (bytes < (UINT64_C(1) << 30))
		param.s_reserved_gdt_blocks = RESERVED_GDT;
	ext2fs_blocks_count_set(&param, bytes / EXT4_BLOCK);
	set_features(&param, journal);

	/* The descriptor's own name: the file may have no other, and nobody can put another file there meanwhile. */
	name = xasprintf("/proc/self/fd/%d", fd);
	initialize_ext2_error_table();
	c = ext2fs_initialize(name, EXT2_FLAG_64BITS, &param, unix_io_manager, &fs);
	if (c)
		return ext4_error(err, c, "cannot format it");
	fs->now = (time_t)(time_s ? time_s : 1); /* 0 would mean the clock */
	fill_super(fs, label ? label : "", uuid, hash_seed, time_s);
	c = ext2fs_allocate_tables(fs);
	if (!c)
		c = ext2fs_set_gdt_csum(fs);
	if (!c) {
		mark_tables_zeroed(fs);
		reserve_inodes(fs);
		ext2fs_mark_ib_dirty(fs);
		c = ext2fs_update_bb_inode(fs, NULL);
	}
	if (!c)
		c = ext2fs_create_resize_inode(fs);
	if (!c && journal)
		c = add_journal(fs);
	if (c) {
		(void)ext4_error(err, c, "cannot format it");
		ext2fs_free(fs);
		return -EIO;
	}
	*ret = fs;
	return 0;
}
