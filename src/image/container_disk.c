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
		return error_set_kind(err, ERROR_DATA, EFBIG, "'%.200s': no disk is so large", item->entry.path);
	if (ftruncate(fd, (off_t)item->entry.size) < 0)
		return error_set_errno(err, errno, "'%.200s'", item->entry.path);
	while ((r = tar_content(t, &offset, &p, &n, err)) > 0) {
		r = write_data(fd, p, n, offset);
		if (r < 0)
			return error_set_errno(err, r, "'%.200s'", item->entry.path);
	}
	return r;
}

int container_disk_extract(struct tar *t, int fd, uint64_t max_bytes, struct error *err)
{
	const struct tar_item *item;
	bool found = false;
	int r;

	while ((r = tar_next(t, &item, err)) > 0) {
		const struct tree_entry *e = &item->entry;

		if (S_ISDIR(e->mode) && (streq(e->path, ".") || streq(e->path, "disk")))
			continue;
		if (found || !S_ISREG(e->mode) || item->hard_link || !is_disk_name(e->path))
			return 0;
		found = true;
		r = extract(t, item, fd, max_bytes, err);
		if (r < 0)
			return r;
	}
	return r < 0 ? r : found;
}
