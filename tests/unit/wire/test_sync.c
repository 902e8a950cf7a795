#include "wire/sync.h"

#include "test.h"

static const uint8_t token[SYNC_TOKEN_SIZE] = "0123456789abcdef";
static const uint8_t nonce_a[SYNC_NONCE_SIZE] = "AAAAAAAA";
static const uint8_t nonce_b[SYNC_NONCE_SIZE] = "BBBBBBBB";

TEST(search_finds_a_sync_behind_any_rubbish)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct sync_search s = { 0 };
	uint8_t nonce[SYNC_NONCE_SIZE];
	size_t end;

	buf_adds(&b, "half a frame 0123456789abc");
	sync_encode(&b, token, nonce_a);
	buf_adds(&b, "fresh");
	ASSERT_EQ(sync_search(&s, token, (uint8_t *)b.p, b.len, nonce, &end), 1);
	ASSERT_EQ(b.len - end, 5);
	ASSERT_MEMEQ(nonce, nonce_a, sizeof(nonce));
}

/* Every way to cut rubbish + sync + rest into three pieces. */
TEST(search_finds_a_sync_in_pieces)
{
	_cleanup_buf_ struct buf b = { 0 };
	const size_t before = 30, total = before + SYNC_SIZE + 4;

	for (size_t i = 0; i < before; i++)
		buf_addc(&b, '0');
	sync_encode(&b, token, nonce_b);
	buf_adds(&b, "rest");
	for (size_t i = 0; i <= total; i++) {
		for (size_t j = i; j <= total; j++) {
			size_t cuts[] = { 0, i, j, total }, found = 0;
			struct sync_search s = { 0 };

			for (int k = 0; k < 3; k++) {
				uint8_t nonce[SYNC_NONCE_SIZE];
				size_t end;

				if (!sync_search(&s, token, (uint8_t *)b.p + cuts[k], cuts[k + 1] - cuts[k], nonce,
						 &end))
					continue;
				found++;
				ASSERT_EQ(cuts[k] + end, before + SYNC_SIZE);
				ASSERT_MEMEQ(nonce, nonce_b, sizeof(nonce));
			}
			ASSERT_EQ(found, 1);
		}
	}
}

TEST(search_takes_the_last_of_several)
{
	_cleanup_buf_ struct buf b = { 0 };
	struct sync_search s = { 0 };
	uint8_t nonce[SYNC_NONCE_SIZE];
	size_t end;

	sync_encode(&b, token, nonce_a);
	buf_adds(&b, "x");
	sync_encode(&b, token, nonce_b);
	ASSERT_EQ(sync_search(&s, token, (uint8_t *)b.p, b.len, nonce, &end), 1);
	ASSERT_EQ(end, b.len);
	ASSERT_MEMEQ(nonce, nonce_b, sizeof(nonce));
}

TEST(search_finds_nothing_in_near_misses)
{
	struct sync_search s = { 0 };
	uint8_t nonce[SYNC_NONCE_SIZE];
	size_t end;

	for (int i = 0; i < 100; i++)
		ASSERT_EQ(sync_search(&s, token, (const uint8_t *)"0123456789abcdeX", 16, nonce, &end), 0);
	ASSERT_EQ(sync_search(&s, token, (const uint8_t *)"", 0, nonce, &end), 0);
}

TEST(await_drops_everything_before_the_answer)
{
	_cleanup_buf_ struct buf b = { 0 };

	ASSERT_EQ(sync_await(&b, token, nonce_a), 0);
	buf_adds(&b, "left over by another one, quite a lot of it");
	sync_encode(&b, token, nonce_b); /* the answer to somebody else */
	ASSERT_EQ(sync_await(&b, token, nonce_a), 0);
	ASSERT(b.len < SYNC_SIZE);
	sync_encode(&b, token, nonce_a);
	buf_adds(&b, "frame");
	ASSERT_EQ(sync_await(&b, token, nonce_a), 1);
	ASSERT_STREQ(b.p, "frame");
}

TEST(await_takes_single_bytes)
{
	_cleanup_buf_ struct buf all = { 0 }, b = { 0 };

	buf_adds(&all, "0123456789");
	sync_encode(&all, token, nonce_a);
	for (size_t i = 0; i + 1 < all.len; i++) {
		buf_addc(&b, all.p[i]);
		ASSERT_EQ(sync_await(&b, token, nonce_a), 0);
	}
	buf_addc(&b, all.p[all.len - 1]);
	ASSERT_EQ(sync_await(&b, token, nonce_a), 1);
	ASSERT_EQ(b.len, 0);
}
