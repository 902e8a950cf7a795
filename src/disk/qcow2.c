/* qcow2 version 3 (docs/interop/qcow2.txt of QEMU), as little of it as deltas need: an empty image, the header's facts, a larger size.
 *
 * An image made here has 64 KiB clusters: 0 the header, 1 the refcount table, 2 the one refcount block, 3… the L1 table. All but a few
 * bytes of it are holes. Everything in a header that is read is hostile. */
#include "disk/qcow2.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "disk/qcow2_header.h"

enum {
	CLUSTER_BITS = 16,
	CLUSTER = 1 << CLUSTER_BITS,
	BACKING_MAX = 1023,
	EXT_END = 0,
	REFCOUNT_ENTRIES = CLUSTER / 2, /* 16-bit refcounts in one block of ours */
};
#define MAGIC      UINT32_C(0x514649fb)
#define EXT_FORMAT UINT32_C(0xe2792aca)
/* Bits that do not change what is read here: dirty, compression type, extended L2 entries. */
#define INCOMPAT_KNOWN (QCOW2_INCOMPAT_DIRTY | QCOW2_INCOMPAT_COMPRESSION | QCOW2_INCOMPAT_EXTENDED_L2)
#define L1_OFFSET_MASK UINT64_C(0x00fffffffffffe00)
/* QEMU's own limit is an L1 table of 32 MiB; an eighth of it keeps the table within one refcount block. */
#define VIRTUAL_MAX (UINT64_C(1) << 48)

static uint64_t round_up(uint64_t v, uint64_t unit)
{
	return (v + unit - 1) / unit * unit;
}

/* How many L1 entries map @bytes: an L2 table fills one cluster with 8-byte entries. */
static uint64_t l1_entries(uint64_t bytes, unsigned cluster_bits)
{
	unsigned shift = cluster_bits + cluster_bits - 3;

	return (bytes >> shift) + !!(bytes & ((UINT64_C(1) << shift) - 1));
}

static void header_to_be(struct qcow2_header *h)
{
	h->magic = htobe32(h->magic);
	h->version = htobe32(h->version);
	h->backing_offset = htobe64(h->backing_offset);
	h->backing_size = htobe32(h->backing_size);
	h->cluster_bits = htobe32(h->cluster_bits);
	h->size = htobe64(h->size);
	h->crypt_method = htobe32(h->crypt_method);
	h->l1_size = htobe32(h->l1_size);
	h->l1_offset = htobe64(h->l1_offset);
	h->refcount_offset = htobe64(h->refcount_offset);
	h->refcount_clusters = htobe32(h->refcount_clusters);
	h->n_snapshots = htobe32(h->n_snapshots);
	h->snapshots_offset = htobe64(h->snapshots_offset);
	h->incompatible = htobe64(h->incompatible);
	h->compatible = htobe64(h->compatible);
	h->autoclear = htobe64(h->autoclear);
	h->refcount_order = htobe32(h->refcount_order);
	h->header_length = htobe32(h->header_length);
}

static void add_be32(struct buf *b, uint32_t v)
{
	v = htobe32(v);
	buf_add(b, &v, sizeof(v));
}

/* The header cluster: header, extensions, backing name. */
static void render_header(struct qcow2_header *h, const char *backing_path, const char *backing_format, struct buf *out)
{
	struct qcow2_header be;

	buf_add(out, h, sizeof(*h));
	if (backing_path && backing_format) {
		size_t n = strlen(backing_format);

		add_be32(out, EXT_FORMAT);
		add_be32(out, (uint32_t)n);
		buf_adds(out, backing_format);
		while (out->len % 8)
			buf_addc(out, 0);
	}
	add_be32(out, EXT_END);
	add_be32(out, 0);
	if (backing_path) {
		h->backing_offset = out->len;
		h->backing_size = (uint32_t)strlen(backing_path);
		buf_adds(out, backing_path);
	}
	be = *h;
	header_to_be(&be);
	memcpy(out->p, &be, sizeof(be));
}

static int write_new(int fd, const struct buf *header, uint64_t clusters, uint64_t l1_bytes)
{
	uint64_t table = htobe64(2 * CLUSTER);
	_cleanup_buf_ struct buf counts = {};
	int r;

	for (uint64_t i = 0; i < clusters; i++) {
		uint16_t one = htobe16(1);

		buf_add(&counts, &one, sizeof(one));
	}
	r = pwrite_full(fd, header->p, header->len, 0);
	if (r >= 0)
		r = pwrite_full(fd, &table, sizeof(table), CLUSTER);
	if (r >= 0)
		r = pwrite_full(fd, counts.p, counts.len, 2 * CLUSTER);
	if (r >= 0 && ftruncate(fd, (off_t)(3 * CLUSTER + round_up(l1_bytes, CLUSTER))) < 0)
		r = -errno;
	return r;
}

