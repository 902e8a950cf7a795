/* How this works. Both trees are walked side by side, directory by directory, names in order, twice: the first time to learn which inodes with
 * several names have the same names in both trees; the second time to tell the changes. Inodes that are equal but for their access time, and
 * whose blocks the delta does not have or has with the base's bytes, are equal without being read; others are compared.
 *
 * A file with several names is told with all its names when anything about it, its set of names included, has changed: who applies a layer
 * cannot be relied on to find names in the layers below. */
#include "disk/ext4_diff.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/memory.h"
#include "disk/ext4_reader.h"

enum { DEPTH_MAX = 1024, PATH_BYTES_MAX = 16384, PIECE = 256 << 10 };
#define LINKS_MAX ((size_t)4 << 20)

/* An inode with several names. */
struct group {
	uint32_t ino;     /* 0 = free slot */
	uint32_t base;    /* the base's inode at all of these names; 0 = not the same everywhere, or none */
	uint32_t n_names; /* that were met */
	char *first;      /* owned; the name under which it was told */
	bool same;        /* it was found to be the base's: looked at once, however many names it has */
};

/* Directories on the way down. */
struct level {
	struct ext4_node node;
	size_t path_len;
	bool told;
};

struct diff {
	const struct ext4_diff_request *req;
	struct ext4_reader *ours, *base; /* owned; base may be NULL */
	bool telling;                    /* the second walk */
	struct group *groups;            /* owned; a hash table */
	size_t n_groups, n_slots;
	uint8_t *seen;        /* owned; a bit for each inode: directories that were entered in this walk */
	struct level *levels; /* owned */
	size_t depth;
	struct buf path;
	uint8_t *a, *b; /* owned; PIECE bytes each */
};

static const char *path_of(const struct diff *d)
{
	return d->path.len ? d->path.p : ".";
}

static int push_name(struct diff *d, const char *name, struct error *err)
{
	if (d->path.len + strlen(name) + 2 > PATH_BYTES_MAX)
		return error_set(err, EBADMSG, "%s: paths in it are longer than %d bytes", d->req->what,
				 PATH_BYTES_MAX);
	if (d->path.len)
		buf_addc(&d->path, '/');
	buf_adds(&d->path, name);
	return 0;
}

/* ---- Hard links ---- */

