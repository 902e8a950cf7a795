/* A file or pipe as a stream, unpacked when it is packed (gzip, zstd, xz, bzip2) and as it is otherwise. Never seeks. */
#pragma once

#include <stddef.h>

#include "base/buf.h"
#include "base/error.h"

struct stream;
/* @fd borrowed; @what names it in messages. */
int stream_new(int fd, const char *what, struct stream **ret, struct error *err);
struct stream *stream_free(struct stream *s); /* accepts NULL; returns NULL */
DEFINE_CLEANUP(struct stream *, stream_free);
/* What was read is given again before what follows it. @bytes is taken over. Once, and before it is read on. */
void stream_unread(struct stream *s, struct buf *bytes);
/* A tar_read_fn (image/tar.h). Errors: -EBADMSG (kind DATA) for what is damaged. */
int stream_read(void *stream, const void **ret, size_t *ret_n, struct error *err);
