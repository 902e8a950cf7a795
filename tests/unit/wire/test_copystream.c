#include "wire/copystream.h"

#include <errno.h>
#include <sys/stat.h>

#include "test.h"

static int round_trip(const struct copystream_record *r, struct copystream_record *ret)
{
	_cleanup_buf_ struct buf b = { 0 };
	const uint8_t *msg;
	size_t len, used;
	int rc = copystream_encode(&b, r);

	if (rc < 0)
		return rc;
	ASSERT_EQ(copystream_next(&b, &msg, &len, &used), 1);
	ASSERT_EQ(used, b.len);
	return copystream_decode(msg, len, ret);
}

TEST(records_survive_the_round_trip)
{
	struct copystream_record e = { .type = COPYSTREAM_ENTRY,
				       .path = "a/b c",
				       .mode = S_IFREG | 0755,
				       .uid = 1,
				       .gid = 2,
				       .size = 3,
				       .mtime_ns = 4,
				       .link = "" },
				 d = { .type = COPYSTREAM_DATA,
				       .offset = 5,
				       .data = (const uint8_t *)"xy",
				       .data_len = 2 },
				 x = { .type = COPYSTREAM_ERROR, .path = "a/d", .num = EACCES },
				 z = { .type = COPYSTREAM_END }, r;

	ASSERT_OK(round_trip(&e, &r));
	ASSERT_EQ(r.type, COPYSTREAM_ENTRY);
	ASSERT_STREQ(r.path, "a/b c");
	ASSERT_EQ(r.mode, S_IFREG | 0755);
	ASSERT_EQ(r.uid, 1);
	ASSERT_EQ(r.gid, 2);
	ASSERT_EQ(r.size, 3);
	ASSERT_EQ(r.mtime_ns, 4);
	copystream_record_done(&r);
	ASSERT_OK(round_trip(&d, &r));
	ASSERT_EQ(r.type, COPYSTREAM_DATA);
	ASSERT_EQ(r.offset, 5);
	ASSERT_EQ(r.data_len, 2);
	ASSERT_MEMEQ(r.data, "xy", 2);
	copystream_record_done(&r);
	ASSERT_OK(round_trip(&x, &r));
	ASSERT_EQ(r.type, COPYSTREAM_ERROR);
	ASSERT_STREQ(r.path, "a/d");
	ASSERT_EQ(r.num, EACCES);
	copystream_record_done(&r);
	ASSERT_OK(round_trip(&z, &r));
	ASSERT_EQ(r.type, COPYSTREAM_END);
	copystream_record_done(&r);
}

TEST(paths_that_leave_the_tree_are_refused)
{
	static const char *const bad[] = { "", "/", "/etc", "a//b", "a/", ".", "..", "a/..", "../a", "a/./b", "./a" };
	char longest[300];
	struct copystream_record r;

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct copystream_record e = { .type = COPYSTREAM_ENTRY, .path = bad[i], .mode = S_IFREG };

		if (round_trip(&e, &r) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "'%s' was taken", bad[i]);
	}
	memset(longest, 'a', sizeof(longest));
	longest[256] = '\0';
	ASSERT_EQ(round_trip(&(struct copystream_record){ .type = COPYSTREAM_ENTRY, .path = longest }, &r), -EBADMSG);
	longest[255] = '\0';
	ASSERT_OK(round_trip(&(struct copystream_record){ .type = COPYSTREAM_ENTRY, .path = longest }, &r));
	copystream_record_done(&r);
	ASSERT_OK(round_trip(&(struct copystream_record){ .type = COPYSTREAM_ENTRY, .path = "..a/...b" }, &r));
	copystream_record_done(&r);
}

TEST(numbers_out_of_range_are_refused)
{
	_cleanup_free_ uint8_t *big = calloc(1, COPYSTREAM_RECORD_MAX);
	struct copystream_record r;

	ASSERT_EQ(round_trip(&(struct copystream_record){ .type = COPYSTREAM_ENTRY, .path = "a", .size = UINT64_MAX },
			     &r),
		  -EBADMSG);
	ASSERT_EQ(round_trip(
			  &(struct copystream_record){
				  .type = COPYSTREAM_DATA, .offset = INT64_MAX, .data = big, .data_len = 1 },
			  &r),
		  -EBADMSG);
	ASSERT_EQ(round_trip(&(struct copystream_record){ .type = COPYSTREAM_DATA,
							  .data = big,
							  .data_len = COPYSTREAM_DATA_MAX + 1 },
			     &r),
		  -EBADMSG);
	ASSERT_EQ(round_trip(&(struct copystream_record){ .type = COPYSTREAM_DATA,
							  .data = big,
							  .data_len = COPYSTREAM_RECORD_MAX },
			     &r),
		  -EMSGSIZE);
	ASSERT_EQ(round_trip(&(struct copystream_record){ .type = COPYSTREAM_ERROR, .path = "a", .num = 0 }, &r),
		  -EBADMSG);
	ASSERT_EQ(round_trip(&(struct copystream_record){ .type = COPYSTREAM_ERROR, .path = "a", .num = -5 }, &r),
		  -EBADMSG);
	ASSERT_EQ(copystream_decode((const uint8_t *)"", 0, &r), -EBADMSG);
}

TEST(record_lengths_are_bounded)
{
	_cleanup_buf_ struct buf b = { 0 };
	const uint8_t *msg;
	size_t len, used;

	ASSERT_EQ(copystream_next(&b, &msg, &len, &used), 0);
	buf_add(&b, "\0\4\0\0", 4);
	ASSERT_EQ(copystream_next(&b, &msg, &len, &used), 0);
	b.p[3] = 1;
	ASSERT_EQ(copystream_next(&b, &msg, &len, &used), -EMSGSIZE);
}
