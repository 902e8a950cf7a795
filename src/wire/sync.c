#include "wire/sync.h"

#include <string.h>

void sync_encode(struct buf *out, const uint8_t token[SYNC_TOKEN_SIZE], const uint8_t nonce[SYNC_NONCE_SIZE])
{
	buf_add(out, token, SYNC_TOKEN_SIZE);
	buf_add(out, nonce, SYNC_NONCE_SIZE);
}

/* The last whole TOKEN NONCE in @p, or NULL. */
static const uint8_t *find_last(const uint8_t *p, size_t n, const uint8_t *token)
{
	const uint8_t *found = NULL;

	while (n >= SYNC_SIZE) {
		/* The nonce must be there as well, so the token cannot begin in the last SYNC_NONCE_SIZE bytes. */
		const uint8_t *at = memmem(p, n - SYNC_NONCE_SIZE, token, SYNC_TOKEN_SIZE);

		if (!at)
			break;
		found = at;
		n -= (size_t)(at - p) + SYNC_SIZE;
		p = at + SYNC_SIZE;
	}
	return found;
}

static void remember(struct sync_search *s, const uint8_t *p, size_t n)
{
	size_t keep;

	if (n >= sizeof(s->tail)) {
		memcpy(s->tail, p + n - sizeof(s->tail), sizeof(s->tail));
		s->tail_len = sizeof(s->tail);
		return;
	}
	keep = sizeof(s->tail) - n;
	if (keep > s->tail_len)
		keep = s->tail_len;
	memmove(s->tail, s->tail + s->tail_len - keep, keep);
	if (n > 0)
		memcpy(s->tail + keep, p, n);
	s->tail_len = keep + n;
}

int sync_search(struct sync_search *s, const uint8_t token[SYNC_TOKEN_SIZE], const uint8_t *p, size_t n,
		uint8_t ret_nonce[SYNC_NONCE_SIZE], size_t *ret_end)
{
	const uint8_t *at = find_last(p, n, token);

	if (at) {
		memcpy(ret_nonce, at + SYNC_TOKEN_SIZE, SYNC_NONCE_SIZE);
		*ret_end = (size_t)(at - p) + SYNC_SIZE;
	} else {
		/* One that began in an earlier piece. */
		uint8_t seam[2 * (SYNC_SIZE - 1)];
		size_t head = n < SYNC_SIZE - 1 ? n : SYNC_SIZE - 1;

		memcpy(seam, s->tail, s->tail_len);
		if (head > 0)
			memcpy(seam + s->tail_len, p, head);
		at = find_last(seam, s->tail_len + head, token);
		if (!at) {
			remember(s, p, n);
			return 0;
		}
		memcpy(ret_nonce, at + SYNC_TOKEN_SIZE, SYNC_NONCE_SIZE);
		*ret_end = (size_t)(at - seam) + SYNC_SIZE - s->tail_len;
	}
	s->tail_len = 0;
	remember(s, p + *ret_end, n - *ret_end);
	return 1;
}

int sync_await(struct buf *in, const uint8_t token[SYNC_TOKEN_SIZE], const uint8_t nonce[SYNC_NONCE_SIZE])
{
	uint8_t want[SYNC_SIZE];
	const char *at;

	memcpy(want, token, SYNC_TOKEN_SIZE);
	memcpy(want + SYNC_TOKEN_SIZE, nonce, SYNC_NONCE_SIZE);
	at = in->len >= SYNC_SIZE ? memmem(in->p, in->len, want, SYNC_SIZE) : NULL;
	if (at) {
		buf_consume(in, (size_t)(at - in->p) + SYNC_SIZE);
		return 1;
	}
	if (in->len >= SYNC_SIZE)
		buf_consume(in, in->len - (SYNC_SIZE - 1));
	return 0;
}
