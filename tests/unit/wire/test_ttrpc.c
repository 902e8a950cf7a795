#include "wire/ttrpc.h"

#include <errno.h>

#include "test.h"

TEST(frame_has_the_layout_of_the_protocol)
{
	_cleanup_buf_ struct buf b = { 0 };

	ASSERT_OK(ttrpc_encode(&b, 0x01020305, TTRPC_DATA, TTRPC_REMOTE_CLOSED | TTRPC_NO_DATA, "xyz", 3));
	ASSERT_EQ(b.len, 13);
	ASSERT_MEMEQ(b.p, "\0\0\0\3\1\2\3\5\3\5xyz", 13);
}

TEST(frame_comes_back_whatever_the_pieces)
{
	_cleanup_buf_ struct buf all = { 0 }, in = { 0 };
	struct ttrpc_frame f;
	size_t used, frames = 0;

	ASSERT_OK(ttrpc_encode(&all, 1, TTRPC_REQUEST, 0, "hello", 5));
	ASSERT_OK(ttrpc_encode(&all, 3, TTRPC_DATA, TTRPC_NO_DATA, NULL, 0));
	for (size_t i = 0; i < all.len; i++) {
		buf_addc(&in, all.p[i]);
		if (ttrpc_decode(&in, &f, &used) == 0)
			continue;
		if (frames++ == 0) {
			ASSERT_EQ(f.stream_id, 1);
			ASSERT_EQ(f.type, TTRPC_REQUEST);
			ASSERT_EQ(f.len, 5);
			ASSERT_MEMEQ(f.data, "hello", 5);
		} else {
			ASSERT_EQ(f.stream_id, 3);
			ASSERT_EQ(f.flags, TTRPC_NO_DATA);
			ASSERT_EQ(f.len, 0);
		}
		buf_consume(&in, used);
	}
	ASSERT_EQ(frames, 2);
	ASSERT_EQ(in.len, 0);
}

TEST(frame_that_is_too_long_is_refused_at_its_header)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct ttrpc_frame f;
	size_t used;

	buf_add(&b, "\0\x40\0\1\0\0\0\1\1\0", 10);
	ASSERT_EQ(ttrpc_decode(&b, &f, &used), -EMSGSIZE);
	ASSERT_EQ(f.stream_id, 1);
	ASSERT_EQ(f.len, TTRPC_DATA_MAX + 1);
	ASSERT(!f.data);
	buf_truncate(&b, 0);
	buf_add(&b, "\0\x40\0\0\0\0\0\1\1\0", 10);
	ASSERT_EQ(ttrpc_decode(&b, &f, &used), 0);
	ASSERT_EQ(ttrpc_encode(&b, 1, TTRPC_DATA, 0, "", TTRPC_DATA_MAX + 1), -EMSGSIZE);
}

TEST(frame_of_unknown_type_or_stream_0_is_refused)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct ttrpc_frame f;
	size_t used;

	buf_add(&b, "\0\0\0\0\0\0\0\0\1\0", 10);
	ASSERT_EQ(ttrpc_decode(&b, &f, &used), -EPROTO);
	b.p[7] = 1;
	b.p[8] = 4;
	ASSERT_EQ(ttrpc_decode(&b, &f, &used), -EPROTO);
	b.p[8] = 0;
	ASSERT_EQ(ttrpc_decode(&b, &f, &used), -EPROTO);
}

TEST(request_survives_the_round_trip)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct ttrpc_request q;
	struct ttrpc_frame f;
	size_t used;

	ASSERT_OK(ttrpc_request_encode(&b, 7, "skerry.agent.v1.Agent", "Exec", "pay\0load", 8, 1500));
	ASSERT_EQ(ttrpc_decode(&b, &f, &used), 1);
	ASSERT_EQ(used, b.len);
	ASSERT_OK(ttrpc_request_decode(&f, &q));
	ASSERT_STREQ(q.service, "skerry.agent.v1.Agent");
	ASSERT_STREQ(q.method, "Exec");
	ASSERT_EQ(q.payload_len, 8);
	ASSERT_MEMEQ(q.payload, "pay\0load", 8);
	ASSERT_EQ(q.timeout_ns, 1500);
	ttrpc_request_done(&q);
	ASSERT(!q.unpacked);
}

TEST(response_survives_the_round_trip)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct ttrpc_response a;
	struct ttrpc_frame f;
	size_t used;

	ASSERT_OK(ttrpc_response_encode(&b, 9, TTRPC_OK, NULL, "data", 4));
	ASSERT_EQ(ttrpc_decode(&b, &f, &used), 1);
	ASSERT_EQ(f.stream_id, 9);
	ASSERT_OK(ttrpc_response_decode(&f, &a));
	ASSERT_EQ(a.code, TTRPC_OK);
	ASSERT_STREQ(a.message, "");
	ASSERT_EQ(a.payload_len, 4);
	ttrpc_response_done(&a);

	buf_truncate(&b, 0);
	ASSERT_OK(ttrpc_response_encode(&b, 9, TTRPC_NOT_FOUND, "no such process", NULL, 0));
	ASSERT_EQ(ttrpc_decode(&b, &f, &used), 1);
	ASSERT_OK(ttrpc_response_decode(&f, &a));
	ASSERT_EQ(a.code, TTRPC_NOT_FOUND);
	ASSERT_STREQ(a.message, "no such process");
	ttrpc_response_done(&a);
}

TEST(envelope_that_does_not_fit_is_refused)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_free_ char *big = calloc(1, TTRPC_DATA_MAX);

	ASSERT_EQ(ttrpc_response_encode(&b, 1, TTRPC_OK, NULL, big, TTRPC_DATA_MAX), -EMSGSIZE);
	ASSERT_EQ(b.len, 0);
	ASSERT_OK(ttrpc_response_encode(&b, 1, TTRPC_OK, NULL, big, TTRPC_DATA_MAX - 16));
}

TEST(envelope_of_garbage_is_refused)
{
	struct ttrpc_frame f = { .stream_id = 1, .type = TTRPC_REQUEST, .data = (const uint8_t *)"\xff", .len = 1 };
	struct ttrpc_request q;
	struct ttrpc_response a;

	ASSERT_EQ(ttrpc_request_decode(&f, &q), -EBADMSG);
	ASSERT_EQ(ttrpc_response_decode(&f, &a), -EBADMSG);
	f.type = TTRPC_RESPONSE;
	ASSERT_EQ(ttrpc_response_decode(&f, &a), -EBADMSG);
	ASSERT_EQ(ttrpc_request_decode(&f, &q), -EBADMSG);
}

TEST(codes_and_errnos_agree)
{
	static const int kept[] = { ECANCELED, EINVAL, ETIMEDOUT, ENOENT, EEXIST, EACCES, ENOSPC, EPIPE,
				    EAGAIN,    ERANGE, ENOSYS,    EPROTO, EIO,    0,      EBUSY,  ECONNREFUSED };

	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		ASSERT_EQ(ttrpc_code_to_errno(ttrpc_code_from_errno(kept[i])), -kept[i]);
		ASSERT_EQ(ttrpc_code_from_errno(-kept[i]), ttrpc_code_from_errno(kept[i]));
	}
	ASSERT_EQ(ttrpc_code_from_errno(ESRCH), TTRPC_NOT_FOUND);
	ASSERT_EQ(ttrpc_code_from_errno(123456), TTRPC_UNKNOWN);
	ASSERT_EQ(ttrpc_code_to_errno(99), -EIO);
	ASSERT_EQ(ttrpc_code_to_errno(-1), -EIO);
}