int qcow2_create(int dirfd, const char *name, uint64_t virtual_bytes, const char *backing_path,
		 const char *backing_format, bool durable, struct error *err)
{
	_cleanup_buf_ struct buf header = {};
	_cleanup_close_ int fd = -EBADF;
	uint64_t size, entries, clusters, random;
	struct qcow2_header h = { .magic = MAGIC, .version = 3, .cluster_bits = CLUSTER_BITS, .refcount_order = 4 };
	char tmp[32];
	int r;

	if (virtual_bytes == 0 || virtual_bytes > VIRTUAL_MAX)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "disk '%s': %" PRIu64 " bytes are no size for a disk",
				      name, virtual_bytes);
	if (backing_path && (strlen(backing_path) > BACKING_MAX || !*backing_path))
		return error_set(err, ENAMETOOLONG, "disk '%s': the path of its backing file is empty or too long",
				 name);
	if (backing_format && strlen(backing_format) > 15)
		return error_set(err, EINVAL, "disk '%s': backing format '%s' is unknown", name, backing_format);
	size = round_up(virtual_bytes, CLUSTER);
	entries = l1_entries(size, CLUSTER_BITS);
	clusters = 3 + round_up(entries * 8, CLUSTER) / CLUSTER;
	h.size = size;
	h.l1_size = (uint32_t)entries;
	h.l1_offset = 3 * CLUSTER;
	h.refcount_offset = CLUSTER;
	h.refcount_clusters = 1;
	h.header_length = QCOW2_HEADER_V3;
	render_header(&h, backing_path, backing_format, &header);

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
		return error_set_errno(err, errno, "disk '%s': no random bytes", name);
	(void)snprintf(tmp, sizeof(tmp), ".tmp-%016" PRIx64, random);
	fd = openat(dirfd, tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return error_set_errno(err, errno, "disk '%s': cannot create it", name);
	r = write_new(fd, &header, clusters, entries * 8);
	if (r >= 0 && durable && fsync(fd) < 0)
		r = -errno;
	/* A link, not a rename: it never replaces what is there. */
	if (r >= 0 && linkat(dirfd, tmp, dirfd, name, 0) < 0)
		r = -errno;
	(void)unlinkat(dirfd, tmp, 0);
	if (r >= 0 && durable)
		r = fsync_dir(dirfd);
	if (r < 0)
		return error_set_errno(err, -r, "disk '%s': cannot create it", name);
	return 0;
}

static int bad(struct error *err, const char *what, const char *why)
{
	return error_set(err, EBADMSG, "%s: not a usable qcow2 image: %s", what, why);
}

static int check_header(const struct qcow2_header *h, const char *what, struct error *err)
{
	if (h->cluster_bits < 9 || h->cluster_bits > 21)
		return bad(err, what, "cluster size out of range");
	if (h->size > VIRTUAL_MAX)
		return bad(err, what, "virtual size out of range");
	if (h->crypt_method)
		return bad(err, what, "it is encrypted");
	if (h->incompatible & ~INCOMPAT_KNOWN)
		return bad(err, what, "it is marked corrupt or uses a feature that is not supported");
	if (h->refcount_order > 6)
		return bad(err, what, "refcount width out of range");
	if (h->l1_size < l1_entries(h->size, h->cluster_bits) || h->l1_size > (UINT32_C(32) << 20) / 8)
		return bad(err, what, "the L1 table does not fit the virtual size");
	if ((h->l1_offset | h->refcount_offset) & ((UINT64_C(1) << h->cluster_bits) - 1))
		return bad(err, what, "a table is not aligned");
	if (h->l1_size && !h->l1_offset)
		return bad(err, what, "the L1 table lies on the header");
	if (h->l1_offset > INT64_MAX - (INT64_C(64) << 20) || h->refcount_offset > INT64_MAX - (INT64_C(64) << 20))
		return bad(err, what, "a table lies outside any file");
	if (!h->refcount_offset || !h->refcount_clusters ||
	    h->refcount_clusters > (UINT32_C(8) << 20 >> h->cluster_bits) + 1)
		return bad(err, what, "refcount table out of range");
	return 0;
}

