/* Why not libarchive, which reads everything else: it rewrites names (Unicode normalisation of pax names), ends them at an embedded NUL, and
 * goes on after damaged pax records. A layer would become another tree than the one that its maker's tools see.
 *
 * An entry is: any number of special entries (pax records, long names), a header, content padded to 512 bytes. What the special ones say
 * is collected in struct extended and wins over the header. */
#include "image/tar.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/memory.h"
#include "image/tar_parts.h"

struct tar *tar_new(tar_read_fn fn, void *data)
{
	struct tar *t = xnew(struct tar);

	t->read = fn;
	t->data = data;
	return t;
}

struct tar *tar_free(struct tar *t)
{
	if (!t)
		return NULL;
	tar_extended_done(&t->extended);
	tar_map_done(&t->map);
	free(t->path);
	free(t->hard_link);
	free(t->link);
	free(t);
	return NULL;
}

int tar_bad(const struct tar *t, struct error *err, const char *why)
{
	if (t->path)
		return error_set(err, EBADMSG, "'%.200s': %s", t->path, why);
	return error_set(err, EBADMSG, "entry %" PRIu64 ": %s", t->n_entries + 1, why);
}

/* Makes sure that something is there; returns 0 at the stream's end. */
static int fill(struct tar *t, struct error *err)
{
	while (!t->left && !t->ended) {
		const void *p;
		int r = t->read(t->data, &p, &t->left, err);

		if (r < 0) {
			t->left = 0;
			return r;
		}
		t->at = p;
		t->ended = t->left == 0;
	}
	return t->left > 0;
}

/* Up to @max bytes, as many as lie together. Returns 1, or 0 at the end. */
static int take_some(struct tar *t, uint64_t max, const uint8_t **ret, size_t *ret_n, struct error *err)
{
	int r = fill(t, err);

	if (r <= 0)
		return r;
	*ret = t->at;
	*ret_n = t->left < max ? t->left : (size_t)max;
	t->at += *ret_n;
	t->left -= *ret_n;
	return 1;
}

/* One block, wherever the pieces end. Returns 1, or 0 when the stream ends before it. */
int tar_take_block(struct tar *t, const uint8_t **ret, struct error *err)
{
	size_t n, have;
	int r;

	r = take_some(t, TAR_BLOCK, ret, &n, err);
	if (r <= 0 || n == TAR_BLOCK)
		return r;
	memcpy(t->block, *ret, n);
	for (have = n; have < TAR_BLOCK; have += n) {
		r = take_some(t, TAR_BLOCK - have, ret, &n, err);
		if (r < 0)
			return r;
		if (r == 0)
			return tar_bad(t, err, "the archive ends in the middle of it");
		memcpy(t->block + have, *ret, n);
	}
	*ret = t->block;
	return 1;
}

static int skip(struct tar *t, uint64_t n, struct error *err)
{
	while (n) {
		const uint8_t *p;
		size_t k;
		int r = take_some(t, n, &p, &k, err);

		if (r < 0)
			return r;
		if (r == 0)
			return tar_bad(t, err, "the archive ends in the middle of it");
		n -= k;
	}
	return 0;
}

/* The content of a special entry, with its padding. */
static int read_special(struct tar *t, uint64_t size, struct buf *out, struct error *err)
{
	if (size > TAR_SPECIAL_MAX)
		return tar_bad(t, err, "an extended header is larger than 1 MiB");
	for (uint64_t left = size; left;) {
		const uint8_t *p;
		size_t n;
		int r = take_some(t, left, &p, &n, err);

		if (r < 0)
			return r;
		if (r == 0)
			return tar_bad(t, err, "the archive ends in the middle of it");
		buf_add(out, p, n);
		left -= n;
	}
	return skip(t, tar_padding(size), err);
}

static bool is_zeros(const uint8_t *p)
{
	return p[0] == 0 && memcmp(p, p + 1, TAR_BLOCK - 1) == 0;
}

