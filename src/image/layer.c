/* A thread reads the blob, digests it and unpacks it, some pieces ahead; whoever reads the layer digests what it unpacks to. */
#include "image/layer.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/memory.h"
#include "image/ahead.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/unpacker.h"

enum { PIECE = 256 << 10, HEAD = 6 };

struct layer {
	int fd;                    /* owned */
	uint64_t size;             /* the blob's */
	char *digest, *diff_id;    /* owned */
	struct ahead *ahead;       /* owned */
	struct digest *unpacked;   /* owned; NULL where that is the blob's */
	uint64_t out;              /* unpacked so far */
	_Atomic uint64_t progress; /* of the blob */

	/* The thread's, while there is one. */
	struct unpacker *unpacker; /* owned */
	struct digest *packed;     /* owned; NULL = the blob is known to be what it should be */
	uint8_t *piece;            /* owned; PIECE bytes of the blob */
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

static int read_some(struct layer *l, void *p, size_t max, size_t *ret_n, struct error *err)
{
	ssize_t n;

	do
		n = read(l->fd, p, max);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return error_set_errno(err, errno, "cannot read the blob");
	if (l->packed)
		digest_add(l->packed, p, (size_t)n);
	atomic_fetch_add(&l->progress, (uint64_t)n);
	*ret_n = (size_t)n;
	return 0;
}

static int read_blob(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	struct layer *l = data;

	*ret = l->piece;
	return read_some(l, l->piece, PIECE, ret_n, err);
}

static int fill(void *data, void *p, size_t n, size_t *ret_n, struct error *err)
{
	struct layer *l = data;

	/* What is not packed is read to where it is wanted. */
	if (unpacker_packing(l->unpacker) == PACKING_NONE)
		return read_some(l, p, n, ret_n, err);
	return unpacker_fill(l->unpacker, p, n, ret_n, err);
}

int layer_open(const struct store *s, const struct oci_descriptor *d, const char *diff_id, bool fresh,
	       struct layer **ret, struct error *err)
{
	_cleanup_(layer_freep) struct layer *l = NULL;
	_cleanup_error_ struct error e = {};
	uint8_t head[HEAD];
	ssize_t n;
	int r;

	if (!is_layer_type(d->media_type))
		return error_set(err, EBADMSG, "media type '%.100s': no layer's", d->media_type);
	l = xnew(struct layer);
	l->fd = blob_open(s, d->digest, &l->size, &e);
	if (l->fd == -ENOENT)
		return error_set(err, EBADMSG, "the blob is not there");
	if (l->fd < 0)
		return error_move(err, &e);
	if (l->size != d->size)
		return error_set(err, EBADMSG, "it has %" PRIu64 " bytes, not %" PRIu64, l->size, d->size);
	n = pread(l->fd, head, sizeof(head), 0);
	if (n < 0)
		return error_set_errno(err, errno, "cannot read the blob");
	l->digest = xstrdup(d->digest);
	l->diff_id = xstrdup(diff_id);
	l->piece = xcalloc(1, PIECE);
	if (!fresh)
		l->packed = digest_new();
	l->unpacker = unpacker_new(head, (size_t)n, read_blob, l);
	if (unpacker_packing(l->unpacker) != PACKING_NONE)
		l->unpacked = digest_new();
	r = ahead_start(fill, l, &l->ahead, err);
	if (r < 0)
		return r;
	*ret = TAKE_PTR(l);
	return 0;
}

int layer_read(void *layer, const void **ret, size_t *ret_n, struct error *err)
{
	struct layer *l = layer;
	int r = ahead_read(l->ahead, ret, ret_n, err);

	if (r < 0)
		return r;
	l->out += *ret_n;
	r = unpacker_check_ratio(unpacker_packing(l->unpacker), l->size, l->out, err);
	if (r < 0)
		return r;
	if (l->unpacked && *ret_n)
		digest_add(l->unpacked, *ret, *ret_n);
	return 0;
}

uint64_t layer_progress(const struct layer *l)
{
	return atomic_load(&l->progress);
}

static int check_digest(const char *actual, const char *expected, const char *what, struct error *err)
{
	if (streq(actual, expected))
		return 0;
	return error_set(err, EBADMSG, "%s: its digest is %s, not %s", what, actual, expected);
}

int layer_finish(struct layer *l, struct error *err)
{
	_cleanup_free_ char *packed = NULL, *unpacked = NULL;
	const void *p;
	size_t n;
	int r;

	do {
		r = layer_read(l, &p, &n, err);
		if (r < 0)
			return r;
	} while (n);
	l->ahead = ahead_free(l->ahead);
	/* What the unpacker left unread behind the end. */
	do {
		r = read_blob(l, &p, &n, err);
		if (r < 0)
			return r;
	} while (n);
	packed = l->packed ? digest_text(l->packed) : xstrdup(l->digest);
	unpacked = l->unpacked ? digest_text(l->unpacked) : NULL;
	r = check_digest(packed, l->digest, "the blob", err);
	return r < 0 ? r : check_digest(unpacked ? unpacked : packed, l->diff_id, "what it unpacks to", err);
}

struct layer *layer_free(struct layer *l)
{
	if (!l)
		return NULL;
	/* Before what its thread uses. */
	ahead_free(l->ahead);
	unpacker_free(l->unpacker);
	digest_free(l->packed);
	digest_free(l->unpacked);
	l->fd = safe_close(l->fd);
	free(l->piece);
	free(l->digest);
	free(l->diff_id);
	free(l);
	return NULL;
}
