#include "cli/downloads.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/usage.h"
#include "image/image.h"
#include "machine/machine.h"

#define KEPT_NS       (3600 * NS_PER_SEC)
#define NAMES_WAIT_NS (30 * NS_PER_SEC)
#define RECORD        ".json"

struct files {
	struct usage_seen *items; /* owned */
	size_t n;
	bool any; /* there may be more than are known */
};

static void files_done(struct files *f)
{
	free(f->items);
}

static void add_file(struct files *f, int dirfd, const char *path)
{
	struct stat st;

	if (fstatat(dirfd, path, &st, 0) < 0)
		return;
	f->items = xrealloc_array(f->items, f->n + 1, sizeof(*f->items));
	f->items[f->n++] = (struct usage_seen){ st.st_dev, st.st_ino };
}

/* Where the images lead: a disk that is no link is not in downloads, and does no harm here. */
static int add_images(const struct store *s, struct files *to, struct error *err)
{
	static const char *const disks[] = { "disk.raw", "disk.qcow2" };
	_cleanup_close_ int fd = image_disks_open(s, err);
	_cleanup_strv_ struct strv names = {};
	int r = fd < 0 ? fd : dir_list_at(fd, ".", &names);

	if (r < 0)
		return fd < 0 ? fd : error_set_errno(err, r, "images/disks: cannot list it");
	for (size_t i = 0; i < names.n; i++)
		for (size_t k = 0; k < ARRAY_SIZE(disks); k++) {
			_cleanup_free_ char *path = xasprintf("%s/%s", names.items[i], disks[k]);

			add_file(to, fd, path);
		}
	return 0;
}

static int add_installers(struct store *s, struct files *to, struct error *err)
{
	_cleanup_strv_ struct strv names = {};
	int r = store_machine_names(s, &names, err);

	for (size_t i = 0; r >= 0 && i < names.n; i++) {
		struct machine_info info = {};
		struct name name;

		if (name_parse(names.items[i], "machine name", &name, NULL) < 0)
			continue;
		/* What cannot be read may use anything. */
		if (machine_info_load(s, &name, &info, NULL) < 0)
			to->any = true;
		else if (info.spec.installer)
			add_file(to, AT_FDCWD, info.spec.installer);
		machine_info_done(&info);
	}
	return r;
}

static bool is_used(int dir, const char *name, const struct files *used)
{
	struct stat st;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return false;
	for (size_t i = 0; i < used->n; i++)
		if (used->items[i].dev == st.st_dev && used->items[i].ino == st.st_ino)
			return true;
	return false;
}

static bool is_young(int dir, const char *name)
{
	struct stat st;

	return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       (uint64_t)st.st_mtim.tv_sec * NS_PER_SEC + KEPT_NS > clock_realtime_ns();
}

/* A file and its record stay or go together. */
static int look_at(int dir, const char *name, bool gone, const struct files *used, struct downloads *d,
		   struct usage *usage, struct error *err)
{
	size_t n = strlen(name), tail = strlen(RECORD);
	bool is_record = n > tail && streq(name + n - tail, RECORD), in_use;
	_cleanup_free_ char *file = xstrndup(name, is_record ? n - tail : n), *record = xasprintf("%s" RECORD, file);
	uint64_t bytes = usage_add(usage, dir, name);
	int r = 0;

	in_use = is_used(dir, name, used) || is_used(dir, file, used);
	d->n += !is_record;
	d->n_used += !is_record && in_use;
	d->bytes += bytes;
	if (in_use || used->any || is_young(dir, name) || is_young(dir, file) || is_young(dir, record))
		return 0;
	if (gone) {
		r = fault_point("prune-download");
		if (r >= 0 && unlinkat(dir, name, 0) < 0 && errno != ENOENT)
			r = -errno;
	}
	if (r < 0)
		return error_set_errno(err, r, "downloads/%s: cannot remove it", name);
	d->gain_bytes += bytes;
	return 0;
}

int downloads_look(struct store *s, bool gone, struct downloads *ret, struct error *err)
{
	_cleanup_close_ int dir = openat(s->home_fd, "downloads", O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	_cleanup_close_ int lock = -EBADF, names_lock = -EBADF;
	_cleanup_(usage_done) struct usage usage = {};
	_cleanup_(files_done) struct files used = {};
	_cleanup_strv_ struct strv names = {};
	int r = 0;

	*ret = (struct downloads){};
	if (dir < 0)
		return errno == ENOENT ? -ENOENT : error_set_errno(err, errno, "downloads: cannot open it");
	if (gone) {
		/* Who fetches holds it. */
		lock = openat(dir, "lock", O_RDWR | O_CLOEXEC | O_NOFOLLOW);
		if (lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) < 0)
			return 0;
		names_lock = r = store_names_lock(s, NAMES_WAIT_NS, err);
	}
	if (r >= 0)
		r = add_images(s, &used, err);
	if (r >= 0)
		r = add_installers(s, &used, err);
	if (r >= 0) {
		r = dir_list_at(dir, ".", &names);
		if (r < 0)
			return error_set_errno(err, r, "downloads: cannot list it");
	}
	for (size_t i = 0; r >= 0 && i < names.n; i++)
		if (!streq(names.items[i], "lock"))
			r = look_at(dir, names.items[i], gone, &used, ret, &usage, err);
	return r;
}
