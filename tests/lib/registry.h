/* Debian's docker-registry on a port of 127.0.0.1, with data, certificates and log in the test's directory; it dies with the test. The test is
 * skipped visibly where one of the programs is missing. */
#pragma once

#include <stdbool.h>

struct registry_server {
	char host[32];   /* "localhost:PORT" */
	char ca[256];    /* the authority's certificate */
	char trust[256]; /* a directory with nothing but ca.crt, for skopeo */
	char log[256];   /* every request that was answered */
};
/* With TLS, and me:pw as the only user; or without either. */
void registry_server_start(struct registry_server *s, bool secured);
/* Without TLS; tokens of the service at @realm ("http://…") are what it believes, when they are from issuer "test", for service "registry", and signed
 * with the key that token.crt (below the test's directory, PEM) belongs to. */
void registry_server_start_with_tokens(struct registry_server *s, const char *realm);
/* Lines of the log that contain both. */
unsigned registry_server_count(const struct registry_server *s, const char *one, const char *two);
/* The same once there are @n, or after two minutes: an answer with a large body is in the log only after its last byte has gone out. */
unsigned registry_server_await(const struct registry_server *s, const char *one, const char *two, unsigned n);

/* Makes an OCI layout DIR:TAG below the test's directory with busybox, and some files of @kib KiB that do not compress. */
void registry_make_image(const char *tag, unsigned kib);
/* skopeo copy of that layout's image to the registry, or of the registry's to another layout. "REPOSITORY:TAG". */
void registry_put(const struct registry_server *s, const char *layout_tag, const char *to, bool secured);
void registry_get(const struct registry_server *s, const char *from, const char *layout_tag, bool secured);
/* The digest of a layout's image; in a static buffer. */
const char *registry_layout_digest(const char *layout_tag);
