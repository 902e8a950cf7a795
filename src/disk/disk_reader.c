/* How this works: a qcow2 file maps the disk in two steps. The L1 table has one entry for each L2 table, an L2 table (one cluster) one for
 * each cluster of the disk: 0 (the base's), a flag for "reads as zeros", or where the cluster lies in the file. A few L2 tables are kept;
 * file systems are read mostly in order. */
#include "disk/disk_reader.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "disk/qcow2_header.h"

enum { TABLES = 16, COMPARE = 64 << 10 };
#define L1_MAX        ((size_t)32 << 20)
#define OFFSET_MASK   UINT64_C(0x00fffffffffffe00)
#define L1_RESERVED   UINT64_C(0x7f000000000001ff)
#define L2_COMPRESSED (UINT64_C(1) << 62)
#define L2_RESERVED   UINT64_C(0x3f000000000001fe)
#define L2_ZERO       UINT64_C(1)
#define NO_TABLE      UINT64_MAX

struct table {
	uint64_t index;    /* in L1; NO_TABLE = empty */
	uint64_t used;     /* when */
	uint64_t *entries; /* owned; big endian */
};

struct disk_reader {
	int fd; /* borrowed */
	char *what;
	struct disk_reader *base; /* borrowed; NULL = none */
	uint64_t bytes, file_bytes;
	bool qcow2;
	unsigned cluster_bits;
	uint64_t *l1; /* owned; big endian */
	uint64_t n_l1;
	struct table tables[TABLES];
	uint64_t clock;
	uint8_t *ours, *theirs; /* owned; COMPARE bytes each, made at first need */
};

enum source { FROM_BASE, FROM_ZEROS, FROM_FILE };

static int bad(const struct disk_reader *d, const char *why, struct error *err)
{
	return error_set(err, EBADMSG, "%s: damaged: %s", d->what, why);
}

static int new_reader(int fd, const char *what, struct disk_reader **ret, struct error *err)
{
	struct disk_reader *d;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "%s: cannot read it", what);
	d = xnew(struct disk_reader);
	d->fd = fd;
	d->what = xstrdup(what);
	d->file_bytes = (uint64_t)st.st_size;
	for (unsigned i = 0; i < TABLES; i++)
		d->tables[i].index = NO_TABLE;
	*ret = d;
	return 0;
}

int disk_reader_raw(int fd, const char *what, struct disk_reader **ret, struct error *err)
{
	int r = new_reader(fd, what, ret, err);

	if (r >= 0)
		(*ret)->bytes = (*ret)->file_bytes;
	return r;
}

/* What lies past the end of the file reads as zeros: the engine need not have written the rest of the last cluster. */
static int read_file(struct disk_reader *d, uint64_t offset, void *p, size_t n, struct error *err)
{
	uint8_t *to = p;

	while (n) {
		ssize_t k = pread(d->fd, to, n, (off_t)offset);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return error_set_errno(err, errno, "%s: cannot read it", d->what);
		if (k == 0) {
			memset(to, 0, n);
			return 0;
		}
		to += k;
		offset += (uint64_t)k;
		n -= (size_t)k;
	}
	return 0;
}

static int read_l1(struct disk_reader *d, const struct qcow2_header *h, struct error *err)
{
	size_t n = (size_t)h->l1_size * 8;
	void *l1;
	int r;

	if (n > L1_MAX || h->l1_offset > d->file_bytes || n > d->file_bytes - h->l1_offset)
		return bad(d, "the L1 table lies outside the file", err);
	r = try_alloc(n + 8, L1_MAX + 8, &l1);
	if (r < 0)
		return error_set_errno(err, r, "%s: no memory for its L1 table", d->what);
	d->l1 = l1;
	d->n_l1 = h->l1_size;
	return read_file(d, h->l1_offset, l1, n, err);
}

