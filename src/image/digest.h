/* SHA-256 as "sha256:HEX". */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Each result is owned by the caller. */
char *digest_bytes(const void *p, size_t n);
/* Piece by piece. digest_text() ends it: nothing may be added after it. */
struct digest;
struct digest *digest_new(void);
void digest_add(struct digest *d, const void *p, size_t n);
char *digest_text(struct digest *d);
struct digest *digest_free(struct digest *d); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct digest *, digest_free);
/* Raw, for what is derived from a text. */
void digest_raw(const void *p, size_t n, uint8_t ret[32]);
/* What a disk holds, whichever of its zeros are holes: over the text "skerry disk 1\n", the size, and for each block of 64 KiB that is not
 * all zeros its number and its content (numbers: 64 bits, little endian). So 16 GiB of nothing cost nothing. */
int digest_disk(int fd, const char *what, char **ret, struct error *err);
