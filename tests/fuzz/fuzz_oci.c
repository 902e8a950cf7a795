/* The documents of images: manifest, index, configuration. */
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "image/oci.h"
#include "image/reference.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	_cleanup_(oci_manifest_done) struct oci_manifest m = {}, again = {};
	_cleanup_(oci_index_done) struct oci_index i = {};
	_cleanup_(oci_config_done) struct oci_config c = {};
	_cleanup_buf_ struct buf out = {};
	const char *text = (const char *)data;

	if (oci_manifest_parse(text, size, "manifest", &m, NULL) >= 0) {
		check(is_digest(m.config.digest) && m.n_layers <= OCI_LAYERS_MAX);
		oci_manifest_render(&m, &out);
		check(oci_manifest_parse(out.p, out.len, "again", &again, NULL) >= 0 && again.n_layers == m.n_layers);
	}
	if (oci_index_parse(text, size, "index", &i, NULL) >= 0) {
		(void)oci_index_choose(&i, NULL);
		(void)oci_index_choose(&i, "linux/arm64/v8");
	}
	if (oci_config_parse(text, size, "config", &c, NULL, NULL) >= 0)
		for (size_t k = 0; k < c.diff_ids.n; k++)
			check(is_digest(c.diff_ids.items[k]));
	return 0;
}
