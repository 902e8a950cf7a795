/* Has the kernel write a file out while more of it is being made, from a thread of its own: whoever makes it never waits for the disk, and what
 * is left for the end is little. Starting to write is a hint, that nothing depends on; flusher_sync_begin() is not. */
#pragma once

#include <stdint.h>

#include "base/cleanup.h"

struct flusher;
/* @fd is borrowed until flusher_free(). The thread starts when there is something for it to do. */
struct flusher *flusher_new(int fd);
/* These bytes have been written to the file. Most calls only add up. */
void flusher_note(struct flusher *f, uint64_t offset, uint64_t n);
/* fsync(2), while the caller goes on with something else; flusher_sync_end() waits and returns its -errno. In between, nothing else. */
void flusher_sync_begin(struct flusher *f);
int flusher_sync_end(struct flusher *f);
/* Waits for what the thread is doing; what it has not begun is left to the kernel. Accepts NULL; returns NULL. */
struct flusher *flusher_free(struct flusher *f);
DEFINE_CLEANUP(struct flusher *, flusher_free);
