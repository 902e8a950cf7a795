/* Image references as people type them and registries know them: [HOST[:PORT]/]PATH[:TAG][@DIGEST]. Grammar: the OCI distribution
 * specification ("Pulling manifests") and distribution/reference, whose short forms everybody knows: "debian:12" is
 * docker.io/library/debian:12. */
#pragma once

#include <stdbool.h>

#include "base/error.h"

struct reference {
	char registry[256];   /* "docker.io", "localhost:5000", "[::1]:5000" */
	char repository[256]; /* "library/debian" */
	char tag[129];        /* "latest" when neither tag nor digest was given; "" with a digest alone */
	char digest[72];      /* "sha256:" and 64 digits, or "" */
};

/* Errors: -EINVAL (kind USAGE) that says which rule was broken; a long or unprintable input is quoted shortened and escaped. */
int reference_parse(const char *s, struct reference *ret, struct error *err);

/* The name under which our store knows it, the shortest form: "debian:12", "me/app:1", "localhost:5000/app:1"; with "@sha256:…" and
 * without a tag when a digest was given, as that decides. Owned by the caller. */
char *reference_name(const struct reference *r);

/* "sha256:" and 12 to 64 lower-case hexadecimal digits: a digest or the beginning of one, which is no reference. */
bool is_digest_prefix(const char *s);
/* "sha256:" and all 64. Only such a string ever becomes a file's name. */
bool is_digest(const char *s);
/* The 64 digits of a digest (borrowed), or NULL for what is none. */
const char *digest_hex(const char *digest);
