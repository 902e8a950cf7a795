/* gzip, which nearly every layer is, goes through ISA-L: half as fast again as zlib. The others go through the archive library. */
#include "image/unpacker.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <isa-l/igzip_lib.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"

#define GZIP_FIRST 0x1f

struct unpacker {
	enum packing packing;
	unpacker_read_fn read;
	void *data;        /* borrowed */
	const uint8_t *at; /* borrowed: what is left of the present piece */
	size_t left;
	bool ended;
	struct inflate_state *inflate; /* owned; of gzip */
	bool in_member;
	struct archive *archive; /* owned; of the others */
	int result;              /* of the last read, for them */
	struct error error;      /* owned; of it */
};

static enum packing packing_of(const uint8_t *p, size_t n)
{
	static const struct {
		uint8_t magic[6];
		size_t n;
		enum packing packing;
	} kinds[] = {
		{ { GZIP_FIRST, 0x8b }, 2, PACKING_GZIP },
		{ { 0x28, 0xb5, 0x2f, 0xfd }, 4, PACKING_ZSTD },
		{ { 0xfd, '7', 'z', 'X', 'Z', 0 }, 6, PACKING_XZ },
		{ { 'B', 'Z', 'h' }, 3, PACKING_BZIP2 },
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		if (n >= kinds[i].n && memcmp(p, kinds[i].magic, kinds[i].n) == 0)
			return kinds[i].packing;
	return PACKING_NONE;
}

struct unpacker *unpacker_new(const void *head, size_t n, unpacker_read_fn read, void *data)
{
	struct unpacker *u = xnew(struct unpacker);

