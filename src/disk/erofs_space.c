/* Space of the EROFS builder. It is handed out in one direction: content as it comes, and between it blocks of metadata, which take the inodes
 * of files that end meanwhile. An inode's number is its place, so that none has to be remembered; what is replaced or removed is cleared. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "disk/erofs_parts.h"

enum { CLEAR_PIECE = 64 << 10, MAP_PIECE = 4096 };
enum { XATTR_VALUE_MAX = UINT16_MAX, XATTRS_LIMIT = 256, XATTR_ICOUNT_MAX = UINT16_MAX, ACL_VERSION = 2 };

static uint64_t blocks_of(uint64_t bytes)
{
	return bytes / EROFS_BLOCK + (bytes % EROFS_BLOCK != 0);
}

int erofs_take_blocks(struct erofs *x, uint64_t n, uint32_t *ret, struct error *err)
{
	if (n > x->limit_blocks || x->next_block > x->limit_blocks - n) {
		(void)error_set_kind(err, ERROR_CANTCREATE, EXFULL, "file system: content: the disk is full");
		(void)error_hint(err, "ask for a larger disk (--disk)");
		return -EXFULL;
	}
	*ret = (uint32_t)x->next_block;
	x->next_block += n;
	return 0;
}

static int write_bytes(struct erofs *x, uint64_t at, const void *p, size_t n, struct error *err)
{
	int r = pwrite_full(x->fd, p, n, at);

	return r < 0 ? error_set_errno(err, -r, "file system: cannot write it") : 0;
}

int erofs_write_blocks(struct erofs *x, uint32_t at, const uint8_t *p, uint64_t n, struct error *err)
{
	uint64_t from = (uint64_t)at * EROFS_BLOCK;
	int r;

	if (!n || (p[0] == 0 && memcmp(p, p + 1, n * EROFS_BLOCK - 1) == 0))
		return 0;
	r = write_bytes(x, from, p, n * EROFS_BLOCK, err);
	if (r >= 0)
		flusher_note(x->flusher, from, n * EROFS_BLOCK);
	return r;
}

static struct erofs_block *fullest(struct erofs *x, size_t room)
{
	struct erofs_block *best = NULL;

	for (size_t i = 0; i < x->n_blocks; i++)
		if (x->blocks[i].used + room <= EROFS_BLOCK && (!best || x->blocks[i].used > best->used))
			best = &x->blocks[i];
	return best;
}

int erofs_place(struct erofs *x, size_t n, uint64_t *ret, struct error *err)
{
	struct erofs_block *b;
	int r;

	n = (n + EROFS_SLOT - 1) / EROFS_SLOT * EROFS_SLOT;
	b = fullest(x, n);
	if (!b) {
		uint32_t at;

		r = erofs_take_blocks(x, 1, &at, err);
		if (r < 0)
			return r;
		/* Inodes are found by numbers of 32 bits. */
		if ((uint64_t)at * EROFS_BLOCK / EROFS_SLOT > UINT32_MAX - EROFS_BLOCK)
			return error_set_kind(err, ERROR_CANTCREATE, EFBIG,
					      "file system: an EROFS takes no more than 128 GiB");
		if (x->n_blocks < EROFS_OPEN_BLOCKS) {
			b = &x->blocks[x->n_blocks++];
		} else {
			b = fullest(x, 0);
			r = write_bytes(x, (uint64_t)b->at * EROFS_BLOCK, b->p, EROFS_BLOCK, err);
			if (r < 0)
				return r;
		}
		*b = (struct erofs_block){ .at = at };
	}
	*ret = (uint64_t)b->at * EROFS_BLOCK + b->used;
	b->used += (uint32_t)n;
	return 0;
}

/* What of [@at, @at + *n) is in memory, or NULL; *n becomes how far that answer holds. */
static uint8_t *in_memory(struct erofs *x, uint64_t at, uint64_t *n)
{
	uint64_t left = EROFS_BLOCK - at % EROFS_BLOCK;

	*n = *n < left ? *n : left;
	for (size_t i = 0; i < x->n_blocks; i++)
		if (x->blocks[i].at == at / EROFS_BLOCK)
			return x->blocks[i].p + at % EROFS_BLOCK;
	return NULL;
}

int erofs_load(struct erofs *x, uint64_t at, void *p, size_t n, struct error *err)
{
	for (uint8_t *to = p; n;) {
		uint64_t k = n;
		const uint8_t *from = in_memory(x, at, &k);
		int r = 0;

		if (from)
			memcpy(to, from, k);
		else
			r = pread_full(x->fd, to, k, at);
		if (r < 0)
			return error_set_errno(err, -r, "file system: cannot read what was written");
		to += k;
		at += k;
		n -= k;
	}
	return 0;
}

int erofs_store(struct erofs *x, uint64_t at, const void *p, size_t n, struct error *err)
{
	for (const uint8_t *from = p; n;) {
		uint64_t k = n;
		uint8_t *to = in_memory(x, at, &k);
		int r = 0;

		if (to)
			memcpy(to, from, k);
		else
			r = write_bytes(x, at, from, k, err);
		if (r < 0)
			return r;
		from += k;
		at += k;
		n -= k;
	}
	return 0;
}

