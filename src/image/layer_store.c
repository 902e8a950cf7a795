#include "image/layer_store.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <inttypes.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "base/fault.h"
#include "base/memory.h"
#include "base/progress.h"
#include "image/blob.h"

enum { PIECE = 256 << 10, END_BYTES = 1024 };

static const struct {
	const char *name, *media_type;
} kinds[] = {
	[LAYER_GZIP] = { "gzip", OCI_LAYER_GZIP_TYPE },
	[LAYER_ZSTD] = { "zstd", OCI_LAYER_ZSTD_TYPE },
	[LAYER_PLAIN] = { "none", OCI_LAYER_TAR_TYPE },
};

int layer_compression_parse(const char *s, enum layer_compression *ret, struct error *err)
{
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (streq(s, kinds[i].name)) {
			*ret = (enum layer_compression)i;
			return 0;
		}
	(void)error_set_kind(err, ERROR_USAGE, EINVAL, "there is no compression '%.40s'", s);
	return error_hint(err, "gzip, zstd or none");
}

struct storing {
	struct blob_writer *blob; /* owned */
	struct archive *packer;   /* owned: compresses only */
	EVP_MD_CTX *md;           /* owned: over the stream */
	struct error trouble;     /* of the blob, which libarchive knows only the fact of */
};

static void storing_done(struct storing *s)
{
	if (s->packer)
		(void)archive_write_free(s->packer);
	blob_writer_free(s->blob);
	EVP_MD_CTX_free(s->md);
	error_done(&s->trouble);
}

static la_ssize_t on_packed(struct archive *a, void *data, const void *p, size_t n)
{
	struct storing *s = data;

	(void)a;
	if (blob_writer_write(s->blob, p, n, s->trouble.num ? NULL : &s->trouble) < 0)
		return -1;
	return (la_ssize_t)n;
}

static int packer_failed(struct storing *s, struct error *err)
{
	if (s->trouble.num)
		return error_move(err, &s->trouble);
	return error_set(err, EIO, "cannot compress a layer: %s", archive_error_string(s->packer));
}

static int open_packer(struct storing *s, enum layer_compression c, struct error *err)
{
	struct archive_entry *e = archive_entry_new();
	struct archive *a = s->packer = archive_write_new();
	int r = a && archive_write_set_format_raw(a) == ARCHIVE_OK ? ARCHIVE_OK : ARCHIVE_FATAL;

	if (r == ARCHIVE_OK && c == LAYER_GZIP)
		r = archive_write_add_filter_gzip(a);
	else if (r == ARCHIVE_OK && c == LAYER_ZSTD)
		r = archive_write_add_filter_zstd(a);
	/* The time of compressing says nothing. */
	if (r == ARCHIVE_OK && c == LAYER_GZIP)
		r = archive_write_set_filter_option(a, "gzip", "timestamp", NULL);
	if (r == ARCHIVE_OK)
		r = archive_write_set_bytes_in_last_block(a, 1);
	if (r == ARCHIVE_OK)
		r = archive_write_open(a, s, NULL, on_packed, NULL);
	if (r == ARCHIVE_OK) {
		archive_entry_set_filetype(e, AE_IFREG);
		archive_entry_set_pathname(e, "layer");
		r = archive_write_header(a, e);
	}
	archive_entry_free(e);
	return r == ARCHIVE_OK ? 0 : packer_failed(s, err);
}

static int begin(const struct store *store, struct storing *s, enum layer_compression c, struct error *err)
{
	int r;

	s->md = EVP_MD_CTX_new();
	if (!s->md || EVP_DigestInit_ex(s->md, EVP_sha256(), NULL) != 1)
		abort(); /* SHA-256 exists in every libcrypto: memory is out */
	r = blob_writer_open(store, NULL, UINT64_MAX, &s->blob, err);
	return r < 0 ? r : open_packer(s, c, err);
}

static char *digest_text(EVP_MD_CTX *md)
{
	struct buf out = {};
	uint8_t sum[32];

	if (EVP_DigestFinal_ex(md, sum, NULL) != 1)
		abort();
	buf_adds(&out, "sha256:");
	for (size_t i = 0; i < sizeof(sum); i++)
		buf_addf(&out, "%02x", sum[i]);
	return buf_take(&out);
}

static bool all_zeros(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (p[i])
			return false;
	return true;
}

static int copy(struct storing *s, int fd, uint64_t limit, struct progress *progress, uint64_t *ret_bytes,
		bool *ret_empty, struct error *err)
{
	_cleanup_free_ uint8_t *piece = xcalloc(1, PIECE);

	*ret_bytes = 0;
	*ret_empty = true;
	for (;;) {
		ssize_t n = read(fd, piece, PIECE);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "cannot read a layer");
		if (n == 0)
			return 0;
		if ((uint64_t)n > limit - *ret_bytes)
			return error_set_kind(err, ERROR_DATA, EFBIG,
					      "a layer of more than %" PRIu64 " bytes: more than its disk could hold",
					      limit);
		/* An archive without entries is nothing but the zeros that end it. */
		if (*ret_empty && (*ret_bytes + (uint64_t)n > END_BYTES || !all_zeros(piece, (size_t)n)))
			*ret_empty = false;
		*ret_bytes += (uint64_t)n;
		if (EVP_DigestUpdate(s->md, piece, (size_t)n) != 1)
			abort();
		if (archive_write_data(s->packer, piece, (size_t)n) != n)
			return packer_failed(s, err);
		progress_update(progress, *ret_bytes);
	}
}

int layer_store(const struct store *store, int fd, uint64_t limit, enum layer_compression c,
		int (*whole)(void *data, struct error *err), void *data, struct progress *progress,
		struct oci_descriptor *ret, char **ret_diff_id, struct error *err)
{
	_cleanup_(storing_done) struct storing s = {};
	_cleanup_free_ char *digest = NULL;
	uint64_t bytes;
	bool empty = true;
	int r = begin(store, &s, c, err);

	if (r >= 0)
		r = copy(&s, fd, limit, progress, &bytes, &empty, err);
	if (r >= 0 && whole)
		r = whole(data, err);
	if (r < 0 || empty)
		return r;
	if (archive_write_close(s.packer) != ARCHIVE_OK)
		return packer_failed(&s, err);
	r = fault_point("layer-store");
	if (r < 0)
		return error_set_errno(err, r, "cannot store a layer");
	bytes = blob_writer_offset(s.blob);
	r = blob_writer_finish(s.blob, &digest, err);
	if (r < 0)
		return r;
	*ret = (struct oci_descriptor){ .media_type = xstrdup(kinds[c].media_type),
					.digest = TAKE_PTR(digest),
					.size = bytes };
	*ret_diff_id = digest_text(s.md);
	return 1;
}
