#include "machine/snapshot_variables.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "machine/plan.h"
#include "machine/snapshot_disk.h"

#define VARIABLES_MAX (16u << 20)

static const char *const files[] = { MACHINE_NVRAM, MACHINE_NVRAM_SECURE };

static char *kept_name(const char *snapshot, const char *file)
{
	return xasprintf("%s.%s", snapshot, file);
}

static int directory_open(int machine_fd)
{
	int fd = openat(machine_fd, SNAPSHOT_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd;
}

/* Small, and in one piece. */
static int copy(int from_dir, const char *from, int to_dir, const char *to)
{
	_cleanup_buf_ struct buf b = {};
	int r = file_read_at(from_dir, from, VARIABLES_MAX, &b);

	if (r == -ENOENT)
		return 0;
	return r < 0 ? r : file_write_at(to_dir, to, b.p, b.len, 0600, FILE_DURABLE);
}

int snapshot_variables_keep(int machine_fd, const char *snapshot)
{
	_cleanup_close_ int dir = directory_open(machine_fd);
	int r = dir < 0 ? dir : 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *kept = kept_name(snapshot, files[i]);

		r = copy(machine_fd, files[i], dir, kept);
	}
	return r;
}

int snapshot_variables_put_back(int machine_fd, const char *snapshot)
{
	_cleanup_close_ int dir = directory_open(machine_fd);
	int r = dir < 0 ? dir : 0;

	for (size_t i = 0; r >= 0 && i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *kept = kept_name(snapshot, files[i]);

		r = copy(dir, kept, machine_fd, files[i]);
	}
	return r;
}

void snapshot_variables_remove(int machine_fd, const char *snapshot)
{
	_cleanup_close_ int dir = directory_open(machine_fd);

	for (size_t i = 0; dir >= 0 && i < ARRAY_SIZE(files); i++) {
		_cleanup_free_ char *kept = kept_name(snapshot, files[i]);

		(void)unlinkat(dir, kept, 0);
	}
}