int erofs_clear(struct erofs *x, uint64_t at, uint64_t n, struct error *err)
{
	static const uint8_t zeros[CLEAR_PIECE];
	uint64_t k = n;
	uint8_t *memory = n ? in_memory(x, at, &k) : NULL;

	if (!n)
		return 0;
	if (memory && k == n) {
		memset(memory, 0, n);
		return 0;
	}
	if (fallocate(x->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)n) == 0)
		return 0;
	if (errno != EOPNOTSUPP)
		return error_set_errno(err, errno, "file system: cannot free blocks");
	for (; n; at += k, n -= k) {
		int r;

		k = n < CLEAR_PIECE ? n : CLEAR_PIECE;
		r = write_bytes(x, at, zeros, k, err);
		if (r < 0)
			return r;
	}
	return 0;
}

int erofs_flush(struct erofs *x, struct error *err)
{
	for (; x->n_blocks; x->n_blocks--) {
		const struct erofs_block *b = &x->blocks[x->n_blocks - 1];
		int r = write_bytes(x, (uint64_t)b->at * EROFS_BLOCK, b->p, EROFS_BLOCK, err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- Inodes: struct erofs_inode_extended ---- */

static uint16_t xattr_count(uint32_t bytes)
{
	return bytes ? (uint16_t)((bytes - EROFS_XATTR_HEADER) / 4 + 1) : 0;
}

void erofs_inode_encode(const struct erofs_inode *i, uint8_t p[EROFS_INODE])
{
	memset(p, 0, EROFS_INODE);
	erofs_put16(p, (uint16_t)(1U | (unsigned)i->layout << 1));
	erofs_put16(p + 2, xattr_count(i->xattr_bytes));
	erofs_put16(p + 4, (uint16_t)i->mode);
	erofs_put64(p + 8, i->size);
	erofs_put32(p + 16, i->u);
	erofs_put32(p + 20, i->number);
	erofs_put32(p + 24, i->uid);
	erofs_put32(p + 28, i->gid);
	erofs_put64(p + 32, i->mtime_ns / UINT64_C(1000000000));
	erofs_put32(p + 40, (uint32_t)(i->mtime_ns % UINT64_C(1000000000)));
	erofs_put32(p + 44, i->nlink);
}

void erofs_inode_decode(const uint8_t p[EROFS_INODE], struct erofs_inode *ret)
{
	uint16_t count = erofs_get16(p + 2);

	*ret = (struct erofs_inode){
		.layout = (enum erofs_layout)(erofs_get16(p) >> 1),
		.mode = erofs_get16(p + 4),
		.size = erofs_get64(p + 8),
		.u = erofs_get32(p + 16),
		.number = erofs_get32(p + 20),
		.uid = erofs_get32(p + 24),
		.gid = erofs_get32(p + 28),
		.mtime_ns = erofs_get64(p + 32) * UINT64_C(1000000000) + erofs_get32(p + 40),
		.nlink = erofs_get32(p + 44),
		.xattr_bytes = count ? EROFS_XATTR_HEADER + (count - 1U) * 4 : 0,
	};
}

int erofs_put_inode(struct erofs *x, struct erofs_inode *i, const struct buf *xattrs, const void *more, size_t n,
		    uint32_t *ret_nid, struct error *err)
{
	size_t all = EROFS_INODE + xattrs->len + n;
	uint8_t head[EROFS_INODE];
	uint64_t at;
	int r;

	i->number = ++x->next_number;
	i->xattr_bytes = (uint32_t)xattrs->len;
	erofs_inode_encode(i, head);
	if (all <= EROFS_BLOCK) {
		r = erofs_place(x, all, &at, err);
	} else {
		uint32_t block;

		/* Attributes and maps may go over the ends of blocks. */
		r = erofs_take_blocks(x, blocks_of(all), &block, err);
		at = r < 0 ? 0 : (uint64_t)block * EROFS_BLOCK;
		if (r >= 0 && at / EROFS_SLOT > UINT32_MAX)
			return error_set_kind(err, ERROR_CANTCREATE, EFBIG,
					      "file system: an EROFS takes no more than 128 GiB");
	}
	if (r >= 0)
		r = erofs_store(x, at, head, sizeof(head), err);
	if (r >= 0)
		r = erofs_store(x, at + EROFS_INODE, xattrs->p, xattrs->len, err);
	if (r >= 0)
		r = erofs_store(x, at + EROFS_INODE + xattrs->len, more, n, err);
	if (r < 0)
		return r;
	x->n_inodes++;
	*ret_nid = (uint32_t)(at / EROFS_SLOT);
	return 0;
}

/* The bytes that are behind the attributes. */
static uint64_t more_bytes(const struct erofs_inode *i)
{
	switch (i->layout) {
	case EROFS_INLINE: return i->size % EROFS_BLOCK;
	case EROFS_CHUNKS: {
		uint64_t chunk = (uint64_t)EROFS_BLOCK << (i->u & 0x1f);

		return (i->size / chunk + (i->size % chunk != 0)) * 4;
	}
	case EROFS_PLAIN:
	default: return 0;
	}
}

static int clear_chunks(struct erofs *x, const struct erofs_inode *i, uint64_t map_at, struct error *err)
{
	uint64_t chunk = (uint64_t)EROFS_BLOCK << (i->u & 0x1f), n = more_bytes(i);
	uint8_t map[MAP_PIECE];

	for (uint64_t done = 0; done < n; done += MAP_PIECE) {
		size_t k = n - done < MAP_PIECE ? (size_t)(n - done) : MAP_PIECE;
		int r = erofs_load(x, map_at + done, map, k, err);

		for (size_t m = 0; r >= 0 && m < k; m += 4) {
			uint32_t block = erofs_get32(map + m);

			if (block != EROFS_NO_BLOCK)
				r = erofs_clear(x, (uint64_t)block * EROFS_BLOCK, chunk, err);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

int erofs_drop_inode(struct erofs *x, uint32_t nid, struct error *err)
{
	uint64_t at = (uint64_t)nid * EROFS_SLOT;
	uint8_t head[EROFS_INODE];
	struct erofs_inode i;
	int r = erofs_load(x, at, head, sizeof(head), err);

	if (r < 0)
		return r;
	erofs_inode_decode(head, &i);
	if (i.nlink > 1) {
		i.nlink--;
		erofs_inode_encode(&i, head);
		return erofs_store(x, at, head, sizeof(head), err);
	}
	if (i.layout == EROFS_CHUNKS) {
		r = clear_chunks(x, &i, at + EROFS_INODE + i.xattr_bytes, err);
	} else if (S_ISREG(i.mode) || S_ISLNK(i.mode)) {
		uint64_t n = i.layout == EROFS_INLINE ? i.size / EROFS_BLOCK : blocks_of(i.size);

		r = erofs_clear(x, (uint64_t)i.u * EROFS_BLOCK, n * EROFS_BLOCK, err);
	}
	if (r >= 0)
		r = erofs_clear(x, at, EROFS_INODE + i.xattr_bytes + more_bytes(&i), err);
	if (r >= 0)
		x->n_inodes--;
	return r;
}

/* ---- Attributes ---- */

/* The index that stands for the beginning of a name; 0 for names that no Linux file system keeps. *ret_rest: the rest of it. */
static uint8_t xattr_index(const char *name, const char **ret_rest)
{
	static const struct {
		const char *name;
		uint8_t index;
		bool whole;
	} kinds[] = {
		{ "user.", 1, false },
		{ "system.posix_acl_access", 2, true },
		{ "system.posix_acl_default", 3, true },
		{ "trusted.", 4, false },
		{ "security.", 6, false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		*ret_rest = after_prefix(name, kinds[i].name);
		if (*ret_rest && (kinds[i].whole ? !**ret_rest : **ret_rest && strlen(*ret_rest) <= UINT8_MAX))
			return kinds[i].index;
	}
	return 0;
}

/* What the kernel would not take for a list of permissions would make the file unreachable. */
static bool acl_is_sound(const struct fs_xattr *a)
{
	const uint8_t *p = a->value;

	return a->len >= 4 && (a->len - 4) % 8 == 0 && erofs_get32(p) == ACL_VERSION;
}

int erofs_xattrs_encode(const struct fs_entry *e, struct buf *out, struct error *err)
{
	static const uint8_t zeros[EROFS_XATTR_HEADER];

	if (e->n_xattrs > XATTRS_LIMIT)
		return error_set(err, E2BIG, "'%s': too many extended attributes", e->path);
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct fs_xattr *a = &e->xattrs[i];
		const char *rest;
		uint8_t index = xattr_index(a->name, &rest);
		bool again = false;

		for (size_t k = i + 1; k < e->n_xattrs; k++)
			again |= streq(e->xattrs[k].name, a->name);
		if (!index || again)
			continue;
		if (a->len > XATTR_VALUE_MAX)
			return error_set(err, E2BIG, "'%s': an extended attribute is too large", e->path);
		if (!*rest && !acl_is_sound(a))
			return error_set(err, EINVAL, "\'%s\': extended attributes: a value that cannot be", e->path);
		if (!out->len)
			buf_add(out, zeros, sizeof(zeros));
		buf_addc(out, (char)strlen(rest));
		buf_addc(out, (char)index);
		buf_addc(out, (char)(a->len & 0xff));
		buf_addc(out, (char)(a->len >> 8));
		buf_adds(out, rest);
		buf_add(out, a->value, a->len);
		buf_add(out, zeros, -out->len & 3);
	}
	if (out->len > EROFS_XATTR_HEADER + (XATTR_ICOUNT_MAX - 1) * 4)
		return error_set(err, E2BIG, "'%s': extended attributes: more than there is room for", e->path);
	return 0;
}