/* The sum is over the header with blanks in its own field; some writers took the bytes for signed. */
static bool checksum_is_right(const struct tar_header *h)
{
	const uint8_t *p = (const uint8_t *)h;
	int64_t expected, sum = 0, signed_sum = 0;

	if (!tar_number(h->checksum, sizeof(h->checksum), &expected))
		return false;
	for (size_t i = 0; i < TAR_BLOCK; i++) {
		bool own = i >= offsetof(struct tar_header, checksum) &&
			   i < offsetof(struct tar_header, checksum) + sizeof(h->checksum);

		sum += own ? ' ' : p[i];
		signed_sum += own ? ' ' : (int8_t)p[i];
	}
	return sum == expected || signed_sum == expected;
}

/* A header that is none of the end's zeros. Returns 1, or 0 at the end. */
static int read_header(struct tar *t, struct tar_header *ret, struct error *err)
{
	const uint8_t *p;
	int r = tar_take_block(t, &p, err);

	if (r <= 0)
		return r;
	if (is_zeros(p)) {
		/* Two of them are the end; one that the stream ends after is taken for it as well. */
		r = tar_take_block(t, &p, err);
		if (r <= 0)
			return r;
		return is_zeros(p) ? 0 : tar_bad(t, err, "a block of zeros in the middle of the archive");
	}
	memcpy(ret, p, TAR_BLOCK);
	return checksum_is_right(ret) ? 1 : tar_bad(t, err, "its header is damaged");
}

/* "./usr//lib/" becomes "usr/lib", "/" becomes "."; NULL for a name that leads out. An absolute one is meant from the root of the image, as
 * every tool that applies layers takes it. */
static char *normalise(const char *name, size_t len)
{
	_cleanup_buf_ struct buf out = {};

	for (size_t at = 0, n; at < len; at += n + 1) {
		const char *p = name + at, *slash = memchr(p, '/', len - at);

		n = slash ? (size_t)(slash - p) : len - at;
		if (n == 2 && memcmp(p, "..", 2) == 0)
			return NULL;
		if (n == 0 || (n == 1 && *p == '.'))
			continue;
		if (out.len)
			buf_addc(&out, '/');
		buf_add(&out, p, n);
	}
	return out.len ? buf_take(&out) : xstrdup(".");
}

static size_t field_len(const char *p, size_t max)
{
	return strnlen(p, max);
}

/* The header's own name: prefix and name in ustar. */
static void header_name(const struct tar_header *h, struct buf *out)
{
	size_t n = field_len(h->prefix, sizeof(h->prefix));

	if (tar_is_ustar(h) && n) {
		buf_add(out, h->prefix, n);
		buf_addc(out, '/');
	}
	buf_add(out, h->name, field_len(h->name, sizeof(h->name)));
}

static int set_path(struct tar *t, const struct tar_header *h, bool *ret_slash, struct error *err)
{
	const struct tar_text *x = t->map.name.set ? &t->map.name : &t->extended.path;
	_cleanup_buf_ struct buf name = {};

	if (x->set)
		buf_add(&name, x->p, x->len);
	else
		header_name(h, &name);
	*ret_slash = name.len && name.p[name.len - 1] == '/';
	if (!name.len)
		return tar_bad(t, err, "it has no name");
	t->path = normalise(name.p, name.len);
	if (!t->path)
		return error_set(err, EBADMSG, "'%.200s': no name below the root", name.p);
	return 0;
}

static int header_number(struct tar *t, const char *field, size_t len, const char *what, uint64_t max, uint64_t *ret,
			 struct error *err)
{
	int64_t v;

	if (tar_number(field, len, &v) && v >= 0 && (uint64_t)v <= max) {
		*ret = (uint64_t)v;
		return 0;
	}
	return error_set(err, EBADMSG, "'%.200s': %s: no number that it could have", t->path, what);
}

#define NUMBER(t, h, field, max, ret, err) header_number(t, (h)->field, sizeof((h)->field), #field, max, ret, err)

