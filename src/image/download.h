/* One file from the web, whole or not at all: it grows under a temporary name, goes on there after a break, of the connection or of us, and gets its
 * name when it is complete. Linked into skerry-image only. */
#pragma once

#include <stdint.h>

#include "base/error.h"
#include "image/http.h"

struct download {
	const char *url;    /* borrowed, as all */
	const char *digest; /* "sha256:…" that it must have; NULL = whatever comes */
	int dir_fd;
	const char *name; /* in there; NAME.part and NAME.part.json lie beside it meanwhile. The caller holds a lock */
	/* Each time that some of it has come. @total: UINT64_MAX = not known. NULL = nobody is told. */
	void (*progress)(uint64_t bytes, uint64_t total, void *data);
	void *data;
};
/* Replaces @name. *ret_digest ("sha256:…") is owned by the caller. Errors name the host. -EBADMSG (kind DATA): it is not what @digest says, and
 * nothing of it is kept; -ENOSPC: the file system has no room for it. */
int download_file(struct http *h, const struct download *d, char **ret_digest, uint64_t *ret_bytes, struct error *err);
