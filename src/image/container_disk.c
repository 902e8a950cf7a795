#include "image/container_disk.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { BLOCK = 4096 };

static bool is_disk_name(const char *path)
{
	static const char *const ends[] = { ".qcow2", ".img", ".raw" };
	const char *name = after_prefix(path, "disk/");
	size_t n = name ? strlen(name) : 0;

	if (!n || strchr(name, '/'))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++)
		if (n > strlen(ends[i]) && streq(name + n - strlen(ends[i]), ends[i]))
			return true;
	return false;
}

static bool is_zeros(const uint8_t *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* Blocks of zeros are left out; blocks need not lie where those of the file do. */
static int write_data(int fd, const uint8_t *p, size_t n, uint64_t offset)
{
	int r = 0;

	for (size_t at = 0, k; r >= 0 && at < n; at += k) {
		bool zeros;

		k = n - at < BLOCK ? n - at : BLOCK;
		zeros = is_zeros(p + at, k);
		while (at + k < n) {
			size_t more = n - at - k < BLOCK ? n - at - k : BLOCK;

			if (is_zeros(p + at + k, more) != zeros)
				break;
			k += more;
		}
		if (!zeros)
			r = pwrite_full(fd, p + at, k, offset + at);
	}
	return r;
}

static int extract(struct tar *t, const struct tar_item *item, int fd, uint64_t max_bytes, struct error *err)
{
	const void *p;
	uint64_t offset;
	size_t n;
	int r;

	if (item->entry.size > max_bytes)
		return error_set_kind(err, ERROR_DATA, EFBIG, "'%.200s' is larger than it can be", item->entry.path);
	if (ftruncate(fd, (off_t)item->entry.size) < 0)
		return error_set_errno(err, errno, "'%.200s'", item->entry.path);
	while ((r = tar_content(t, &offset, &p, &n, err)) > 0) {
		r = write_data(fd, p, n, offset);
		if (r < 0)
			return error_set_errno(err, r, "'%.200s'", item->entry.path);
	}
	return r;
}

/* The disk comes first: one that is called home.qcow2 and is alone is a disk like any. */
static int which_file(const char *path, const struct container_file *files)
{
	int which;

	if (!files[CONTAINER_DISK].found)
		return is_disk_name(path) ? CONTAINER_DISK : -EINVAL;
	if (streq(path, "disk/home.qcow2"))
		which = CONTAINER_HOME;
	else if (streq(path, "disk/nvram"))
		which = CONTAINER_NVRAM;
	else
		return -EINVAL;
	return files[which].found ? -EINVAL : which;
}

int container_disk_extract(struct tar *t, struct container_file files[CONTAINER_DISK_FILES], struct error *err)
{
	const struct tar_item *item;
	int r;

	while ((r = tar_next(t, &item, err)) > 0) {
		const struct fs_entry *e = &item->entry;
		int which;

		if (S_ISDIR(e->mode) && (streq(e->path, ".") || streq(e->path, "disk")))
			continue;
		which = S_ISREG(e->mode) && !item->hard_link ? which_file(e->path, files) : -EINVAL;
		if (which < 0)
			return 0;
		files[which].found = true;
		r = extract(t, item, files[which].fd, files[which].max_bytes, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : files[CONTAINER_DISK].found;
}