int qcow2_header_read(int fd, const char *what, struct qcow2_header *ret, char page[static QCOW2_HEADER_MAX],
		      size_t *ret_n, struct error *err)
{
	struct qcow2_header h = {};
	size_t n = 0;

	while (n < QCOW2_HEADER_MAX) {
		ssize_t k = pread(fd, page + n, QCOW2_HEADER_MAX - n, (off_t)n);

		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return error_set_errno(err, errno, "%s: cannot read it", what);
		if (k == 0)
			break;
		n += (size_t)k;
	}
	if (n < QCOW2_HEADER_V2)
		return bad(err, what, "it is too short");
	memcpy(&h, page, n < sizeof(h) ? n : sizeof(h));
	header_to_be(&h); /* its own inverse */
	if (h.magic != MAGIC)
		return bad(err, what, "it has no qcow2 signature");
	if (h.version == 2) {
		h.incompatible = h.compatible = h.autoclear = 0;
		h.refcount_order = 4;
		h.header_length = QCOW2_HEADER_V2;
	} else if (h.version != 3) {
		return bad(err, what, "unknown version");
	} else if (n < QCOW2_HEADER_V3 || h.header_length < QCOW2_HEADER_V3 || h.header_length > n ||
		   h.header_length % 8) {
		return bad(err, what, "header length out of range");
	}
	*ret = h;
	*ret_n = n;
	return check_header(&h, what, err);
}

static uint32_t be32_at(const char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return be32toh(v);
}

static bool is_text(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)p[i] < 0x20 || p[i] == 0x7f)
			return false;
	return true;
}

static int read_extensions(const struct qcow2_header *h, const char *page, size_t n, const char *what,
			   struct qcow2_info *i, struct error *err)
{
	size_t end = h->backing_offset ? h->backing_offset : n;
	size_t at = h->header_length;

	while (at + 8 <= end) {
		uint32_t type = be32_at(page + at), len = be32_at(page + at + 4);

		if (type == EXT_END)
			return 0;
		at += 8;
		if (len > end - at)
			return bad(err, what, "a header extension runs over its end");
		if (type == EXT_FORMAT) {
			if (len == 0 || len >= sizeof(i->backing_format) || !is_text(page + at, len))
				return bad(err, what, "the backing format is no name");
			memcpy(i->backing_format, page + at, len);
			i->backing_format[len] = 0;
		}
		at += round_up(len, 8);
	}
	return 0;
}

int qcow2_read_info(int fd, const char *what, struct qcow2_info *ret, struct error *err)
{
	_cleanup_(qcow2_info_done) struct qcow2_info i = {};
	char page[QCOW2_HEADER_MAX];
	struct qcow2_header h;
	size_t n;
	int r;

	r = qcow2_header_read(fd, what, &h, page, &n, err);
	if (r < 0)
		return r;
	if (h.backing_offset) {
		if (h.backing_offset < h.header_length || h.backing_offset > n || h.backing_size == 0 ||
		    h.backing_size > BACKING_MAX || h.backing_size > n - h.backing_offset)
			return bad(err, what, "the backing file's name is out of range");
		if (!is_text(page + h.backing_offset, h.backing_size))
			return bad(err, what, "the backing file's name holds control characters");
	}
	r = read_extensions(&h, page, n, what, &i, err);
	if (r < 0)
		return r;
	if (h.backing_offset)
		i.backing_path = xstrndup(page + h.backing_offset, h.backing_size);
	i.virtual_bytes = h.size;
	*ret = i;
	i = (struct qcow2_info){};
	return 0;
}

void qcow2_info_done(struct qcow2_info *i)
{
	free(i->backing_path);
	*i = (struct qcow2_info){};
}

/* Sets the refcounts of @n clusters from @first on; a refcount block that is missing is made at *end (in clusters), which moves on;
 * with @end NULL it is an error. */
static int set_refcounts(int fd, const struct qcow2_header *h, uint64_t first, uint64_t n, uint16_t value,
			 uint64_t *end)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	uint64_t per_block = cluster / 2;
	uint64_t table_entries = (uint64_t)h->refcount_clusters << (h->cluster_bits - 3);

	for (uint64_t i = first; i < first + n; i++) {
		uint64_t index = i / per_block, block;
		uint16_t be = htobe16(value);
		int r;

		if (index >= table_entries)
			return -EFBIG;
		r = pread_full(fd, &block, sizeof(block), h->refcount_offset + index * 8);
		if (r < 0)
			return r;
		block = be64toh(block) & ~UINT64_C(511);
		if (!block) {
			uint64_t at, table_be;

			if (!end)
				return -EBADMSG;
			at = *end;
			block = at << h->cluster_bits;
			*end = at + 1;
			if (ftruncate(fd, (off_t)(*end << h->cluster_bits)) < 0)
				return -errno;
			table_be = htobe64(block);
			r = pwrite_full(fd, &table_be, sizeof(table_be), h->refcount_offset + index * 8);
			if (r >= 0)
				r = set_refcounts(fd, h, at, 1, 1, end);
			if (r < 0)
				return r;
		} else if (block & (cluster - 1)) {
			return -EBADMSG;
		}
		r = pwrite_full(fd, &be, sizeof(be), block + (i % per_block) * 2);
		if (r < 0)
			return r;
	}
	return 0;
}

