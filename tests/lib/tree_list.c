#include "tree_list.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "disk/disk_reader.h"
#include "disk/ext4_diff.h"
#include "erofs_tree.h"
#include "test.h"

#define FNV_BASIS UINT64_C(0xcbf29ce484222325)
#define FNV_PRIME UINT64_C(0x100000001b3)

static uint64_t hash(uint64_t h, const void *p, size_t n)
{
	for (const uint8_t *b = p; n; b++, n--)
		h = (h ^ *b) * FNV_PRIME;
	return h;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_xattrs(struct buf *line, const struct fs_entry *e)
{
	_cleanup_strv_ struct strv v = {};

	for (size_t i = 0; i < e->n_xattrs; i++)
		strv_addf(&v, " %s=%zu:%" PRIx64, e->xattrs[i].name, e->xattrs[i].len,
			  hash(FNV_BASIS, e->xattrs[i].value, e->xattrs[i].len));
	if (v.n)
		qsort(v.items, v.n, sizeof(*v.items), by_text);
	for (size_t i = 0; i < v.n; i++)
		buf_adds(line, v.items[i]);
}

static int on_entry(const struct fs_entry *e, const struct fs_segment *s, size_t n, void *data, struct error *err)
{
	struct tree_list *l = data;
	struct buf line = {};

	(void)s;
	(void)n;
	(void)err;
	buf_addf(&line, "%s %o %u:%u mtime=%" PRIu64, e->path, e->mode, e->uid, e->gid, e->mtime_ns);
	if (S_ISLNK(e->mode))
		buf_addf(&line, " -> %s", e->link);
	if (S_ISCHR(e->mode) || S_ISBLK(e->mode))
		buf_addf(&line, " %u,%u", e->rdev_major, e->rdev_minor);
	add_xattrs(&line, e);
	strv_take(&l->lines, buf_take(&line));
	l->hash = FNV_BASIS;
	l->at = 0;
	l->size = e->size;
	return 0;
}

/* What is not told is zeros: each of them multiplies. */
static void pad(struct tree_list *l, uint64_t offset)
{
	uint64_t factor = FNV_PRIME;

	if (l->at >= offset)
		return;
	for (uint64_t n = offset - l->at; n; n >>= 1, factor *= factor)
		if (n & 1)
			l->hash *= factor;
	l->at = offset;
}

static int on_content(uint64_t offset, const void *p, size_t n, void *data, struct error *err)
{
	struct tree_list *l = data;

	(void)err;
	ASSERT(offset >= l->at);
	pad(l, offset);
	l->hash = hash(l->hash, p, n);
	l->at += n;
	return 0;
}

static int on_end(void *data, struct error *err)
{
	struct tree_list *l = data;
	_cleanup_free_ char *line = l->lines.items[l->lines.n - 1];

	(void)err;
	pad(l, l->size);
	l->lines.items[l->lines.n - 1] = xasprintf("%s size=%" PRIu64 " %" PRIx64, line, l->size, l->hash);
	return 0;
}

static int on_link(const char *path, const char *target, void *data, struct error *err)
{
	struct tree_list *l = data;

	(void)err;
	strv_addf(&l->lines, "%s == %s", path, target);
	return 0;
}

static const struct ext4_diff_ops ops = {
	.entry = on_entry, .content = on_content, .end = on_end, .hard_link = on_link
};

/* Every ext4 has lost+found, whatever an image says of it. */
static void put_in_order(struct tree_list *l)
{
	size_t n = 0;

	for (size_t i = 0; i < l->lines.n; i++)
		if (after_prefix(l->lines.items[i], "lost+found"))
			free(l->lines.items[i]);
		else
			l->lines.items[n++] = l->lines.items[i];
	l->lines.n = n;
	qsort(l->lines.items, l->lines.n, sizeof(*l->lines.items), by_text);
}

void tree_list_ext4(int fd, struct tree_list *ret)
{
	_cleanup_(disk_reader_freep) struct disk_reader *disk = NULL;
	struct ext4_diff_request q = { .what = "disk", .ops = &ops, .data = ret };
	_cleanup_error_ struct error e = {};

	ASSERT_OK(disk_reader_raw(fd, "disk", &disk, NULL));
	q.disk = disk;
	if (ext4_diff(&q, NULL, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	put_in_order(ret);
}

void tree_list_erofs(int fd, struct tree_list *ret)
{
	erofs_tree_tell(fd, &ops, ret);
	put_in_order(ret);
}

void tree_list_done(struct tree_list *l)
{
	strv_done(&l->lines);
}

void tree_list_same(const struct tree_list *a, const struct tree_list *b)
{
	for (size_t i = 0; i < a->lines.n && i < b->lines.n; i++)
		ASSERT_STREQ(a->lines.items[i], b->lines.items[i]);
	ASSERT_EQ(a->lines.n, b->lines.n);
}
