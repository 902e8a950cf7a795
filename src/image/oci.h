/* The OCI image format's documents and Docker's schema 2, which differ in names only: index, manifest, configuration. They come from outside:
 * every field is checked. Sources: image-spec "descriptor.md", "image-index.md", "manifest.md", "config.md". */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/memory.h"
#include "json/json.h"

#define OCI_INDEX_TYPE          "application/vnd.oci.image.index.v1+json"
#define OCI_MANIFEST_TYPE       "application/vnd.oci.image.manifest.v1+json"
#define OCI_CONFIG_TYPE         "application/vnd.oci.image.config.v1+json"
#define OCI_LAYER_TAR_TYPE      "application/vnd.oci.image.layer.v1.tar"
#define OCI_LAYER_GZIP_TYPE     "application/vnd.oci.image.layer.v1.tar+gzip"
#define OCI_LAYER_ZSTD_TYPE     "application/vnd.oci.image.layer.v1.tar+zstd"
#define DOCKER_INDEX_TYPE       "application/vnd.docker.distribution.manifest.list.v2+json"
#define DOCKER_MANIFEST_TYPE    "application/vnd.docker.distribution.manifest.v2+json"
#define DOCKER_CONFIG_TYPE      "application/vnd.docker.container.image.v1+json"
#define DOCKER_LAYER_TYPE       "application/vnd.docker.image.rootfs.diff.tar.gzip"
#define OCI_ANNOTATION_REF_NAME "org.opencontainers.image.ref.name"

/* The most that one document may be: what registries allow for a manifest. */
#define OCI_DOCUMENT_MAX ((size_t)4 << 20)
/* The most layers that an image may have; Docker's own limit is 127. */
enum { OCI_LAYERS_MAX = 512 };

struct oci_platform {
	char *architecture, *os, *variant;
};

struct oci_descriptor {
	char *media_type, *digest; /* digest is checked: "sha256:" and 64 digits */
	uint64_t size;
	struct oci_platform platform; /* in an index */
	struct strv annotations;      /* "key=value" */
};
void oci_descriptor_done(struct oci_descriptor *d);
/* Borrowed, or NULL. */
const char *oci_annotation(const struct oci_descriptor *d, const char *key);

struct oci_manifest {
	char *media_type; /* never NULL */
	struct oci_descriptor config;
	struct oci_descriptor *layers;
	size_t n_layers;
	struct strv annotations;
};
int oci_manifest_parse(const char *text, size_t len, const char *what, struct oci_manifest *ret, struct error *err);
void oci_manifest_done(struct oci_manifest *m);
void oci_manifest_render(const struct oci_manifest *m, struct buf *out);

struct oci_index {
	char *media_type;
	struct oci_descriptor *manifests;
	size_t n;
	struct strv annotations;
};
int oci_index_parse(const char *text, size_t len, const char *what, struct oci_index *ret, struct error *err);
void oci_index_done(struct oci_index *i);
/* The manifest for this machine's platform, or for @platform ("linux/arm64/v8"), or NULL. Where no variant is asked for: what all variants can run,
 * if that is there, else the first. */
const struct oci_descriptor *oci_index_choose(const struct oci_index *i, const char *platform);

/* The file "oci-layout" that makes a directory an image layout (image-layout.md). */
void oci_layout_render(struct buf *out);

/* What of a configuration concerns us. */
struct oci_config {
	char *architecture, *os, *created; /* created: RFC 3339, as written */
	char *user, *workdir, *stop_signal;
	struct strv env, entrypoint, command;
	struct strv volumes, exposed_ports; /* keys: "/data", "80/tcp" */
	struct strv labels;                 /* "key=value" */
	struct strv diff_ids;
};
/* @ret_tree (may be NULL) gets the whole document, for history and for writing it back changed; owned by the caller. */
int oci_config_parse(const char *text, size_t len, const char *what, struct oci_config *ret, struct json **ret_tree,
		     struct error *err);
void oci_config_done(struct oci_config *c);

/* This machine's, as images name it: "amd64". */
const char *oci_own_architecture(void);
/* Is this media type one of a manifest (OCI's or Docker's), or of an index? */
bool oci_is_manifest_type(const char *media_type);
bool oci_is_index_type(const char *media_type);
