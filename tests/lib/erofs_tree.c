#include "erofs_tree.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"

enum { BLOCK = 4096, XATTRS = 256, PIECE = 1 << 20 };

struct inode {
	uint64_t nid;
	unsigned layout;
	mode_t mode;
	uint32_t u, uid, gid, nlink, xattr_bytes;
	uint64_t size, mtime_ns, behind; /* behind the attributes */
};

struct seen {
	uint64_t nid;
	char *path;
};

struct reader {
	int fd;
	const struct ext4_diff_ops *ops;
	void *data;
	struct seen *seen;
	size_t n_seen;
	uint64_t n_inodes;
};

#define CHECK(r)                                                                         \
	do {                                                                             \
		if ((r) < 0)                                                             \
			test_fail(__FILE__, __LINE__, "%s: %s", #r, e.msg ? e.msg : ""); \
	} while (0)

static void at(const struct reader *r, uint64_t offset, void *p, size_t n)
{
	ASSERT_OK(pread_full(r->fd, p, n, offset));
}

static uint16_t le16(const uint8_t *p)
{
	return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t le32(const uint8_t *p)
{
	return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static uint64_t le64(const uint8_t *p)
{
	return le32(p) | (uint64_t)le32(p + 4) << 32;
}

static struct inode load(const struct reader *r, uint64_t nid)
{
	uint8_t p[64];
	struct inode i = { .nid = nid };

	at(r, nid * 32, p, sizeof(p));
	ASSERT_EQ(p[0] & 1, 1);
	i.layout = le16(p) >> 1;
	i.xattr_bytes = le16(p + 2) ? 12 + (le16(p + 2) - 1U) * 4 : 0;
	i.mode = le16(p + 4);
	i.size = le64(p + 8);
	i.u = le32(p + 16);
	i.uid = le32(p + 24);
	i.gid = le32(p + 28);
	i.mtime_ns = le64(p + 32) * 1000000000 + le32(p + 40);
	i.nlink = le32(p + 44);
	i.behind = nid * 32 + 64 + i.xattr_bytes;
	ASSERT(i.layout == 0 || i.layout == 2 || i.layout == 4);
	return i;
}

/* Where the block's content is; 0 = a hole. */
static uint64_t block_at(const struct reader *r, const struct inode *i, uint64_t block)
{
	uint8_t p[4];

	if (i->layout == 4) {
		unsigned bits = i->u & 0x1f;

		at(r, i->behind + (block >> bits) * 4, p, sizeof(p));
		return le32(p) == UINT32_MAX ? 0 : (le32(p) + (block & ((1U << bits) - 1))) * (uint64_t)BLOCK;
	}
	if (i->layout == 2 && block == i->size / BLOCK) {
		/* The kernel maps one block for it. */
		ASSERT(i->behind / BLOCK == (i->behind + i->size % BLOCK - 1) / BLOCK);
		return i->behind;
	}
	return (i->u + block) * BLOCK;
}

static size_t block_bytes(const struct inode *i, uint64_t block)
{
	return i->size - block * BLOCK < BLOCK ? (size_t)(i->size - block * BLOCK) : BLOCK;
}

static uint64_t n_blocks(const struct inode *i)
{
	return (i->size + BLOCK - 1) / BLOCK;
}

static size_t load_xattrs(const struct reader *r, const struct inode *i, struct fs_xattr *ret)
{
	static const char *const names[] = {
		"", "user.", "system.posix_acl_access", "system.posix_acl_default", "trusted.", "", "security."
	};
	uint8_t *p = xcalloc(1, i->xattr_bytes + 1);
	size_t n = 0;

	at(r, i->nid * 32 + 64, p, i->xattr_bytes);
	for (size_t k = 12; k < i->xattr_bytes;) {
		size_t name = p[k], value = le16(p + k + 2);

		ASSERT(n < XATTRS && k + 4 + name + value <= i->xattr_bytes);
		ASSERT(p[k + 1] >= 1 && p[k + 1] <= 6 && p[k + 1] != 5);
		ret[n++] = (struct fs_xattr){ .name = xasprintf("%s%.*s", names[p[k + 1]], (int)name, p + k + 4),
					      .value = xmemdup(p + k + 4 + name, value + 1),
					      .len = value };
		k = (k + 4 + name + value + 3) & ~(size_t)3;
	}
	free(p);
	return n;
}

static void tell_file(const struct reader *r, const struct inode *i, const struct fs_entry *entry)
{
	struct fs_segment *s = xnew_n(struct fs_segment, n_blocks(i) + 1);
	_cleanup_free_ uint8_t *p = xcalloc(1, BLOCK);
	_cleanup_error_ struct error e = {};
	size_t n = 0;

	for (uint64_t b = 0; b < n_blocks(i); b++) {
		if (i->layout == 4 && !block_at(r, i, b))
			continue;
		if (n && s[n - 1].offset + s[n - 1].n == b * BLOCK)
			s[n - 1].n += block_bytes(i, b);
		else
			s[n++] = (struct fs_segment){ b * BLOCK, block_bytes(i, b) };
	}
	CHECK(r->ops->entry(entry, s, n, r->data, &e));
	for (size_t k = 0; k < n; k++)
		for (uint64_t o = s[k].offset; o < s[k].offset + s[k].n; o += BLOCK) {
			size_t bytes = block_bytes(i, o / BLOCK);

			at(r, block_at(r, i, o / BLOCK), p, bytes);
			CHECK(r->ops->content(o, p, bytes, r->data, &e));
		}
	CHECK(r->ops->end(r->data, &e));
	free(s);
}

static bool tell_again(struct reader *r, const struct inode *i, const char *path)
{
	_cleanup_error_ struct error e = {};

	for (size_t k = 0; k < r->n_seen; k++)
		if (r->seen[k].nid == i->nid) {
			CHECK(r->ops->hard_link(path, r->seen[k].path, r->data, &e));
			return true;
		}
	r->seen = xrealloc_array(r->seen, r->n_seen + 1, sizeof(*r->seen));
	r->seen[r->n_seen++] = (struct seen){ i->nid, xstrdup(path) };
	return false;
}

static void tell(struct reader *r, const char *path, const struct inode *i)
{
	struct fs_xattr xattrs[XATTRS] = {};
	_cleanup_error_ struct error e = {};
	char target[BLOCK + 1] = "";
	struct fs_entry entry = { .path = path,
				  .mode = i->mode,
				  .uid = i->uid,
				  .gid = i->gid,
				  .mtime_ns = i->mtime_ns,
				  .size = i->size,
				  .xattrs = xattrs };

	if (!S_ISDIR(i->mode) && i->nlink > 1 && tell_again(r, i, path))
		return;
	r->n_inodes++;
	entry.n_xattrs = load_xattrs(r, i, xattrs);
	if (S_ISLNK(i->mode)) {
		ASSERT(i->size < BLOCK);
		at(r, block_at(r, i, 0), target, i->size);
		entry.link = target;
	} else if (S_ISCHR(i->mode) || S_ISBLK(i->mode)) {
		entry.rdev_major = (i->u & 0xfff00) >> 8;
		entry.rdev_minor = (i->u & 0xff) | (i->u >> 12 & 0xfff00);
	}
	if (S_ISREG(i->mode))
		tell_file(r, i, &entry);
	else
		CHECK(r->ops->entry(&entry, NULL, 0, r->data, &e));
	for (size_t k = 0; k < entry.n_xattrs; k++) {
		free((void *)(uintptr_t)xattrs[k].name);
		free((void *)(uintptr_t)xattrs[k].value);
	}
}

static void walk(struct reader *r, const char *path, const struct inode *dir, const struct inode *up)
{
	_cleanup_free_ char *before = xstrdup("");
	uint32_t subdirs = 0;

	tell(r, path, dir);
	for (uint64_t b = 0; b < n_blocks(dir); b++) {
		uint8_t p[BLOCK + 1] = {};
		size_t bytes = block_bytes(dir, b), n;

		at(r, block_at(r, dir, b), p, bytes);
		n = le16(p + 8) / 12;
		ASSERT(n >= 1 && n * 12 < bytes);
		for (size_t k = 0; k < n; k++) {
			const uint8_t *d = p + k * 12;
			size_t from = le16(d + 8), to = k + 1 < n ? le16(d + 20) : from + strlen((char *)p + from);
			_cleanup_free_ char *name = xstrndup((char *)p + from, to - from), *child = NULL;
			struct inode i = load(r, le64(d));

			ASSERT(to <= bytes && to > from && strlen(name) == to - from);
			ASSERT(strcmp(before, name) < 0);
			free(before);
			before = xstrdup(name);
			if (streq(name, ".") || streq(name, "..")) {
				ASSERT_EQ(i.nid, streq(name, ".") ? dir->nid : up->nid);
				continue;
			}
			child = streq(path, ".") ? xstrdup(name) : xasprintf("%s/%s", path, name);
			ASSERT_EQ(d[10], "\0\5\3\0\2\0\4\0\1\0\7\0\6"[i.mode >> 12]);
			if (S_ISDIR(i.mode)) {
				subdirs++;
				walk(r, child, &i, dir);
			} else {
				tell(r, child, &i);
			}
		}
	}
	ASSERT_EQ(dir->nlink, subdirs + 2);
}

void erofs_tree_tell(int fd, const struct ext4_diff_ops *ops, void *data)
{
	struct reader r = { .fd = fd, .ops = ops, .data = data };
	uint8_t p[128];
	struct inode root;
	struct stat st;

	at(&r, 1024, p, sizeof(p));
	ASSERT_EQ(le32(p), 0xe0f5e1e2);
	ASSERT_EQ(p[12], 12);
	ASSERT_EQ(fstat(fd, &st), 0);
	ASSERT_EQ(le32(p + 36) * UINT64_C(4096), (uint64_t)st.st_size);
	root = load(&r, le16(p + 14));
	walk(&r, ".", &root, &root);
	ASSERT_EQ(le64(p + 16), r.n_inodes);
	for (size_t i = 0; i < r.n_seen; i++)
		free(r.seen[i].path);
	free(r.seen);
}
