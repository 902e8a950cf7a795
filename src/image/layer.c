#include "image/layer.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "image/blob.h"
#include "image/digest.h"

enum { PIECE = 256 << 10 };
/* What a blob may unpack to: deflate makes at most 1032 bytes of one, and nobody's layer comes near. */
#define FREE_BYTES (UINT64_C(1) << 30)
#define RATIO_MAX  2000

struct layer {
	int fd;                           /* owned */
	uint64_t size;                    /* the blob's */
	uint64_t read;                    /* of the blob */
	uint64_t out;                     /* unpacked */
	uint8_t *piece;                   /* owned; PIECE bytes of the blob */
	struct archive *archive;          /* owned; NULL for a plain tar */
	struct digest *packed, *unpacked; /* owned */
	char *digest, *diff_id;           /* owned */
	int io_error;
};

static bool is_layer_type(const char *type)
{
	static const char *const prefixes[] = { OCI_LAYER_TAR_TYPE, "application/vnd.docker.image.rootfs.diff.tar",
						"application/vnd.docker.image.rootfs.foreign.diff.tar",
						"application/vnd.oci.image.layer.nondistributable.v1.tar" };

	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		const char *rest = after_prefix(type, prefixes[i]);

		if (rest && (!*rest || *rest == '+' || *rest == '.'))
			return true;
	}
	return false;
}

static la_ssize_t read_blob(struct archive *a, void *data, const void **ret)
{
	struct layer *l = data;
	ssize_t n;

	(void)a;
	do
		n = read(l->fd, l->piece, PIECE);
	while (n < 0 && errno == EINTR);
	if (n < 0) {
		l->io_error = errno;
		return -1;
	}
	digest_add(l->packed, l->piece, (size_t)n);
	l->read += (uint64_t)n;
	*ret = l->piece;
	return n;
}

static bool is_packed(const uint8_t *p, size_t n)
{
	static const struct {
		uint8_t magic[6];
		size_t n;
	} kinds[] = {
		{ { 0x1f, 0x8b }, 2 },
		{ { 0x28, 0xb5, 0x2f, 0xfd }, 4 },
		{ { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6 },
		{ { 'B', 'Z', 'h' }, 3 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (n >= kinds[i].n && memcmp(p, kinds[i].magic, kinds[i].n) == 0)
			return true;
	return false;
}

static int damaged(struct layer *l, struct error *err)
{
	const char *why = archive_error_string(l->archive);

	if (l->io_error)
		return error_set_errno(err, l->io_error, "cannot read the blob");
	return error_set(err, EBADMSG, "damaged: %s", why ? why : "it cannot be unpacked");
}

static int open_archive(struct layer *l, struct error *err)
{
	struct archive_entry *e;

	l->archive = archive_read_new();
	if (!l->archive)
		return error_set(err, ENOMEM, "out of memory");
	(void)archive_read_support_filter_gzip(l->archive);
	(void)archive_read_support_filter_zstd(l->archive);
	(void)archive_read_support_filter_xz(l->archive);
	(void)archive_read_support_filter_bzip2(l->archive);
	(void)archive_read_support_format_raw(l->archive);
	(void)archive_read_support_format_empty(l->archive);
	if (archive_read_open(l->archive, l, NULL, read_blob, NULL) != ARCHIVE_OK)
		return damaged(l, err);
	switch (archive_read_next_header(l->archive, &e)) {
	case ARCHIVE_OK:
	case ARCHIVE_EOF: return 0;
	default: return damaged(l, err);
	}
}

int layer_open(const struct store *s, const struct oci_descriptor *d, const char *diff_id, struct layer **ret,
	       struct error *err)
{
	_cleanup_(layer_freep) struct layer *l = NULL;
	uint8_t head[6];
	ssize_t n;
	int r;

	if (!is_layer_type(d->media_type))
		return error_set(err, EBADMSG, "media type '%.100s': no layer's", d->media_type);
	l = xnew(struct layer);
	l->fd = blob_open(s, d->digest, &l->size, err);
	if (l->fd < 0)
		return l->fd;
	if (l->size != d->size)
		return error_set(err, EBADMSG, "it has %" PRIu64 " bytes, not %" PRIu64, l->size, d->size);
	l->digest = xstrdup(d->digest);
	l->diff_id = xstrdup(diff_id);
	l->packed = digest_new();
	l->unpacked = digest_new();
	l->piece = xcalloc(1, PIECE);
	n = pread(l->fd, head, sizeof(head), 0);
	if (n < 0)
		return error_set_errno(err, errno, "cannot read the blob");
	r = is_packed(head, (size_t)n) ? open_archive(l, err) : 0;
	if (r < 0)
		return r;
	*ret = TAKE_PTR(l);
	return 0;
}

static int read_plain(struct layer *l, const void **ret, size_t *ret_n, struct error *err)
{
	la_ssize_t n = read_blob(NULL, l, ret);

	if (n < 0)
		return error_set_errno(err, l->io_error, "cannot read the blob");
	*ret_n = (size_t)n;
	return 0;
}

static int read_packed(struct layer *l, const void **ret, size_t *ret_n, struct error *err)
{
	la_int64_t offset;
	int r = archive_read_data_block(l->archive, ret, ret_n, &offset);

	if (r == ARCHIVE_EOF) {
		*ret_n = 0;
		return 0;
	}
	return r == ARCHIVE_OK ? 0 : damaged(l, err);
}

int layer_read(void *layer, const void **ret, size_t *ret_n, struct error *err)
{
	struct layer *l = layer;
	int r = l->archive ? read_packed(l, ret, ret_n, err) : read_plain(l, ret, ret_n, err);

	if (r < 0)
		return r;
	l->out += *ret_n;
	if (l->out > FREE_BYTES && l->out / RATIO_MAX > l->size)
		return error_set_kind(err, ERROR_DATA, EFBIG, "it unpacks to more than %d times its size", RATIO_MAX);
	digest_add(l->unpacked, *ret, *ret_n);
	return 0;
}

uint64_t layer_progress(const struct layer *l)
{
	return l->read;
}

static int compare(struct digest *d, const char *expected, const char *what, struct error *err)
{
	_cleanup_free_ char *actual = digest_text(d);

	if (streq(actual, expected))
		return 0;
	return error_set(err, EBADMSG, "%s: its digest is %s, not %s", what, actual, expected);
}

int layer_finish(struct layer *l, struct error *err)
{
	const void *p;
	size_t n;
	int r;

	do {
		r = layer_read(l, &p, &n, err);
		if (r < 0)
			return r;
	} while (n);
	/* What the unpacker left unread behind the end. */
	while ((r = (int)read_blob(NULL, l, &p)) > 0)
		;
	if (r < 0)
		return error_set_errno(err, l->io_error, "cannot read the blob");
	r = compare(l->packed, l->digest, "the blob", err);
	return r < 0 ? r : compare(l->unpacked, l->diff_id, "what it unpacks to", err);
}

struct layer *layer_free(struct layer *l)
{
	if (!l)
		return NULL;
	if (l->archive)
		(void)archive_read_free(l->archive);
	digest_free(l->packed);
	digest_free(l->unpacked);
	l->fd = safe_close(l->fd);
	free(l->piece);
	free(l->digest);
	free(l->diff_id);
	free(l);
	return NULL;
}