static int set_numbers(struct tar *t, const struct tar_header *h, struct error *err)
{
	struct fs_entry *e = &t->item.entry;
	uint64_t mode = 0, uid = t->extended.uid, gid = t->extended.gid, major = 0, minor = 0;
	int64_t mtime = 0;
	int r;

	r = NUMBER(t, h, mode, INT64_MAX, &mode, err);
	if (r >= 0 && !t->extended.has_uid)
		r = NUMBER(t, h, uid, UINT32_MAX, &uid, err);
	if (r >= 0 && !t->extended.has_gid)
		r = NUMBER(t, h, gid, UINT32_MAX, &gid, err);
	if (r >= 0 && (h->type == '3' || h->type == '4')) {
		r = NUMBER(t, h, devmajor, UINT32_MAX, &major, err);
		if (r >= 0)
			r = NUMBER(t, h, devminor, UINT32_MAX, &minor, err);
	}
	if (r < 0)
		return r;
	e->mode = (mode_t)(mode & 07777);
	e->uid = (uint32_t)uid;
	e->gid = (uint32_t)gid;
	e->rdev_major = (uint32_t)major;
	e->rdev_minor = (uint32_t)minor;
	if (t->extended.has_mtime) {
		e->mtime_ns = t->extended.mtime_ns;
	} else {
		if (!tar_number(h->mtime, sizeof(h->mtime), &mtime))
			return error_set(err, EBADMSG, "'%.200s': mtime: no number", t->path);
		e->mtime_ns = tar_time_ns(mtime, 0);
	}
	return 0;
}

static int set_type(struct tar *t, const struct tar_header *h, bool slash, struct error *err)
{
	mode_t type;

	switch (h->type) {
	case '\0': type = slash ? S_IFDIR : S_IFREG; break; /* before POSIX, a name told a directory */
	case '0':
	case '1':
	case '7':
	case 'S': type = S_IFREG; break;
	case '2': type = S_IFLNK; break;
	case '3': type = S_IFCHR; break;
	case '4': type = S_IFBLK; break;
	case '5':
	case 'D': type = S_IFDIR; break;
	case '6': type = S_IFIFO; break;
	default: return tar_bad(t, err, "an unknown type of entry");
	}
	t->item.entry.mode |= type;
	return 0;
}

/* Link targets of both kinds. */
static int set_target(struct tar *t, const struct tar_header *h, struct error *err)
{
	const char *p = h->linkname;
	size_t n = field_len(h->linkname, sizeof(h->linkname));

	if (h->type != '1' && h->type != '2')
		return 0;
	if (t->extended.link.set) {
		p = t->extended.link.p;
		n = t->extended.link.len;
	}
	if (!n)
		return tar_bad(t, err, "a link to nothing");
	if (h->type == '2') {
		t->item.entry.link = t->link = xstrndup(p, n);
		return 0;
	}
	t->item.hard_link = t->hard_link = normalise(p, n);
	if (!t->hard_link)
		return tar_bad(t, err, "a hard link to a name that is not below the root");
	return 0;
}

/* How many bytes follow: none for what has no content, whatever its header says. */
static int set_size(struct tar *t, const struct tar_header *h, struct error *err)
{
	uint64_t size = t->extended.size;
	int r;

	if (!t->extended.has_size) {
		r = NUMBER(t, h, size, INT64_MAX, &size, err);
		if (r < 0)
			return r;
	}
	/* Directories of GNU's incremental archives carry a list of names. */
	if (h->type != '\0' && !strchr("07SD", h->type))
		size = 0;
	t->content_left = size;
	t->padding = tar_padding(size);
	if (h->type == 'S')
		r = tar_map_from_header(t, h, err);
	else
		r = tar_map_prepare(t, err);
	if (r < 0)
		return r;
	t->item.stored = t->content_left;
	t->item.entry.size = S_ISREG(t->item.entry.mode) ? t->content_left : 0;
	if (!t->map.is_sparse)
		return 0;
	if (!S_ISREG(t->item.entry.mode))
		return tar_bad(t, err, "holes in what is no file");
	t->item.entry.size = t->map.real_size;
	return tar_map_check(t, err);
}

