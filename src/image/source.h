/* Sources and sinks of images: a new one is a new source_NAME.c and a line in source.c's table. All bring what they have into the store as blobs
 * with a manifest, or take it from there. Linked into skerry-image only. */
#pragma once

#include "image/oci.h"
#include "image/tree.h"
#include "store/store.h"

struct source_request {
	const char *operand;  /* what follows "SCHEME:", or the whole path when the source was found by content */
	const char *select;   /* which image in an archive of several: a name in it; NULL = the only one */
	const char *platform; /* "linux/amd64"; NULL = this machine's */
	int progress_fd;      /* -1 = silent */
};

struct source {
	const char *scheme; /* "docker-archive" */
	const char *help;
	/* Without a scheme: is the file that begins with these bytes for this source? NULL = only by scheme. */
	bool (*recognise)(const void *head, size_t n);
	/* Brings it in. *ret is the manifest, a blob of ours now; *ret_name (owned by the caller, or NULL) the name that it has in itself. */
	int (*fetch)(const struct store *s, const struct source_request *r, struct oci_descriptor *ret, char **ret_name,
		     struct error *err);
	/* Writes an image of ours out; NULL = it cannot. @name: what it is to be called there. */
	int (*store)(const struct store *s, const struct oci_descriptor *manifest, const char *name,
		     const char *operand, int progress_fd, struct error *err);
};
/* By "SCHEME:…" or, for a path, by content. *ret_operand is borrowed from @given. Errors: kind USAGE listing the schemes; -ENOENT. */
const struct source *source_find(const char *given, const char **ret_operand, struct error *err);
/* NULL past the last. */
const struct source *source_at(size_t i);
