#include "cli/image_seal.h"

#include "base/memory.h"

/* What distributions' disks need to boot in comfort. */
#define MEMORY_DEFAULT (UINT64_C(1) << 30)
#define USER_DEFAULT   "dev"

int image_seal_disk(struct workshop *w, const char *name, const struct sealed_disk *d, char **ret_digest,
		    struct error *err)
{
	_cleanup_(image_meta_done) struct image_meta meta = {
		.format = xstrdup("qcow2"),
		.boot = IMAGE_BOOT_FIRMWARE,
		.init = IMAGE_INIT_SYSTEM,
		.virtual_bytes = d->bytes,
		.source = xstrdup(d->source),
		.user = xstrdup(d->user ? d->user : USER_DEFAULT),
		.ssh = true,
		.default_memory_bytes = MEMORY_DEFAULT,
	};
	int r = workshop_digest(w, name, &meta.disk, err);

	if (r >= 0)
		r = image_seal(w, name, NULL, &meta, err);
	if (r >= 0)
		*ret_digest = xstrdup(meta.digest);
	return r;
}