static struct group *slot_of(struct group *groups, size_t n_slots, uint32_t ino)
{
	size_t i = (ino * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (n_slots - 1);

	while (groups[i].ino && groups[i].ino != ino)
		i = (i + 1) & (n_slots - 1);
	return &groups[i];
}

static int group_of(struct diff *d, uint32_t ino, struct group **ret, bool *ret_new, struct error *err)
{
	struct group *g;

	if (d->n_groups * 2 >= d->n_slots) {
		size_t n = d->n_slots ? d->n_slots * 2 : 256;
		struct group *bigger;

		if (d->n_groups >= LINKS_MAX)
			return error_set(err, EBADMSG, "%s: too many files with several names", d->req->what);
		bigger = xnew_n(struct group, n);
		for (size_t i = 0; i < d->n_slots; i++)
			if (d->groups[i].ino)
				*slot_of(bigger, n, d->groups[i].ino) = d->groups[i];
		free(d->groups);
		d->groups = bigger;
		d->n_slots = n;
	}
	g = slot_of(d->groups, d->n_slots, ino);
	*ret_new = g->ino == 0;
	if (*ret_new) {
		g->ino = ino;
		d->n_groups++;
	}
	*ret = g;
	return 0;
}

/* ---- Equal? ---- */

/* What says nothing about the content: when it was read, and the sums over that. */
static void mask_inode(struct ext4_node *n)
{
	n->large.i_atime = 0;
	n->large.i_checksum_hi = 0;
	n->large.osd2.linux2.l_i_checksum_lo = 0;
	n->large.osd1.linux1.l_i_version = 0;
	if (n->inode_bytes > EXT2_GOOD_OLD_INODE_SIZE) {
		n->large.i_atime_extra = 0;
		n->large.i_version_hi = 0;
	}
}

static bool same_inode_bytes(const struct ext4_node *a, const struct ext4_node *b)
{
	struct ext4_node x = *a, y = *b;

	if (a->ino != b->ino || a->inode_bytes != b->inode_bytes)
		return false;
	mask_inode(&x);
	mask_inode(&y);
	return memcmp(x.raw, y.raw, a->inode_bytes) == 0;
}

/* Has the delta other bytes than the base where these blocks are? Returns 1, 0 or <0. */
static int runs_differ(struct diff *d, const struct ext4_runs *runs, struct error *err)
{
	uint64_t unit = ext4_reader_block_bytes(d->ours);
	int r = 0;

	for (size_t i = 0; i < runs->n && r == 0; i++)
		r = disk_reader_differs(d->req->disk, runs->items[i].physical * unit, runs->items[i].n * unit, err);
	return r;
}

/* The inodes' bytes are equal: is what they lead to? Only then 1; 0 means that it has to be looked at. */
static int same_blocks(struct diff *d, const struct ext4_node *n, struct error *err)
{
	_cleanup_(ext4_runs_clear) struct ext4_runs runs = {}, blocks = {};
	uint64_t acl = n->acl_block, unit = ext4_reader_block_bytes(d->ours);
	int r = 0;

	if (ext4_reader_block_bytes(d->base) != unit)
		return 0;
	if (acl)
		r = disk_reader_differs(d->req->disk, acl * unit, unit, err);
	if (r != 0)
		return r < 0 ? r : 0;
	if (!S_ISREG(n->mode) && !S_ISLNK(n->mode))
		return 1;
	if (S_ISLNK(n->mode) && n->size < sizeof(n->small.i_block))
		return 1;
	r = ext4_reader_runs(d->ours, n, &runs, &blocks, err);
	if (r >= 0)
		r = runs_differ(d, &blocks, err);
	if (r == 0)
		r = runs_differ(d, &runs, err);
	return r < 0 ? r : r == 0;
}

static int same_xattrs(struct diff *d, const struct ext4_node *n, const struct ext4_node *b, struct error *err)
{
	_cleanup_(ext4_xattrs_done) struct ext4_xattrs x = {}, y = {};
	int r;

	if (!n->has_xattrs && !b->has_xattrs)
		return 1;
	r = ext4_reader_xattrs(d->ours, n, &x, err);
	if (r >= 0)
		r = ext4_reader_xattrs(d->base, b, &y, err);
	if (r < 0)
		return r;
	if (x.n != y.n)
		return 0;
	for (size_t i = 0; i < x.n; i++)
		if (!streq(x.items[i].name, y.items[i].name) || x.items[i].len != y.items[i].len ||
		    (x.items[i].len && memcmp(x.items[i].value, y.items[i].value, x.items[i].len) != 0))
			return 0;
	return 1;
}

static int same_content(struct diff *d, const struct ext4_node *n, const struct ext4_node *b, struct error *err)
{
	_cleanup_(ext4_runs_clear) struct ext4_runs x = {}, y = {};
	uint64_t at = 0;
	int r = ext4_reader_runs(d->ours, n, &x, NULL, err);

	if (r >= 0)
		r = ext4_reader_runs(d->base, b, &y, NULL, err);
	while (r >= 0 && at < n->size) {
		uint64_t p = ext4_reader_next_data(d->ours, &x, at), q = ext4_reader_next_data(d->base, &y, at);
		size_t k;

		at = p < q ? p : q;
		if (at >= n->size)
			break;
		k = n->size - at < PIECE ? (size_t)(n->size - at) : PIECE;
		r = ext4_reader_read(d->ours, &x, at, d->a, k, err);
		if (r >= 0)
			r = ext4_reader_read(d->base, &y, at, d->b, k, err);
		if (r >= 0 && memcmp(d->a, d->b, k) != 0)
			return 0;
		at += k;
	}
	return r < 0 ? r : 1;
}

static int same_target(struct diff *d, const struct ext4_node *n, const struct ext4_node *b, struct error *err)
{
	_cleanup_free_ char *x = NULL, *y = NULL;
	int r = ext4_reader_link(d->ours, n, &x, err);

	if (r >= 0)
		r = ext4_reader_link(d->base, b, &y, err);
	return r < 0 ? r : streq(x, y);
}

/* Everything that a layer can say about an entry but its names. Returns 1, 0 or <0. */
static int same(struct diff *d, const struct ext4_node *n, const struct ext4_node *b, struct error *err)
{
	int r;

	if (n->mode != b->mode || n->uid != b->uid || n->gid != b->gid || n->rdev_major != b->rdev_major ||
	    n->rdev_minor != b->rdev_minor)
		return 0;
	/* A directory's time and size follow from what is in it, which is told, or was not worth telling. */
	if (!S_ISDIR(n->mode) && (n->size != b->size || n->mtime_ns != b->mtime_ns))
		return 0;
	if (same_inode_bytes(n, b)) {
		r = same_blocks(d, n, err);
		if (r != 0)
			return r;
	}
	r = same_xattrs(d, n, b, err);
	if (r > 0 && S_ISREG(n->mode))
		r = same_content(d, n, b, err);
	else if (r > 0 && S_ISLNK(n->mode))
		r = same_target(d, n, b, err);
	return r;
}

/* ---- Telling ---- */

static int tell_content(struct diff *d, const struct ext4_runs *runs, const struct fs_segment *segments, size_t n,
			struct error *err)
{
	for (size_t i = 0; i < n; i++)
		for (uint64_t done = 0; done < segments[i].n;) {
			uint64_t left = segments[i].n - done, at = segments[i].offset + done;
			size_t k = left < PIECE ? (size_t)left : PIECE;
			int r = ext4_reader_read(d->ours, runs, at, d->a, k, err);

			if (r >= 0)
				r = d->req->ops->content(at, d->a, k, d->req->data, err);
			if (r < 0)
				return r;
			done += k;
		}
	return d->req->ops->end(d->req->data, err);
}

static size_t make_segments(struct diff *d, const struct ext4_node *n, const struct ext4_runs *runs,
			    struct fs_segment **ret)
{
	struct fs_segment *s = xnew_n(struct fs_segment, runs->n + 1);
	uint64_t unit = ext4_reader_block_bytes(d->ours);
	size_t k = 0;

