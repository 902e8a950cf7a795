/* Between the files of the EROFS builder only. */
#pragma once

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/flusher.h"
#include "disk/erofs.h"
#include "disk/fs_names.h"

/* On disk. */
enum {
	EROFS_BLOCK = 4096,
	EROFS_SUPER_AT = 1024,
	EROFS_SUPER = 128,
	EROFS_SLOT = 32, /* inodes are found by number: it counts these */
	EROFS_INODE = 64,
	EROFS_DIRENT = 12,
	EROFS_ROOT_AT = EROFS_SUPER_AT + EROFS_SUPER,
	EROFS_ROOT_END = 2 * EROFS_BLOCK, /* with its attributes */
	EROFS_XATTR_HEADER = 12,
};
#define EROFS_NO_BLOCK UINT32_MAX
enum erofs_layout { EROFS_PLAIN = 0, EROFS_INLINE = 2, EROFS_CHUNKS = 4 };

struct erofs_inode {
	enum erofs_layout layout;
	mode_t mode;
	uint32_t uid, gid, nlink, number;
	uint64_t size, mtime_ns;
	uint32_t u; /* first block, format of the chunks, or device */
	uint32_t xattr_bytes;
};

/* A directory's inode is written when all names are known; until then it is this, and its node's number is an index of these. */
struct erofs_dir {
	uint64_t mtime_ns;
	uint8_t *xattrs; /* owned */
	uint32_t xattr_bytes;
	uint32_t uid, gid;
	uint32_t nid; /* while unused: the next unused one */
	uint32_t block, size_blocks;
	uint16_t tail; /* bytes behind the inode; 0 = all of it in blocks */
};

/* Inodes with attributes and the ends of files share blocks: those that still have room. */
enum { EROFS_OPEN_BLOCKS = 16 };
struct erofs_block {
	uint32_t at;
	uint32_t used;
	uint8_t p[EROFS_BLOCK];
};

struct erofs {
	int fd; /* borrowed */
	uint64_t limit_blocks, next_block;
	uint64_t time_s;
	uint8_t uuid[16];
	char label[16];
	struct fs_names names;
	struct erofs_dir *dirs; /* owned with their attributes; the first is the root */
	uint32_t n_dirs, cap_dirs, unused_dir;
	size_t xattrs_bytes;        /* of directories, in memory */
	struct erofs_block *blocks; /* owned; EROFS_OPEN_BLOCKS */
	size_t n_blocks;
	uint64_t n_inodes;
	uint32_t next_number;
	struct flusher *flusher; /* owned */
	bool chunked;            /* some file has holes */

	/* the regular file that is being written */
	struct node *file_node;
	struct erofs_inode inode;
	struct buf xattrs;
	uint64_t end;     /* so far */
	uint8_t *pending; /* owned; what has come from block-aligned @pending_at on */
	uint64_t pending_at;
	size_t pending_n;
	uint64_t file_blocks; /* written without a hole before them */
	uint32_t *map;        /* owned; where its chunks are; NULL = one piece */
	size_t n_map;
	unsigned chunk_bits; /* a chunk has 1 << this blocks */
};

static inline void erofs_put16(uint8_t *p, uint16_t v)
{
	v = htole16(v);
	memcpy(p, &v, sizeof(v));
}
static inline void erofs_put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}
static inline void erofs_put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}
static inline uint16_t erofs_get16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}
static inline uint32_t erofs_get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}
static inline uint64_t erofs_get64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return le64toh(v);
}

/* ---- erofs_space.c: blocks and inodes ---- */

int erofs_take_blocks(struct erofs *x, uint64_t n, uint32_t *ret, struct error *err);
/* At a place that was never written before: zeros stay a hole. */
int erofs_write_blocks(struct erofs *x, uint32_t at, const uint8_t *p, uint64_t n, struct error *err);
/* Room for @n bytes, at most a block, that no block's end cuts; *ret: byte on the disk. */
int erofs_place(struct erofs *x, size_t n, uint64_t *ret, struct error *err);
/* Reads and writes what was placed. */
int erofs_load(struct erofs *x, uint64_t at, void *p, size_t n, struct error *err);
int erofs_store(struct erofs *x, uint64_t at, const void *p, size_t n, struct error *err);
/* Becomes zeros, and gives back to the host what it can. */
int erofs_clear(struct erofs *x, uint64_t at, uint64_t n, struct error *err);
/* Writes out the blocks that have room. */
int erofs_flush(struct erofs *x, struct error *err);

void erofs_inode_encode(const struct erofs_inode *i, uint8_t p[EROFS_INODE]);
void erofs_inode_decode(const uint8_t p[EROFS_INODE], struct erofs_inode *ret);
/* An inode, its attributes and @n bytes @more behind them (a link's target, a file's end, a map of chunks); *ret_nid. Only what fits into a block
 * together may be of layout INLINE. */
int erofs_put_inode(struct erofs *x, struct erofs_inode *i, const struct buf *xattrs, const void *more, size_t n,
		    uint32_t *ret_nid, struct error *err);
/* One link less; the last one frees inode and content. */
int erofs_drop_inode(struct erofs *x, uint32_t nid, struct error *err);
/* As the inode has it; appends nothing when there is nothing that can be kept. */
int erofs_xattrs_encode(const struct fs_entry *e, struct buf *out, struct error *err);

/* ---- erofs_dir.c ---- */

int erofs_new_dir(struct erofs *x, uint32_t *ret, struct error *err);
int erofs_set_dir(struct erofs *x, uint32_t index, const struct fs_entry *e, struct error *err);
void erofs_drop_dir(struct erofs *x, uint32_t index);
/* All directories, then the superblock. */
int erofs_write_dirs(struct erofs *x, struct error *err);
