/* Directories, links, attributes. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "disk/ext4_reader_parts.h"

enum { TARGET_MAX = 4096, XATTRS_MAX = 256, XATTR_VALUE_MAX = 64 << 10 };
#define NAMES_MAX ((size_t)16 << 20) /* in one directory */

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
		return ext4_reader_bad(x, err, "directory inode %" PRIu32 " has a name that is none", dir);
	if (ret->n == NAMES_MAX)
		return ext4_reader_bad(x, err, "directory inode %" PRIu32 " has too many names", dir);
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
			return ext4_reader_bad(x, err, "directory inode %" PRIu32 " overruns itself", dir);
		memcpy(&de, block + at, bytes - at < sizeof(de) ? bytes - at : sizeof(de));
		if (ext2fs_get_rec_len(x->fs, &de, &rec_len) || rec_len < 8 || rec_len % 4 || rec_len > bytes - at ||
		    (de.inode && (de.name_len & 0xffu) + 8 > rec_len))
			return ext4_reader_bad(x, err, "directory inode %" PRIu32 " overruns itself", dir);
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

			r = c ? ext4_reader_failed(x, err, c, "content of directory", dir->ino)
			      : list_block(x, dir->ino, block, &names, err);
		}
	if (r < 0)
		return r;
	if (names.n)
		qsort(names.items, names.n, sizeof(*names.items), by_name);
	for (size_t i = 1; i < names.n; i++)
		if (streq(names.items[i].name, names.items[i - 1].name))
			return ext4_reader_bad(x, err, "directory inode %" PRIu32 " has a name twice", dir->ino);
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
		return ext4_reader_bad(x, err, "symbolic link inode %" PRIu32 " is too long or leads nowhere", n->ino);
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
		return ext4_reader_bad(x, err, "symbolic link inode %" PRIu32 " holds a NUL", n->ino);
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
		return ext4_reader_failed(x, err, c, "extended attributes", n->ino);
	if (g.too_much)
		return ext4_reader_bad(x, err, "inode %" PRIu32 " has too many or too large extended attributes",
				       n->ino);
	if (all.n)
		qsort(all.items, all.n, sizeof(*all.items), by_xattr_name);
	*ret = all;
	all = (struct ext4_xattrs){};
	return 0;
}