	u->packing = packing_of(head, n);
	u->read = read;
	u->data = data;
	return u;
}

enum packing unpacker_packing(const struct unpacker *u)
{
	return u->packing;
}

/* Makes sure that something is there. Returns 1, or 0 at the end. */
static int more(struct unpacker *u, struct error *err)
{
	while (!u->left && !u->ended) {
		const void *p;
		int r = u->read(u->data, &p, &u->left, err);

		if (r < 0) {
			u->left = 0;
			return r;
		}
		u->at = p;
		u->ended = u->left == 0;
	}
	return u->left > 0;
}

static int fill_plain(struct unpacker *u, uint8_t *p, size_t n, size_t *ret_n, struct error *err)
{
	for (*ret_n = 0; *ret_n < n;) {
		size_t k;
		int r = more(u, err);

		if (r <= 0)
			return r;
		k = u->left < n - *ret_n ? u->left : n - *ret_n;
		memcpy(p + *ret_n, u->at, k);
		u->at += k;
		u->left -= k;
		*ret_n += k;
	}
	return 0;
}

/* Behind a member there is another one, padding of zeros, or nothing. Returns 1 when a member begins. */
static int begin_member(struct unpacker *u, struct error *err)
{
	bool first = !u->inflate;
	int r;

	while ((r = more(u, err)) > 0 && !first && *u->at == 0) {
		u->at++;
		u->left--;
	}
	if (r <= 0)
		return r;
	if (*u->at != GZIP_FIRST)
		return error_set(err, EBADMSG, "damaged: something that is not gzip behind its end");
	if (first)
		u->inflate = xnew(struct inflate_state);
	isal_inflate_init(u->inflate);
	u->inflate->crc_flag = ISAL_GZIP;
	u->in_member = true;
	return 1;
}

static int damaged_gzip(int code, struct error *err)
{
	switch (code) {
	case ISAL_INCORRECT_CHECKSUM: return error_set(err, EBADMSG, "damaged: gzip's checksum is wrong");
	case ISAL_INVALID_WRAPPER:
	case ISAL_UNSUPPORTED_METHOD: return error_set(err, EBADMSG, "damaged: no gzip header");
	default: return error_set(err, EBADMSG, "damaged: its gzip data are invalid");
	}
}

static int fill_gzip(struct unpacker *u, uint8_t *p, size_t n, size_t *ret_n, struct error *err)
{
	struct inflate_state *z;
	int r = 1;

	*ret_n = 0;
	while (*ret_n < n && r > 0) {
		size_t room = n - *ret_n;
		int code;

		r = u->in_member ? 1 : begin_member(u, err);
		if (r <= 0)
			return r;
		r = more(u, err);
		if (r < 0)
			return r;
		/* At the end of input it may still have output of its own to give. */
		z = u->inflate;
		z->next_in = (uint8_t *)(uintptr_t)u->at;
		z->avail_in = (uint32_t)u->left;
		z->next_out = p + *ret_n;
		z->avail_out = (uint32_t)room;
		code = isal_inflate(z);
		if (code != ISAL_DECOMP_OK && code != ISAL_END_INPUT && code != ISAL_OUT_OVERFLOW)
			return damaged_gzip(code, err);
		if (z->block_state == ISAL_BLOCK_FINISH)
			u->in_member = false;
		else if (r == 0 && z->avail_out == room)
			return error_set(err, EBADMSG, "damaged: it ends in the middle of its gzip data");
		u->at = z->next_in;
		u->left = z->avail_in;
		*ret_n += room - z->avail_out;
		r = 1;
	}
	return 0;
}

static la_ssize_t read_for_archive(struct archive *a, void *data, const void **ret)
{
	struct unpacker *u = data;
	int r = more(u, &u->error);
	size_t n = u->left;

	(void)a;
	if (r < 0) {
		u->result = r;
		return -1;
	}
	*ret = u->at;
	u->left = 0;
	return (la_ssize_t)n;
}

static int damaged(struct unpacker *u, struct error *err)
{
	const char *why = archive_error_string(u->archive);

	if (u->result < 0)
		return error_move(err, &u->error);
	return error_set(err, EBADMSG, "damaged: %s", why ? why : "it cannot be unpacked");
}

static int open_archive(struct unpacker *u, struct error *err)
{
	struct archive_entry *e;
	int r;

	u->archive = archive_read_new();
	if (!u->archive)
		return error_set(err, ENOMEM, "out of memory");
	(void)archive_read_support_filter_zstd(u->archive);
	(void)archive_read_support_filter_xz(u->archive);
	(void)archive_read_support_filter_bzip2(u->archive);
	(void)archive_read_support_format_raw(u->archive);
	(void)archive_read_support_format_empty(u->archive);
	if (archive_read_open(u->archive, u, NULL, read_for_archive, NULL) != ARCHIVE_OK)
		return damaged(u, err);
	/* One filter is the one that reads: what looked packed by its first bytes is nothing that the library knows. */
	if (archive_filter_count(u->archive) < 2)
		return damaged(u, err);
	r = archive_read_next_header(u->archive, &e);
	return r == ARCHIVE_OK || r == ARCHIVE_EOF ? 0 : damaged(u, err);
}

static int fill_other(struct unpacker *u, uint8_t *p, size_t n, size_t *ret_n, struct error *err)
{
	la_ssize_t k;
	int r = u->archive ? 0 : open_archive(u, err);

	if (r < 0)
		return r;
	k = archive_read_data(u->archive, p, n);
	if (k < 0)
		return damaged(u, err);
	*ret_n = (size_t)k;
	return 0;
}

int unpacker_fill(struct unpacker *u, void *p, size_t n, size_t *ret_n, struct error *err)
{
	*ret_n = 0;
	if (u->packing == PACKING_NONE)
		return fill_plain(u, p, n, ret_n, err);
	if (u->packing == PACKING_GZIP)
		return fill_gzip(u, p, n, ret_n, err);
	return fill_other(u, p, n, ret_n, err);
}

#define FREE_BYTES (UINT64_C(1) << 30)

int unpacker_check_ratio(enum packing packing, uint64_t packed_bytes, uint64_t bytes, struct error *err)
{
	/* A swap file of written zeros is in many a machine, and its packing says the most that it can: deflate makes at most 1032 bytes of
	 * one, zstd 32768 (a block of 128 KiB in four), xz some 7000. bzip2 would make hundreds of thousands. */
	static const uint32_t max[PACKING_MAX] = { 2000, 2000, 40000, 10000, 2000 };

	if (bytes <= FREE_BYTES || bytes / max[packing] <= packed_bytes)
		return 0;
	return error_set_kind(err, ERROR_DATA, EFBIG, "it unpacks to more than %u times its size", max[packing]);
}

struct unpacker *unpacker_free(struct unpacker *u)
{
	if (!u)
		return NULL;
	if (u->archive)
		(void)archive_read_free(u->archive);
	error_done(&u->error);
	free(u->inflate);
	free(u);
	return NULL;
}
