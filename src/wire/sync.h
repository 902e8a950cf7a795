/* Finding each other on a byte pipe that outlives its users.
 *
 * A virtio-serial port keeps whatever a dead host process left in it, in both directions, possibly half a frame. So whoever connects
 * on the host sends TOKEN NONCE: the machine's 16 random bytes (known from the boot configuration, never on the wire before) and
 * 8 random bytes of its own. The guest looks for TOKEN at any position, drops its protocol state, and answers TOKEN NONCE; the host
 * discards everything up to that answer. From there on both sides speak ttrpc, the host as client.
 *
 * The guest's search runs over the bytes as they arrive, beside the frame decoder and not before it: a frame whose last bytes look like
 * the begin of TOKEN must be answered at once, not when more bytes come. So the searcher remembers the end of what it has seen. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define SYNC_TOKEN_SIZE 16
#define SYNC_NONCE_SIZE 8
#define SYNC_SIZE       (SYNC_TOKEN_SIZE + SYNC_NONCE_SIZE)

/* Appends TOKEN NONCE. */
void sync_encode(struct buf *out, const uint8_t token[SYNC_TOKEN_SIZE], const uint8_t nonce[SYNC_NONCE_SIZE]);

/* What the guest's search keeps between two pieces; zero to begin. */
struct sync_search {
	uint8_t tail[SYNC_SIZE - 1];
	size_t tail_len;
};

/* Guest: looks for TOKEN NONCE in the stream that goes on with @p. Found: 1, @ret_nonce is filled and *ret_end is how many bytes of @p
 * belong to the sync or stood before it (drop them and all protocol state; what follows is fresh). The last one counts when there are
 * several. Otherwise 0: every byte may be decoded. */
int sync_search(struct sync_search *s, const uint8_t token[SYNC_TOKEN_SIZE], const uint8_t *p, size_t n,
		uint8_t ret_nonce[SYNC_NONCE_SIZE], size_t *ret_end);

/* Host: consumes everything up to and including TOKEN NONCE. 1 = in sync, 0 = more bytes needed (what cannot match is dropped). */
int sync_await(struct buf *in, const uint8_t token[SYNC_TOKEN_SIZE], const uint8_t nonce[SYNC_NONCE_SIZE]);