int disk_reader_qcow2(int fd, const char *what, struct disk_reader *base, struct disk_reader **ret, struct error *err)
{
	_cleanup_(disk_reader_freep) struct disk_reader *d = NULL;
	char page[QCOW2_HEADER_MAX];
	struct qcow2_header h;
	size_t n;
	int r;

	r = qcow2_header_read(fd, what, &h, page, &n, err);
	if (r >= 0)
		r = new_reader(fd, what, &d, err);
	if (r < 0)
		return r;
	if (h.incompatible & QCOW2_INCOMPAT_EXTENDED_L2)
		return bad(d, "extended L2 entries, which are not read here", err);
	d->qcow2 = true;
	d->base = base;
	d->bytes = h.size;
	d->cluster_bits = h.cluster_bits;
	r = read_l1(d, &h, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(d);
	return 0;
}

struct disk_reader *disk_reader_free(struct disk_reader *d)
{
	if (!d)
		return NULL;
	for (unsigned i = 0; i < TABLES; i++)
		free(d->tables[i].entries);
	free(d->l1);
	free(d->ours);
	free(d->theirs);
	free(d->what);
	free(d);
	return NULL;
}

uint64_t disk_reader_bytes(const struct disk_reader *d)
{
	return d->bytes;
}

/* The L2 table at @offset of the file, which stands for L1 entry @index. */
static int load_table(struct disk_reader *d, uint64_t index, uint64_t offset, const struct table **ret,
		      struct error *err)
{
	size_t cluster = (size_t)1 << d->cluster_bits;
	struct table *t = d->tables;
	int r;

	for (unsigned i = 0; i < TABLES; i++) {
		if (d->tables[i].index == index) {
			d->tables[i].used = ++d->clock;
			*ret = &d->tables[i];
			return 0;
		}
		if (d->tables[i].used < t->used)
			t = &d->tables[i];
	}
	if (!t->entries)
		t->entries = xcalloc(1, cluster); /* 2 MiB at the most: checked with the header */
	t->index = NO_TABLE;
	r = read_file(d, offset, t->entries, cluster, err);
	if (r < 0)
		return r;
	t->index = index;
	t->used = ++d->clock;
	*ret = t;
	return 0;
}

static bool in_file(const struct disk_reader *d, uint64_t offset)
{
	return offset && !(offset & ((UINT64_C(1) << d->cluster_bits) - 1)) && offset < d->file_bytes;
}

/* Where the cluster of the disk that holds @offset is. @ret_n: how far its answer reaches; @ret_at: where in the file @offset lies. */
static int find(struct disk_reader *d, uint64_t offset, enum source *ret, uint64_t *ret_at, uint64_t *ret_n,
		struct error *err)
{
	uint64_t cluster = UINT64_C(1) << d->cluster_bits, inside = offset & (cluster - 1);
	unsigned l2_bits = d->cluster_bits - 3;
	uint64_t number = offset >> d->cluster_bits, index = number >> l2_bits, entry;
	const struct table *t;
	int r;

	*ret_n = cluster - inside;
	*ret_at = 0;
	if (index >= d->n_l1)
		return bad(d, "the L1 table is too short", err);
	entry = be64toh(d->l1[index]);
	if (entry & L1_RESERVED)
		return bad(d, "an L1 entry has reserved bits", err);
	if (!(entry & OFFSET_MASK)) {
		/* Nothing below it is mapped: the answer holds for all that its table would map. */
		uint64_t span = cluster << l2_bits;

		*ret_n = span - (offset & (span - 1));
		*ret = FROM_BASE;
		return 0;
	}
	if (!in_file(d, entry & OFFSET_MASK))
		return bad(d, "an L2 table lies outside the file or is not aligned", err);
	r = load_table(d, index, entry & OFFSET_MASK, &t, err);
	if (r < 0)
		return r;
	entry = be64toh(t->entries[number & ((UINT64_C(1) << l2_bits) - 1)]);
	if (entry & L2_COMPRESSED)
		return bad(d, "it has compressed clusters, which are not read here", err);
	if (entry & L2_RESERVED)
		return bad(d, "an L2 entry has reserved bits", err);
	if (entry & L2_ZERO) {
		*ret = FROM_ZEROS;
	} else if (!(entry & OFFSET_MASK)) {
		*ret = FROM_BASE;
	} else {
		if (!in_file(d, entry & OFFSET_MASK))
			return bad(d, "a cluster lies outside the file or is not aligned", err);
		*ret = FROM_FILE;
		*ret_at = (entry & OFFSET_MASK) + inside;
	}
	return 0;
}

static int read_base(struct disk_reader *d, uint64_t offset, uint8_t *p, size_t n, struct error *err)
{
	uint64_t end = d->base ? d->base->bytes : 0;
	size_t there = offset >= end ? 0 : n < end - offset ? n : (size_t)(end - offset);

	memset(p + there, 0, n - there);
	return there ? disk_reader_read(d->base, offset, p, there, err) : 0;
}

int disk_reader_read(struct disk_reader *d, uint64_t offset, void *p, size_t n, struct error *err)
{
	uint8_t *to = p;

	if (offset > d->bytes || n > d->bytes - offset)
		return error_set_kind(err, ERROR_DATA, ERANGE, "%s: something is said to lie past its end, at %" PRIu64,
				      d->what, offset);
	if (!d->qcow2)
		return read_file(d, offset, p, n, err);
	while (n) {
		enum source from;
		uint64_t at, reach;
		size_t k;
		int r = find(d, offset, &from, &at, &reach, err);

		if (r < 0)
			return r;
		k = n < reach ? n : (size_t)reach;
		if (from == FROM_FILE)
			r = read_file(d, at, to, k, err);
		else if (from == FROM_BASE)
			r = read_base(d, offset, to, k, err);
		else
			memset(to, 0, k);
		if (r < 0)
			return r;
		to += k;
		offset += k;
		n -= k;
	}
	return 0;
}

int disk_reader_is_base(struct disk_reader *d, uint64_t offset, uint64_t n, uint64_t *ret_n, struct error *err)
{
	uint64_t done = 0;
	bool base = false;

	*ret_n = n;
	if (!d->qcow2 || !d->base)
		return 0;
	while (done < n) {
		enum source from;
		uint64_t at, reach;
		int r = offset + done >= d->bytes
				? error_set_kind(err, ERROR_DATA, ERANGE, "%s: a place past its end", d->what)
				: find(d, offset + done, &from, &at, &reach, err);

		if (r < 0)
			return r;
		if (done == 0)
			base = from == FROM_BASE;
		else if (base != (from == FROM_BASE))
			break;
		done += reach < n - done ? reach : n - done;
	}
	*ret_n = done;
	return base;
}

static int differs_in_piece(struct disk_reader *d, uint64_t offset, size_t n, struct error *err)
{
	int r = disk_reader_read(d, offset, d->ours, n, err);

	if (r >= 0)
		r = read_base(d, offset, d->theirs, n, err);
	return r < 0 ? r : memcmp(d->ours, d->theirs, n) != 0;
}

int disk_reader_differs(struct disk_reader *d, uint64_t offset, uint64_t n, struct error *err)
{
	if (!d->ours) {
		d->ours = xcalloc(1, COMPARE);
		d->theirs = xcalloc(1, COMPARE);
	}
	while (n) {
		uint64_t reach;
		int r = disk_reader_is_base(d, offset, n, &reach, err);

		if (r == 0) {
			reach = reach < COMPARE ? reach : COMPARE;
			r = differs_in_piece(d, offset, (size_t)reach, err);
			if (r > 0)
				return r;
		}
		if (r < 0)
			return r;
		offset += reach;
		n -= reach;
	}
	return 0;
}
