/* File systems become layers: joins the reading of disks with the writing of layers, which do not know each other, in a confined child. Linked into
 * skerry-image only. */
#pragma once

#include <stdbool.h>

#include "image/image.h"
#include "image/layer_store.h"
#include "image/oci.h"
#include "store/store.h"

struct layer_request {
	const char *what; /* for messages: "machine 'web'" */
	int disk_fd;      /* borrowed: a raw disk, or a qcow2 delta over the base */
	bool qcow2;
	int base_fd; /* borrowed: raw; -1 = none, and the layer is the whole tree */
	/* The disk is what the guest's overlay writes to, a delta over the blank file system @base_fd; the layer is what is in its upper directory. */
	bool overlay;
	/* A machine's: what skerry itself puts there at each start is left as the base has it (image_layers.c lists it). */
	bool machine;
	enum layer_compression compression;
	int progress_fd; /* -1 = silent */
};
/* The changes as one layer, a blob of ours. Returns 1 with what layer_store() gives, 0 when nothing has changed. The caller holds blob_lock() shared and
 * sees to it that nobody writes to the disk. Errors: as ext4_diff() and layer_store(). */
int image_make_layer(const struct store *s, const struct layer_request *r, struct oci_descriptor *ret,
		     char **ret_diff_id, struct error *err);

/* For whoever gives images away: the manifest of an image, with layers. An image that has them already: its own. One that was made here by a recipe:
 * its ext4 becomes one layer and a manifest names that; a whole disk: a layer that holds its file as disk/disk.qcow2, KubeVirt's containerDisk, and
 * beside it disk/home.qcow2 and disk/nvram where the image has them. The same image gives the same manifest. @progress_fd: a terminal for a bar, should there be something to make; -1 = silent. The caller holds blob_lock() shared until
 * it is done with the blobs. *ret is released by the caller. */
int image_with_layers(const struct store *s, const struct image_meta *meta, enum layer_compression compression,
		      int progress_fd, struct oci_descriptor *ret, struct error *err);

/* Reads an image's manifest and configuration; each result (may be NULL) is released by the caller. */
int image_documents(const struct store *s, const char *digest, struct oci_manifest *ret_manifest,
		    struct oci_config *ret_config, struct json **ret_tree, struct error *err);
