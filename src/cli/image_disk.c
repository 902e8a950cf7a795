#include "cli/image_disk.h"

#include <errno.h>
#include <unistd.h>

#include "base/memory.h"
#include "disk/disk_file.h"
#include "image/image.h"

int image_disk_format(const char *name, tree_create_fn *ret, struct error *err)
{
	static const struct {
		const char *name;
		tree_create_fn create;
	} formats[] = {
		{ "ext4", ext4_tree_create },
		{ "erofs", erofs_tree_create },
	};

	for (size_t i = 0; i < ARRAY_SIZE(formats); i++)
		if (streq(name ? name : "ext4", formats[i].name)) {
			*ret = formats[i].create;
			return 0;
		}
	return error_set_kind(err, ERROR_USAGE, EINVAL, "no format '%.40s': images become ext4 or erofs disks", name);
}

const char *image_disk_usual(const struct store *s, const char *digest, const char *name)
{
	_cleanup_(image_meta_done) struct image_meta named = {}, first = {};
	const struct image_meta *meta = NULL;
	bool has_name = image_find(s, name, &named, NULL) >= 0;

	if (has_name && streq(named.digest, digest))
		meta = &named;
	else if (image_meta_read(s, digest, &first, NULL) >= 0)
		meta = &first;
	else if (has_name)
		meta = &named;
	return meta && meta->fstype && streq(meta->fstype, "erofs") ? "erofs" : NULL;
}

/* A disk without a partition table is refused like anything else that is none: there is nothing to boot on it. */
int image_disk_make(int fd, int dirfd, const char *name, const char *scratch_path, uint64_t *ret_bytes,
		    struct error *err)
{
	_cleanup_free_ uint8_t *head = xcalloc(1, DISK_FILE_HEAD);
	enum disk_file_kind kind;
	ssize_t n = pread(fd, head, DISK_FILE_HEAD, 0);
	int r;

	if (n < 0)
		return error_set_errno(err, errno, "the disk");
	kind = disk_file_recognise(head, (size_t)n);
	if (kind == DISK_FILE_NONE || kind == DISK_FILE_PACKED || kind == DISK_FILE_ISO)
		return error_set(err, EBADMSG, "the disk: no disk image that is known");
	r = disk_file_check(fd, kind, "the disk", err);
	return r < 0 ? r : disk_file_convert(fd, kind, "the disk", dirfd, name, scratch_path, ret_bytes, err);
}