/* A larger L1 table at the end of the file. The header still names the old one when this returns. */
static int move_l1(int fd, const struct qcow2_header *h, uint64_t entries, uint64_t *ret_offset)
{
	uint64_t cluster = UINT64_C(1) << h->cluster_bits;
	uint64_t n = round_up(entries * 8, cluster) / cluster, at, end;
	_cleanup_free_ void *table = NULL;
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	at = round_up((uint64_t)st.st_size, cluster) / cluster;
	end = at + n;
	r = try_alloc((size_t)h->l1_size * 8 + 8, 32 << 20, &table);
	if (r < 0)
		return r;
	r = pread_full(fd, table, (size_t)h->l1_size * 8, h->l1_offset);
	if (r < 0)
		return r;
	if (ftruncate(fd, (off_t)(end << h->cluster_bits)) < 0)
		return -errno;
	r = pwrite_full(fd, table, (size_t)h->l1_size * 8, at << h->cluster_bits);
	if (r >= 0)
		r = set_refcounts(fd, h, at, n, 1, &end);
	*ret_offset = at << h->cluster_bits;
	return r;
}

/* The space behind the L1 table in its own clusters becomes part of it: it must read as "nothing mapped". */
static int clear_l1_tail(int fd, const struct qcow2_header *h, uint64_t entries)
{
	static const char zeros[4096];
	uint64_t at = h->l1_offset + (uint64_t)h->l1_size * 8, end = h->l1_offset + entries * 8;

	while (at < end) {
		size_t n = end - at < sizeof(zeros) ? (size_t)(end - at) : sizeof(zeros);
		int r = pwrite_full(fd, zeros, n, at);

		if (r < 0)
			return r;
		at += n;
	}
	return 0;
}

int qcow2_grow(int fd, const char *what, uint64_t virtual_bytes, struct error *err)
{
	uint64_t size, entries, cluster, capacity, old_offset, old_clusters, new_offset = 0;
	char page[QCOW2_HEADER_MAX];
	struct qcow2_header h, be;
	bool moved = false;
	size_t n;
	int r;

	r = qcow2_header_read(fd, what, &h, page, &n, err);
	if (r < 0)
		return r;
	if (virtual_bytes > VIRTUAL_MAX)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "%s: %" PRIu64 " bytes are no size for a disk", what,
				      virtual_bytes);
	cluster = UINT64_C(1) << h.cluster_bits;
	size = round_up(virtual_bytes, CLUSTER);
	if (size < h.size)
		return error_set_kind(err, ERROR_USAGE, EINVAL,
				      "%s: a disk cannot shrink from %" PRIu64 " to %" PRIu64 " bytes", what, h.size,
				      size);
	if (h.version != 3 || h.refcount_order != 4 || h.incompatible & ~QCOW2_INCOMPAT_COMPRESSION || h.autoclear) {
		(void)error_set_kind(err, ERROR_DATA, EOPNOTSUPP,
				     "%s: it is not as it was made here and cannot be grown here", what);
		(void)error_hint(err, "qemu-img resize");
		return -EOPNOTSUPP;
	}
	entries = l1_entries(size, h.cluster_bits);
	if (entries > (UINT32_C(32) << 20) / 8)
		return error_set_kind(err, ERROR_USAGE, EINVAL, "%s: too large for its cluster size", what);
	old_offset = h.l1_offset;
	old_clusters = round_up((uint64_t)h.l1_size * 8, cluster) / cluster;
	capacity = old_clusters * cluster / 8;
	if (entries > capacity) {
		r = move_l1(fd, &h, entries, &new_offset);
		h.l1_offset = new_offset;
		moved = true;
	} else if (entries > h.l1_size) {
		r = clear_l1_tail(fd, &h, entries);
	}
	if (r >= 0 && fdatasync(fd) < 0)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, -r, "%s: cannot grow it", what);
	h.size = size;
	if (entries > h.l1_size)
		h.l1_size = (uint32_t)entries;
	be = h;
	header_to_be(&be);
	/* One write within one sector: the old table or the new one. */
	r = pwrite_full(fd, &be, sizeof(be), 0);
	if (r >= 0 && fdatasync(fd) < 0)
		r = -errno;
	/* Only now is the old table free; a crash before this leaks a cluster, no more. */
	if (r >= 0 && moved)
		r = set_refcounts(fd, &h, old_offset / cluster, old_clusters, 0, NULL);
	if (r < 0)
		return error_set_errno(err, -r, "%s: cannot grow it", what);
	return 0;
}
