#include "image/apply.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"

#define WHITEOUT ".wh."
#define OPAQUE   ".wh..wh..opq"
#define AUFS     ".wh..wh."

/* What the tree refuses because of the entry is the image's fault; what it cannot do (a full disk) is not. */
static int blame(int r, struct error *err)
{
	switch (-r) {
	case EINVAL:
	case ENOENT:
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
	case ENAMETOOLONG:
	case E2BIG:
	case EFBIG:
	case EMLINK:
	case EBADMSG:
		if (err)
			err->kind = ERROR_DATA;
		break;
	default: break;
	}
	return r;
}

static char *join(const char *path, size_t dir_len, const char *name)
{
	return dir_len ? xasprintf("%.*s/%s", (int)dir_len, path, name) : xstrdup(name);
}

/* Returns 1 when the entry was one of the marks, 0 when it is to be added. */
static int apply_mark(struct tree *tree, const struct fs_entry *e, struct error *err)
{
	const char *slash = strrchr(e->path, '/'), *name = slash ? slash + 1 : e->path;
	size_t dir_len = slash ? (size_t)(slash - e->path) : 0;
	_cleanup_free_ char *path = NULL;
	int r;

	/* AUFS kept its own files under such names; nothing below them is the image's. */
	if (after_prefix(e->path, AUFS) && !streq(e->path, OPAQUE))
		return 1;
	if (!after_prefix(name, WHITEOUT))
		return 0;
	if (streq(name, OPAQUE)) {
		path = dir_len ? xstrndup(e->path, dir_len) : xstrdup(".");
		r = tree->ops->remove(tree, path, true, err);
		return r < 0 ? r : 1;
	}
	if (after_prefix(name, AUFS))
		return 1;
	name += strlen(WHITEOUT);
	if (!*name || streq(name, ".") || streq(name, ".."))
		return error_set(err, EBADMSG, "'%.200s': a whiteout of nothing that could be there", e->path);
	path = join(e->path, dir_len, name);
	r = tree->ops->remove(tree, path, false, err);
	return r < 0 ? r : 1;
}

static int copy_content(struct tar *tar, struct tree *tree, struct error *err)
{
	const void *p;
	uint64_t offset;
	size_t n;
	int r;

	while ((r = tar_content(tar, &offset, &p, &n, err)) > 0) {
		r = tree->ops->write(tree, offset, p, n, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : tree->ops->end_file(tree, err);
}

static int add(struct tar *tar, struct tree *tree, const struct tar_item *item, struct error *err)
{
	int r;

	if (item->hard_link)
		return blame(tree->ops->link(tree, item->entry.path, item->hard_link, err), err);
	r = blame(tree->ops->add(tree, &item->entry, err), err);
	if (r < 0 || !S_ISREG(item->entry.mode))
		return r;
	r = blame(copy_content(tar, tree, err), err);
	/* The tree speaks of the disk here, not of the file. */
	return r < 0 ? error_prefix(err, "'%.200s'", item->entry.path) : 0;
}

int layer_apply(struct tar *tar, struct tree *tree, struct apply_limits *limits, struct error *err)
{
	const struct tar_item *item;
	int r;

	while ((r = tar_next(tar, &item, err)) > 0) {
		if (!limits->entries_left)
			return error_set_kind(err, ERROR_DATA, E2BIG,
					      "'%.200s': the image has more entries than are allowed",
					      item->entry.path);
		limits->entries_left--;
		r = blame(apply_mark(tree, &item->entry, err), err);
		if (r == 0)
			r = add(tar, tree, item, err);
		if (r < 0)
			return r;
	}
	return r;
}
