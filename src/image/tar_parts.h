/* Between the files of the tar reader only. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "image/tar.h"

enum {
	TAR_BLOCK = 512,
	TAR_SPECIAL_MAX =
		1 << 20, /* of one extended header; Go's reader, which most images pass through, has the same */
	TAR_XATTRS_MAX = 256,
};

struct tar_header {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, linkname[100];
	char magic[8], uname[32], gname[32], devmajor[8], devminor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "a header is one block");

struct tar_text {
	char *p; /* owned; NUL-terminated */
	size_t len;
	bool set;
};

/* What extended headers said about the next entry. */
struct tar_extended {
	struct tar_text path, link, acl_access, acl_default;
	uint64_t size, uid, gid, mtime_ns;
	bool has_size, has_uid, has_gid, has_mtime;
	struct fs_xattr *xattrs; /* owned with what they point at */
	size_t n_xattrs;
};

struct tar_piece {
	uint64_t offset, size;
};

/* Where the content of a file with holes belongs. */
struct tar_map {
	struct tar_piece *items; /* owned */
	size_t n, cap;
	size_t at;     /* being read */
	uint64_t done; /* of it */
	uint64_t real_size;
	bool is_sparse, in_content; /* in_content: the map stands before the content (version 1.0) */
	bool has_real_size, half;   /* half: an offset whose size has not come yet */
	struct tar_text name;
	uint64_t major, minor;
};

struct tar {
	tar_read_fn read;
	void *data;        /* borrowed */
	const uint8_t *at; /* borrowed: what is left of the present piece */
	size_t left;
	bool ended;
	uint8_t block[TAR_BLOCK];
	uint64_t n_entries;
	uint64_t content_left, padding; /* of the present entry, in the stream */
	struct tar_extended extended;
	struct tar_map map;
	struct tar_item item;
	char *path, *hard_link, *link; /* owned */
};

int tar_bad(const struct tar *t, struct error *err, const char *why);
int tar_take_block(struct tar *t, const uint8_t **ret, struct error *err);

static inline uint64_t tar_padding(uint64_t size)
{
	return -size & (TAR_BLOCK - 1);
}
static inline bool tar_is_ustar(const struct tar_header *h)
{
	return memcmp(h->magic, "ustar\0", 6) == 0;
}

/* A header's number: octal text, or binary with the first bit set. False for anything else. */
bool tar_number(const char *field, size_t len, int64_t *ret);
/* Before 1970 and past what fits it becomes 1970, as tools that apply layers have it. */
uint64_t tar_time_ns(int64_t seconds, uint32_t ns);
int tar_text_set(struct tar *t, struct tar_text *x, const char *p, size_t len, struct error *err);

int tar_extended_parse(struct tar *t, const char *p, size_t len, struct error *err);
void tar_extended_done(struct tar_extended *x);
/* A later value of the same name wins. */
int tar_xattr_add(struct tar *t, const char *name, const char *value, size_t len, struct error *err);
/* When the entry has its name: access lists that were told as text become attributes. */
int tar_acl_apply(struct tar *t, struct error *err);

/* A record "GNU.sparse.…", @key being what follows. */
int tar_map_record(struct tar *t, const char *key, const char *value, size_t len, struct error *err);
int tar_map_from_header(struct tar *t, const struct tar_header *h, struct error *err);
/* Before the content: reads a map that stands there. */
int tar_map_prepare(struct tar *t, struct error *err);
int tar_map_check(struct tar *t, struct error *err);
void tar_map_done(struct tar_map *m);