/* Returns 1 when the header was that of an entry, 0 when it only tells something about the next one. */
static int apply_special(struct tar *t, const struct tar_header *h, struct error *err)
{
	_cleanup_buf_ struct buf text = {};
	int64_t size;
	int r;

	if (!strchr("xXgLKV", h->type) || h->type == '\0')
		return 1;
	if (!tar_number(h->size, sizeof(h->size), &size) || size < 0)
		return tar_bad(t, err, "size: no number that it could have");
	/* A volume's label tells nothing; defaults for all entries are ignored as by every tool that applies layers. */
	r = read_special(t, (uint64_t)size, &text, err);
	if (r < 0)
		return r;
	switch (h->type) {
	case 'x':
	case 'X': return tar_extended_parse(t, text.p, text.len, err);
	case 'L': return tar_text_set(t, &t->extended.path, text.p, strnlen(text.len ? text.p : "", text.len), err);
	case 'K': return tar_text_set(t, &t->extended.link, text.p, strnlen(text.len ? text.p : "", text.len), err);
	default: return 0;
	}
}

static void forget_entry(struct tar *t)
{
	tar_extended_done(&t->extended);
	tar_map_done(&t->map);
	free(t->path);
	free(t->hard_link);
	free(t->link);
	t->path = t->hard_link = t->link = NULL;
	t->item = (struct tar_item){};
}

int tar_next(struct tar *t, const struct tar_item **ret, struct error *err)
{
	struct tar_header h;
	bool slash, begun = false;
	int r;

	r = skip(t, t->content_left, err);
	if (r >= 0)
		r = skip(t, t->padding, err);
	t->content_left = t->padding = 0;
	if (r < 0)
		return r;
	forget_entry(t);
	do {
		r = read_header(t, &h, err);
		if (r == 0 && begun)
			return tar_bad(t, err, "the archive ends in the middle of it");
		if (r <= 0)
			return r;
		begun = true;
		r = apply_special(t, &h, err);
	} while (r == 0);
	if (r >= 0)
		r = set_path(t, &h, &slash, err);
	if (r >= 0)
		r = set_numbers(t, &h, err);
	if (r >= 0)
		r = set_type(t, &h, slash, err);
	if (r >= 0)
		r = set_target(t, &h, err);
	if (r >= 0)
		r = tar_acl_apply(t, err);
	if (r >= 0)
		r = set_size(t, &h, err);
	if (r < 0)
		return r;
	t->n_entries++;
	t->item.entry.path = t->path;
	t->item.entry.xattrs = t->extended.xattrs;
	t->item.entry.n_xattrs = t->extended.n_xattrs;
	*ret = &t->item;
	return 1;
}

int tar_content(struct tar *t, uint64_t *ret_offset, const void **ret, size_t *ret_n, struct error *err)
{
	uint64_t max = t->content_left;
	const uint8_t *p;
	int r;

	if (!S_ISREG(t->item.entry.mode) || !max)
		return 0;
	if (t->map.is_sparse) {
		const struct tar_piece *piece;

		while (t->map.at < t->map.n && t->map.done == t->map.items[t->map.at].size) {
			t->map.at++;
			t->map.done = 0;
		}
		if (t->map.at == t->map.n)
			return 0;
		piece = &t->map.items[t->map.at];
		*ret_offset = piece->offset + t->map.done;
		if (max > piece->size - t->map.done)
			max = piece->size - t->map.done;
	} else {
		*ret_offset = t->item.entry.size - t->content_left;
	}
	r = take_some(t, max, &p, ret_n, err);
	if (r < 0)
		return r;
	if (r == 0)
		return tar_bad(t, err, "the archive ends in the middle of it");
	*ret = p;
	t->content_left -= *ret_n;
	t->map.done += *ret_n;
	return 1;
}
