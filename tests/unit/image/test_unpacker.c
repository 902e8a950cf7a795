#include "image/unpacker.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "test.h"

struct pieces {
	const char *p;
	size_t left, piece;
};

static int next_piece(void *data, const void **ret, size_t *ret_n, struct error *err)
{
	struct pieces *s = data;

	(void)err;
	*ret = s->p;
	*ret_n = s->left < s->piece ? s->left : s->piece;
	s->p += *ret_n;
	s->left -= *ret_n;
	return 0;
}

static int unpack(const struct buf *packed, size_t piece, size_t step, struct buf *out, struct error *err)
{
	struct pieces s = { packed->p, packed->len, piece };
	_cleanup_(unpacker_freep) struct unpacker *u =
		unpacker_new(packed->p, packed->len < 6 ? packed->len : 6, next_piece, &s);
	size_t n;
	int r;

	do {
		r = unpacker_fill(u, buf_reserve(out, step), step, &n, err);
		if (r < 0)
			return r;
		buf_commit(out, n);
	} while (n);
	return 0;
}

static void pack(const char *program, const struct buf *in, struct buf *out)
{
	const char *argv[] = { program, "-c", NULL };
	struct spawn s = SPAWN_INIT;
	_cleanup_free_ char *found = program_find(program);
	int status;

	if (!found)
		test_skip("no %s", program);
	s.argv = argv;
	ASSERT_OK(spawn_run(&s, in, out, NULL, SIZE_MAX, 0, &status, NULL));
	ASSERT_EQ(status, 0);
}

static const char *const packers[] = { "gzip", "zstd", "xz", "bzip2" };

static void some_text(struct buf *out, size_t n)
{
	uint32_t v = 1;

	while (out->len < n) {
		v = v * 1103515245 + 12345;
		buf_addf(out, "%u %s\n", v >> 16, v & 64 ? "and again" : "text");
	}
}

TEST(what_was_packed_comes_out)
{
	static const size_t pieces[] = { 1 << 20, 1000, 1 }, steps[] = { 256 << 10, 512, 77 };
	_cleanup_buf_ struct buf text = {};

	some_text(&text, 300000);
	for (size_t k = 0; k < ARRAY_SIZE(packers); k++) {
		_cleanup_buf_ struct buf packed = {};

		pack(packers[k], &text, &packed);
		for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
			_cleanup_buf_ struct buf out = {};

			ASSERT_OK(unpack(&packed, pieces[i], steps[i], &out, NULL));
			ASSERT_EQ(out.len, text.len);
			ASSERT_MEMEQ(out.p, text.p, text.len);
		}
	}
}

TEST(what_is_not_packed_stays_as_it_is)
{
	_cleanup_buf_ struct buf text = {}, out = {}, nothing = {}, none = {};

	some_text(&text, 3000);
	ASSERT_OK(unpack(&text, 100, 512, &out, NULL));
	ASSERT_EQ(out.len, text.len);
	ASSERT_OK(unpack(&nothing, 100, 512, &none, NULL));
	ASSERT_EQ(none.len, 0);
}

TEST(nothing_packed_is_nothing)
{
	_cleanup_buf_ struct buf none = {}, packed = {}, out = {};

	pack("gzip", &none, &packed);
	ASSERT_OK(unpack(&packed, 100, 512, &out, NULL));
	ASSERT_EQ(out.len, 0);
}

TEST(several_members_are_one_stream)
{
	for (size_t k = 0; k < ARRAY_SIZE(packers); k++) {
		_cleanup_buf_ struct buf a = {}, b = {}, packed = {}, out = {};

		buf_adds(&a, "first ");
		buf_adds(&b, "second");
		pack(packers[k], &a, &packed);
		pack(packers[k], &b, &packed);
		ASSERT_OK(unpack(&packed, 7, 512, &out, NULL));
		ASSERT_STREQ(out.p, "first second");
	}
}

TEST(zeros_behind_gzip_are_padding_and_nothing_else_is)
{
	_cleanup_buf_ struct buf a = {}, packed = {}, out = {}, more = {};
	_cleanup_error_ struct error e = {};
	char zeros[1000] = {};

	buf_adds(&a, "text");
	pack("gzip", &a, &packed);
	buf_add(&packed, zeros, sizeof(zeros));
	ASSERT_OK(unpack(&packed, 64, 512, &out, NULL));
	ASSERT_STREQ(out.p, "text");
	buf_adds(&packed, "rubbish");
	ASSERT_EQ(unpack(&packed, 64, 512, &more, &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, "behind its end");
	ASSERT_EQ(e.kind, ERROR_DATA);
}

TEST(what_is_meant_to_fill_a_disk_is_refused)
{
	_cleanup_error_ struct error e = {};

	static const uint64_t max[] = { 2000, 2000, 40000, 10000, 2000 };

	for (int i = 0; i < PACKING_MAX; i++) {
		ASSERT_OK(unpacker_check_ratio(i, 1, UINT64_C(1) << 30, NULL));
		ASSERT_OK(unpacker_check_ratio(i, UINT64_C(1) << 20, max[i] << 20, NULL));
		ASSERT_EQ(unpacker_check_ratio(i, UINT64_C(1) << 20, (max[i] + 1) << 20, NULL), -EFBIG);
	}
	ASSERT_EQ(unpacker_check_ratio(PACKING_GZIP, 1, UINT64_C(1) << 40, &e), -EFBIG);
	ASSERT_EQ(e.kind, ERROR_DATA);
}

TEST(a_cut_stream_is_damaged_wherever_it_ends)
{
	_cleanup_buf_ struct buf text = {};

	some_text(&text, 3000);
	for (size_t k = 0; k < ARRAY_SIZE(packers); k++) {
		_cleanup_buf_ struct buf packed = {};

		pack(packers[k], &text, &packed);
		/* A shorter beginning is no packed stream. */
		for (size_t n = 6; n < packed.len; n++) {
			struct buf cut = { .p = packed.p, .len = n };
			_cleanup_error_ struct error e = {};
			_cleanup_buf_ struct buf out = {};
			int r = unpack(&cut, 100, 512, &out, &e);

			if (r >= 0)
				test_fail(__FILE__, __LINE__, "%s: %zu of %zu bytes were enough", packers[k], n,
					  packed.len);
			ASSERT_EQ(r, -EBADMSG);
			ASSERT_CONTAINS(e.msg, "damaged: ");
		}
	}
}

TEST(a_changed_byte_is_found_in_gzip)
{
	_cleanup_buf_ struct buf text = {}, packed = {};
	size_t header = 10;

	some_text(&text, 3000);
	pack("gzip", &text, &packed);
	for (size_t at = header; at < packed.len; at += 7) {
		_cleanup_buf_ struct buf out = {};
		_cleanup_error_ struct error e = {};
		int r;

		packed.p[at] ^= 0x10;
		r = unpack(&packed, 100, 512, &out, &e);
		/* Bits that mean nothing may change; the text may not. */
		if (r >= 0)
			ASSERT(out.len == text.len && memcmp(out.p, text.p, text.len) == 0);
		else
			ASSERT_EQ(e.kind, ERROR_DATA);
		packed.p[at] ^= 0x10;
	}
}