	for (size_t i = 0; i < runs->n; i++) {
		uint64_t at = runs->items[i].logical * unit, len = runs->items[i].n * unit;

		if (at >= n->size)
			break;
		if (len > n->size - at)
			len = n->size - at;
		if (k && s[k - 1].offset + s[k - 1].n == at)
			s[k - 1].n += len;
		else
			s[k++] = (struct fs_segment){ .offset = at, .n = len };
	}
	*ret = s;
	return k;
}

static bool is_overlay_whiteout(const struct diff *d, const struct ext4_node *n)
{
	return d->req->overlay && S_ISCHR(n->mode) && n->rdev_major == 0 && n->rdev_minor == 0;
}

/* What an overlay keeps for itself goes. *ret_opaque: nothing of what the directory was above is seen. */
static int take_overlay_xattrs(struct diff *d, const char *path, struct ext4_xattrs *x, bool *ret_opaque,
			       struct error *err)
{
	size_t n = 0;
	bool partial = false;

	for (size_t i = 0; i < x->n; i++) {
		const struct fs_xattr *a = &x->items[i];
		const char *name = after_prefix(a->name, "trusted.overlay.");

		if (!name) {
			x->items[n++] = *a;
			continue;
		}
		*ret_opaque |= streq(name, "opaque") && a->len == 1 && *(const char *)a->value == 'y';
		/* Our guest's mount makes none of these: they would stand for names and content that are elsewhere. */
		partial |= streq(name, "redirect") || streq(name, "metacopy");
		free((void *)(uintptr_t)a->name);
		free((void *)(uintptr_t)a->value);
	}
	x->n = n;
	return partial ? error_set(err, EBADMSG, "%s: '%.512s' is not all in the overlay", d->req->what, path) : 0;
}

static int tell_entry(struct diff *d, const char *path, const struct ext4_node *n, struct error *err)
{
	_cleanup_(ext4_xattrs_done) struct ext4_xattrs xattrs = {};
	_cleanup_(ext4_runs_clear) struct ext4_runs runs = {};
	_cleanup_free_ struct fs_segment *segments = NULL;
	_cleanup_free_ char *target = NULL;
	struct fs_entry e = {
		.path = path,
		.mode = n->mode,
		.uid = n->uid,
		.gid = n->gid,
		.mtime_ns = n->mtime_ns,
		.rdev_major = n->rdev_major,
		.rdev_minor = n->rdev_minor,
	};
	size_t n_segments = 0;
	bool opaque = false;
	int r = ext4_reader_xattrs(d->ours, n, &xattrs, err);

	if (r >= 0 && d->req->overlay)
		r = take_overlay_xattrs(d, path, &xattrs, &opaque, err);
	if (r >= 0 && S_ISLNK(n->mode))
		r = ext4_reader_link(d->ours, n, &target, err);
	if (r >= 0 && S_ISREG(n->mode)) {
		e.size = n->size;
		r = ext4_reader_runs(d->ours, n, &runs, NULL, err);
		if (r >= 0)
			n_segments = make_segments(d, n, &runs, &segments);
	}
	if (r < 0)
		return r;
	e.link = target;
	e.xattrs = xattrs.items;
	e.n_xattrs = xattrs.n;
	r = d->req->ops->entry(&e, segments, n_segments, d->req->data, err);
	if (r >= 0 && S_ISREG(n->mode))
		r = tell_content(d, &runs, segments, n_segments, err);
	if (r >= 0 && S_ISDIR(n->mode) && opaque)
		r = d->req->ops->opaque(path, d->req->data, err);
	return r;
}

/* The directories on the way, those that were not told yet. */
static int tell_way(struct diff *d, struct error *err)
{
	for (size_t i = 0; i < d->depth; i++) {
		struct level *l = &d->levels[i];
		_cleanup_free_ char *path = NULL;
		int r;

		if (l->told)
			continue;
		path = l->path_len ? xstrndup(d->path.p, l->path_len) : xstrdup(".");
		r = tell_entry(d, path, &l->node, err);
		if (r < 0)
			return r;
		l->told = true;
	}
	return 0;
}

static int tell_whiteout(struct diff *d, struct error *err)
{
	int r = tell_way(d, err);

	return r < 0 ? r : d->req->ops->whiteout(d->path.p, d->req->data, err);
}

/* ---- Walking ---- */

static int count_name(struct diff *d, const struct ext4_node *n, uint32_t base, struct error *err)
{
	struct group *g;
	bool fresh;
	int r = group_of(d, n->ino, &g, &fresh, err);

	if (r < 0)
		return r;
	if (fresh)
		g->base = base;
	else if (g->base != base)
		g->base = 0;
	g->n_names++;
	return 0;
}

static int tell_changed(struct diff *d, const struct ext4_node *n, struct error *err)
{
	struct group *g = NULL;
	bool fresh;
	int r = 0;

	if (n->nlink > 1) {
		r = group_of(d, n->ino, &g, &fresh, err);
		if (r >= 0)
			r = tell_way(d, err);
		if (r >= 0 && g->first)
			return d->req->ops->hard_link(d->path.p, g->first, d->req->data, err);
	} else {
		r = tell_way(d, err);
	}
	if (r >= 0)
		r = tell_entry(d, d->path.p, n, err);
	if (r >= 0 && g)
		g->first = xstrdup(d->path.p);
	return r;
}

static bool is_tellable(const struct ext4_node *n)
{
	return S_ISREG(n->mode) || S_ISLNK(n->mode) || S_ISCHR(n->mode) || S_ISBLK(n->mode) || S_ISFIFO(n->mode);
}

/* Anything but a directory. @b: the base's entry of that name, or NULL. */
static int visit_file(struct diff *d, const struct ext4_node *n, const struct ext4_node *b, struct error *err)
{
	bool alike = b && (b->mode & S_IFMT) == (n->mode & S_IFMT);
	struct group *g = NULL;
	int r;

	if (is_overlay_whiteout(d, n))
		return d->telling ? tell_whiteout(d, err) : 0;
	if (S_ISSOCK(n->mode)) /* means nothing without its process, and a layer cannot say it */
		return d->telling && b && !S_ISSOCK(b->mode) ? tell_whiteout(d, err) : 0;
	if (!is_tellable(n))
		return error_set(err, EBADMSG, "%s: damaged file system: '%s' is of no known type", d->req->what,
				 path_of(d));
	if (!d->telling)
		return n->nlink > 1 ? count_name(d, n, alike ? b->ino : 0, err) : 0;
	if (alike && n->nlink > 1) {
		bool fresh;

		r = group_of(d, n->ino, &g, &fresh, err);
		if (r < 0)
			return r;
		alike = !g->first && g->base == b->ino && b->nlink == g->n_names;
	} else if (alike && b->nlink > 1) {
		alike = false;
	}
	if (alike) {
		r = g && g->same ? 1 : same(d, n, b, err);
		if (r > 0 && g)
			g->same = true;
		if (r != 0)
			return r < 0 ? r : 0;
	}
	return tell_changed(d, n, err);
}

static int walk(struct diff *d, const struct ext4_node *n, const struct ext4_node *b, struct error *err);

static bool was_replaced(const struct ext4_node *n, const struct ext4_node *b)
{
	return n->ino != b->ino || n->generation != b->generation || n->crtime_ns != b->crtime_ns;
}

static int base_has_names(struct diff *d, const struct ext4_node *b, struct error *err)
{
	_cleanup_(ext4_names_done) struct ext4_names names = {};
	int r = ext4_reader_list(d->base, b, &names, err);

	return r < 0 ? r : names.n > 0;
}

static int visit_directory(struct diff *d, const struct ext4_node *n, const struct ext4_node *b, struct error *err)
{
	struct level *l;
	bool replaced = b && S_ISDIR(b->mode) && was_replaced(n, b);
	int r = 0;

	if (d->depth == DEPTH_MAX)
		return error_set(err, EBADMSG, "%s: directories are nested deeper than %d", d->req->what, DEPTH_MAX);
	if (d->seen[n->ino / 8] & 1u << (n->ino % 8))
		return error_set(err, EBADMSG, "%s: damaged file system: directory '%s' is met twice", d->req->what,
				 path_of(d));
	d->seen[n->ino / 8] |= (uint8_t)(1u << (n->ino % 8));
	l = &d->levels[d->depth++];
	*l = (struct level){ .node = *n, .path_len = d->path.len, .told = !d->telling };
	if (d->telling) {
		r = b && S_ISDIR(b->mode) && !replaced ? same(d, n, b, err) : 0;
		if (r == 0)
			r = tell_way(d, err);
		if (r >= 0 && replaced) {
			r = base_has_names(d, b, err);
			if (r > 0)
				r = d->req->ops->opaque(path_of(d), d->req->data, err);
		}
	}
	if (r >= 0)
		r = walk(d, n, b && S_ISDIR(b->mode) && !replaced ? b : NULL, err);
	d->depth--;
	return r;
}

static int visit(struct diff *d, uint32_t ino, uint32_t base_ino, struct error *err)
{
	struct ext4_node n, b;
	int r;

	if (d->req->ops->skip && d->req->ops->skip(path_of(d), d->req->data))
		return 0;
	r = ext4_reader_node(d->ours, ino, &n, err);
	if (r >= 0 && base_ino)
		r = ext4_reader_node(d->base, base_ino, &b, err);
	if (r < 0)
		return error_prefix(err, "'%.512s'", path_of(d));
	return S_ISDIR(n.mode) ? visit_directory(d, &n, base_ino ? &b : NULL, err)
			       : visit_file(d, &n, base_ino ? &b : NULL, err);
}

static int visit_removed(struct diff *d, const char *name, struct error *err)
{
	size_t len = d->path.len;
	int r = push_name(d, name, err);

	if (r >= 0 && !(d->req->ops->skip && d->req->ops->skip(d->path.p, d->req->data)))
		r = tell_whiteout(d, err);
	buf_truncate(&d->path, len);
	return r;
}

/* The names of two directories against each other: removed ones first. */
static int walk(struct diff *d, const struct ext4_node *n, const struct ext4_node *b, struct error *err)
{
	_cleanup_(ext4_names_done) struct ext4_names ours = {}, theirs = {};
	size_t len = d->path.len, k = 0;
	int r = ext4_reader_list(d->ours, n, &ours, err);

	if (r >= 0 && b)
		r = ext4_reader_list(d->base, b, &theirs, err);
	if (r < 0)
		return error_prefix(err, "'%.512s'", path_of(d));
	for (size_t i = 0; d->telling && r >= 0 && i < theirs.n; i++) {
		while (k < ours.n && strcmp(ours.items[k].name, theirs.items[i].name) < 0)
			k++;
		if (k == ours.n || !streq(ours.items[k].name, theirs.items[i].name))
			r = visit_removed(d, theirs.items[i].name, err);
	}
	k = 0;
	for (size_t i = 0; r >= 0 && i < ours.n; i++) {
		while (k < theirs.n && strcmp(theirs.items[k].name, ours.items[i].name) < 0)
			k++;
		r = push_name(d, ours.items[i].name, err);
		if (r >= 0)
			r = visit(d, ours.items[i].ino,
				  k < theirs.n && streq(theirs.items[k].name, ours.items[i].name) ? theirs.items[k].ino
												  : 0,
				  err);
		buf_truncate(&d->path, len);
	}
	return r;
}

/* The directory that has the changes. Returns 0 when there is none: nobody has ever written to it. */
static int find_upper(struct diff *d, struct ext4_node *n, struct error *err)
{
	_cleanup_(ext4_names_done) struct ext4_names names = {};
	int r = ext4_reader_list(d->ours, n, &names, err);

	for (size_t i = 0; r >= 0 && i < names.n; i++)
		if (streq(names.items[i].name, "upper")) {
			r = ext4_reader_node(d->ours, names.items[i].ino, n, err);
			if (r >= 0 && !S_ISDIR(n->mode))
				r = error_set(err, EBADMSG, "%s: 'upper' on its disk is no directory", d->req->what);
			return r < 0 ? r : 1;
		}
	return r < 0 ? r : 0;
}

static int pass(struct diff *d, bool telling, struct error *err)
{
	struct ext4_node n, b;
	int r;

	d->telling = telling;
	memset(d->seen, 0, ext4_reader_inodes(d->ours) / 8 + 1);
	r = ext4_reader_node(d->ours, EXT2_ROOT_INO, &n, err);
	if (r >= 0 && d->base)
		r = ext4_reader_node(d->base, EXT2_ROOT_INO, &b, err);
	if (r < 0)
		return r;
	if (!S_ISDIR(n.mode) || (d->base && !S_ISDIR(b.mode)))
		return error_set(err, EBADMSG, "%s: damaged file system: its root is no directory", d->req->what);
	if (d->req->overlay) {
		r = find_upper(d, &n, err);
		if (r <= 0)
			return r;
	}
	return visit_directory(d, &n, d->base ? &b : NULL, err);
}

static void diff_done(struct diff *d)
{
	for (size_t i = 0; i < d->n_slots; i++)
		free(d->groups[i].first);
	free(d->groups);
	free(d->seen);
	free(d->levels);
	free(d->a);
	free(d->b);
	buf_done(&d->path);
	ext4_reader_free(d->ours);
	ext4_reader_free(d->base);
}

int ext4_diff(const struct ext4_diff_request *req, bool *ret_clean, struct error *err)
{
	_cleanup_(diff_done) struct diff d = { .req = req };
	_cleanup_free_ char *base_what = xasprintf("the image of %s", req->what);
	int r = ext4_reader_open(req->disk, req->what, &d.ours, err);

	if (r >= 0 && req->base)
		r = ext4_reader_open(req->base, base_what, &d.base, err);
	if (r < 0)
		return r;
	d.seen = xcalloc(1, ext4_reader_inodes(d.ours) / 8 + 1);
	d.levels = xnew_n(struct level, DEPTH_MAX);
	d.a = xcalloc(1, PIECE);
	d.b = xcalloc(1, PIECE);
	if (ret_clean)
		*ret_clean = ext4_reader_is_clean(d.ours);
	r = req->base ? pass(&d, false, err) : 0;
	return r < 0 ? r : pass(&d, true, err);
}
