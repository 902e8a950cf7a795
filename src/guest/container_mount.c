#include "guest/container_mount.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/loop_device.h"
#include "base/memory.h"
#include "guest/disk.h"
#include "guest/root.h"

enum { OPTIONS_MAX = 4095 };
static const uint64_t device_wait_ns = 5 * NS_PER_SEC;

static const struct {
	const char *name;
	unsigned long flag;
} flags[] = {
	{ "ro", MS_RDONLY },
	{ "nosuid", MS_NOSUID },
	{ "nodev", MS_NODEV },
	{ "noexec", MS_NOEXEC },
	{ "noatime", MS_NOATIME },
	{ "nodiratime", MS_NODIRATIME },
	{ "sync", MS_SYNCHRONOUS },
	{ "dirsync", MS_DIRSYNC },
	{ "strictatime", MS_STRICTATIME },
	{ "relatime", MS_RELATIME },
	{ "bind", MS_BIND },
	{ "rbind", MS_BIND | MS_REC },
	{ "rw", 0 },
	{ "suid", 0 },
	{ "dev", 0 },
	{ "exec", 0 },
	{ "async", 0 },
	{ "defaults", 0 },
	{ "loop", 0 },
};

/* Devices of files: each goes by itself unless it is held or mounted. */
struct held {
	int *fds; /* owned, and so is each */
	size_t n;
};

static void held_done(struct held *h)
{
	while (h->n > 0)
		safe_close(h->fds[--h->n]);
	free(h->fds);
}

/* What mount(2) is given for @name. Owned by the caller. */
static int find_source(const char *name, bool read_only, struct held *h, char **ret, struct error *err)
{
	const char *serial = after_prefix(name, "serial:"), *file = after_prefix(name, "loop:");
	int fd;

	if (serial)
		return disk_find(serial, clock_monotonic_ns() + device_wait_ns, ret, err);
	if (!file) {
		*ret = xstrdup(name);
		return 0;
	}
	/* The host has what it reads in memory already, and the file system what it has read. */
	fd = loop_device_attach(file, LOOP_DIRECT | (read_only ? LOOP_READ_ONLY : 0), ret, err);
	if (fd < 0)
		return error_prefix(err, "mount");
	h->fds = xrealloc_array(h->fds, h->n + 1, sizeof(*h->fds));
	h->fds[h->n++] = fd;
	return 0;
}

static unsigned long flags_of(const Skerry__Agent__V1__ContainerMount *m, struct strv *others)
{
	unsigned long f = 0;

	for (size_t i = 0; i < m->n_options; i++) {
		size_t k = 0;

		while (k < ARRAY_SIZE(flags) && !streq(flags[k].name, m->options[i]))
			k++;
		if (k < ARRAY_SIZE(flags))
			f |= flags[k].flag;
		else
			strv_add(others, m->options[i]);
	}
	return f;
}

static int make_directories(const Skerry__Agent__V1__ContainerMount *m, int base, struct error *err)
{
	for (size_t i = 0; i < m->n_directories; i++) {
		const Skerry__Agent__V1__ContainerDirectory *d = m->directories[i];
		int fd = root_mkdir(base, d->path, d->mode & 07777, d->uid, d->gid);

		if (fd < 0)
			return error_set_errno(err, -fd, "mount: cannot make %.200s", d->path);
		safe_close(fd);
	}
	return 0;
}

/* In @base, since a page of options has no room for the full names of many layers. */
static int mount_in(int base, const char *source, const Skerry__Agent__V1__ContainerMount *m, unsigned long f,
		    const char *data)
{
	_cleanup_close_ int before = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (before < 0 || fchdir(base) < 0)
		return -errno;
	r = mount(source, m->target, m->type, f, data) < 0 ? -errno : 0;
	if (r == 0 && (f & MS_BIND) && (f & MS_RDONLY) && mount(NULL, m->target, NULL, f | MS_REMOUNT, NULL) < 0) {
		r = -errno;
		(void)umount2(m->target, MNT_DETACH);
	}
	return fchdir(before) < 0 ? -errno : r;
}

/* With the last one that was made there goes what they were made in. */
static void remove_place(const char *target)
{
	_cleanup_free_ char *parent = xstrndup(target, (size_t)(strrchr(target, '/') - target));

	if (rmdir(target) == 0)
		(void)rmdir(parent);
}

static int open_base(const char *target)
{
	_cleanup_free_ char *directory = xstrndup(target, (size_t)(strrchr(target, '/') - target) + 1);
	int fd = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int add_options(const struct strv *options, bool read_only, struct held *h, struct buf *data, struct error *err)
{
	for (size_t i = 0; i < options->n; i++) {
		const char *device = after_prefix(options->items[i], "device=");
		_cleanup_free_ char *node = NULL;
		int r = device ? find_source(device, read_only, h, &node, err) : 0;

		if (r < 0)
			return r;
		buf_addf(data, "%s%s%s", data->len ? "," : "", device ? "device=" : "",
			 device ? node : options->items[i]);
	}
	/* mount(2) takes a page with its NUL, and cuts off what is more. */
	if (data->len > OPTIONS_MAX)
		return error_set(err, E2BIG, "mount: %zu bytes of options, %d at most", data->len, OPTIONS_MAX);
	return 0;
}

int container_mount(const Skerry__Agent__V1__ContainerMount *m, struct error *err)
{
	_cleanup_(held_done) struct held held = { 0 };
	_cleanup_strv_ struct strv others = { 0 };
	_cleanup_buf_ struct buf data = { 0 };
	_cleanup_free_ char *source = NULL;
	_cleanup_close_ int base = -EBADF;
	unsigned long f = flags_of(m, &others);
	int r;

	if (m->target[0] != '/')
		return error_set(err, EINVAL, "mount: '%.200s' is not absolute", m->target);
	r = mkdir_parents_at(AT_FDCWD, m->target, 0755);
	if (r >= 0)
		r = base = open_base(m->target);
	if (r < 0)
		return error_set_errno(err, -r, "mount: %.200s", m->target);
	r = make_directories(m, base, err);
	if (r >= 0)
		r = find_source(m->source, f & MS_RDONLY, &held, &source, err);
	if (r >= 0)
		r = add_options(&others, f & MS_RDONLY, &held, &data, err);
	if (r < 0)
		return r;
	r = mount_in(base, source, m, f, data.p);
	if (r < 0)
		remove_place(m->target);
	return r < 0 ? error_set_errno(err, -r, "mount: cannot mount %.200s on %.200s as %.40s", m->source, m->target,
				       m->type)
		     : 0;
}

void container_unmount(const char *target)
{
	_cleanup_close_ int fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	/* The host may end this machine as soon as it hears that the container is gone. */
	if (fd >= 0)
		(void)syncfs(fd);
	fd = safe_close(fd);
	if (umount2(target, UMOUNT_NOFOLLOW) < 0 && errno != EINVAL && errno != ENOENT)
		(void)umount2(target, MNT_DETACH | UMOUNT_NOFOLLOW);
	remove_place(target);
}
