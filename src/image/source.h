/* Sources and sinks of images: a new one is a new source_NAME.c and a line in source.c's table. All bring what they have into the store as blobs
 * with a manifest, or take it from there. Linked into skerry-image only. */
#pragma once

#include "image/oci.h"
#include "image/stream.h"
#include "image/tree.h"
#include "store/store.h"

struct source_request {
	const char *
		operand; /* what follows "SCHEME:", or the whole path when the source was found by content; "-" = standard input */
	const char *select;   /* which image in an archive of several: a name in it; NULL = the only one */
	const char *platform; /* "linux/amd64"; NULL = this machine's */
	int progress_fd;      /* -1 = silent */
	struct strv *fresh;   /* digests of blobs that were written and verified are added; NULL = nobody wants them */
};

/* How a file begins. */
struct source_head {
	const void *p;
	size_t n;
	const char *entry; /* path of its first entry when it is a tar, packed or not; else NULL */
};

struct source {
	const char *scheme; /* "docker-archive" */
	const char *help;   /* "docker-archive:FILE", and what that is */
	/* Without a scheme: is this file for this source? NULL = only by scheme. */
	bool (*recognise)(const struct source_head *head);
	/* Brings it in. *ret is the manifest, a blob of ours now; *ret_name (owned by the caller, or NULL) the name that it has in itself. The
	 * caller holds blob_lock() shared. */
	int (*fetch)(const struct store *s, const struct source_request *r, struct oci_descriptor *ret, char **ret_name,
		     struct error *err);
	/* Writes an image of ours out; NULL = it cannot. @name: what it is to be called there. */
	int (*save)(const struct store *s, const struct oci_descriptor *manifest, const char *name, const char *operand,
		    int progress_fd, struct error *err);
};
/* By "SCHEME:…" or, for a path, by content. *ret_operand is borrowed from @given. Errors: kind USAGE listing the schemes; -ENOENT. */
int source_find(const char *given, const struct source **ret, const char **ret_operand, struct error *err);
/* By "SCHEME:…" only, for writing; a plain path is a docker-archive. */
int source_find_sink(const char *given, const struct source **ret, const char **ret_operand, struct error *err);
/* NULL past the last. */
const struct source *source_at(size_t i);

/* What several of them need. Opens a file to read, "-" being standard input. Returns the descriptor, owned by the caller. */
int source_open(const char *path, struct error *err);
/* What an archive (docker save's, or an OCI layout's, the former first when @docker_first) holds, from a stream that @what names in
 * messages; as fetch otherwise. */
int source_read_archive(const struct store *s, struct stream *stream, const char *what, const struct source_request *q,
			bool docker_first, struct oci_descriptor *ret, char **ret_name, struct error *err);
/* The tar of a root file system, likewise. @config: what goes into the image's configuration as "config" (borrowed), NULL = nothing. */
int source_read_root(const struct store *s, struct stream *stream, const char *what, struct json *config,
		     struct oci_descriptor *ret, struct error *err);
/* Writes a manifest over @config and @layers as a blob. */
int source_put_manifest(const struct store *s, struct oci_manifest *m, struct oci_descriptor *ret, struct error *err);

extern const struct source source_docker_archive, source_docker_daemon, source_docker_container, source_oci_archive,
	source_oci, source_tar;
/* What is piped in without a scheme: an archive of images or the tar of a root file system. Nobody names it: not in the table. */
extern const struct source source_piped;
