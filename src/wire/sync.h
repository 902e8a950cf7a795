/* Finding each other on a byte pipe that outlives its users.
 *
 * A virtio-serial port keeps whatever a dead host process left in it, in both directions, possibly half a frame. So whoever connects
 * on the host sends TOKEN NONCE: the machine's 16 random bytes (known from the boot configuration, never on the wire before) and
 * 8 random bytes of its own. The guest looks for TOKEN at any position, drops its protocol state, and answers TOKEN NONCE; the host
 * discards everything up to that answer. From there on both sides speak ttrpc, the host as client. */
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

/* Guest: looks for TOKEN in @in. Found and complete: everything up to and including it is consumed, @ret_nonce filled, 1. Otherwise 0, and
 * *ret_frames is how many bytes at the front cannot be part of a sync (safe to decode as frames). */
int sync_scan(struct buf *in, const uint8_t token[SYNC_TOKEN_SIZE], uint8_t ret_nonce[SYNC_NONCE_SIZE],
	      size_t *ret_frames);

/* Host: consumes everything up to and including TOKEN NONCE. 1 = in sync, 0 = more bytes needed (what cannot match is dropped). */
int sync_await(struct buf *in, const uint8_t token[SYNC_TOKEN_SIZE], const uint8_t nonce[SYNC_NONCE_SIZE]);
