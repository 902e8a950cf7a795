#include "cli/image_seal.h"

#include <fcntl.h>
#include <stdio.h>

#include "base/memory.h"
#include "image/digest.h"

/* What distributions' disks need to boot in comfort. */
#define MEMORY_DEFAULT (UINT64_C(1) << 30)
#define USER_DEFAULT   "dev"

/* The disk's digest; where there is more, one over all of them. The files as they are: each was made in one go, so that equal input gives
 * equal files. */
static int digest_files(struct workshop *w, const char *name, char **ret, struct error *err)
{
	static const char *const files[] = { "disk.qcow2", IMAGE_HOME, IMAGE_NVRAM };
	_cleanup_buf_ struct buf all = {};
	_cleanup_free_ char *first = NULL;
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		_cleanup_close_ int fd = openat(w->dir_fd, files[i], O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		_cleanup_free_ char *digest = NULL;
		int r;

		if (fd < 0 && errno == ENOENT && i > 0)
			continue;
		if (fd < 0)
			return error_set_errno(err, errno, "image '%s': cannot read its %s", name, files[i]);
		r = digest_disk(fd, name, &digest, err);
		if (r < 0)
			return r;
		buf_addf(&all, "%s %s\n", digest, files[i]);
		if (i == 0)
			first = TAKE_PTR(digest);
		n++;
	}
	*ret = n > 1 ? digest_bytes(all.p, all.len) : TAKE_PTR(first);
	return 0;
}

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
	int r = digest_files(w, name, &meta.disk, err);

	if (r >= 0)
		r = image_seal(w, name, NULL, &meta, err);
	if (r >= 0)
		*ret_digest = xstrdup(meta.digest);
	return r;
}
