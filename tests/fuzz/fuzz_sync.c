/* A byte pipe with rubbish on it: however it is cut into pieces, the same sync is found at the same place. The first byte is the size of the
 * pieces. The token is short of variety, so that near misses come easily. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "wire/sync.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t token[SYNC_TOKEN_SIZE] = "aaaaaaaabaaaaaaa";
static const uint8_t nonce[SYNC_NONCE_SIZE] = "aaaaaaab";

static void check(bool ok)
{
	if (!ok)
		abort();
}

/* Where the last sync of the whole ends, 0 = there is none. */
static size_t search_whole(const uint8_t *p, size_t n)
{
	struct sync_search s = { 0 };
	uint8_t got[SYNC_NONCE_SIZE];
	size_t end = 0;

	if (!sync_search(&s, token, p, n, got, &end))
		return 0;
	check(end >= SYNC_SIZE && end <= n && memcmp(p + end - SYNC_SIZE, token, SYNC_TOKEN_SIZE) == 0);
	check(memcmp(p + end - SYNC_NONCE_SIZE, got, SYNC_NONCE_SIZE) == 0);
	return end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_buf_ struct buf host = { 0 };
	struct sync_search s = { 0 };
	size_t step = size ? (size_t)data[0] + 1 : 1, end = 0;
	bool found = false;

	if (size < 1)
		return 0;
	data++;
	size--;
	for (size_t at = 0; at < size; at += step) {
		size_t n = size - at < step ? size - at : step, here;
		uint8_t got[SYNC_NONCE_SIZE];

		if (!sync_search(&s, token, data + at, n, got, &here))
			continue;
		check(here > 0 && here <= n);
		end = at + here;
		check(end >= SYNC_SIZE && memcmp(data + end - SYNC_SIZE, token, SYNC_TOKEN_SIZE) == 0);
		check(memcmp(data + end - SYNC_NONCE_SIZE, got, SYNC_NONCE_SIZE) == 0);
	}
	check((end != 0) == (search_whole(data, size) != 0));
	for (size_t at = 0; at < size && !found; at += step) {
		buf_add(&host, data + at, size - at < step ? size - at : step);
		found = sync_await(&host, token, nonce);
		check(found || host.len < SYNC_SIZE);
	}
	return 0;
}
