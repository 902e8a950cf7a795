#include "guest/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.pb-c.h"
#include "base/file.h"
#include "base/memory.h"
#include "guest/uevent.h"

enum {
	SUPERBLOCK_OFFSET = 1024,
	SUPERBLOCK_SIZE = 1024,
	GROW_FROM_BYTES = 1 << 20, /* less is not worth a transaction at every boot */
};
/* Not in the kernel's exported headers. */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, uint64_t)

static char *find_now(const char *serial)
{
	_cleanup_free_ char *wanted = xasprintf("%s\n", serial);
	DIR *d = opendir("/sys/block");
	const struct dirent *e;
	char *node = NULL;

	while (d && !node && (e = readdir(d))) {
		_cleanup_buf_ struct buf path = { 0 }, text = { 0 };

		if (!after_prefix(e->d_name, "vd"))
			continue;
		buf_addf(&path, "%s/serial", e->d_name);
		if (file_read_at(dirfd(d), path.p, 64, &text) < 0 || !text.p)
			continue;
		/* With or without a newline, by kernel version. */
		if (streq(text.p, wanted) || streq(text.p, serial))
			node = xasprintf("/dev/%s", e->d_name);
	}
	if (d)
		closedir(d);
	return node;
}

int disk_find(const char *serial, uint64_t deadline_ns, char **ret_node, struct error *err)
{
	char *node = find_now(serial);
	_cleanup_close_ int events = -EBADF;
	int r = 0;

	if (!node) {
		events = uevent_open();
		while (events >= 0 && r == 0 && !(node = find_now(serial)))
			r = uevent_wait(events, "/block/", deadline_ns);
	}
	if (!node)
		return error_set(err, ENODEV, "disk '%s': there is no such device", serial);
	*ret_node = node;
	return 0;
}

static uint32_t le32(const uint8_t *p)
{
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* Makes an ext4 as large as its device, online. 0 also when there is nothing to do. */
static int grow(const char *node, const char *target)
{
	_cleanup_close_ int device = open(node, O_RDONLY | O_CLOEXEC), dir = -EBADF;
	uint8_t sb[SUPERBLOCK_SIZE];
	uint64_t bytes, blocks, wanted;
	uint32_t log;
	int r;

	if (device < 0 || ioctl(device, BLKGETSIZE64, &bytes) < 0)
		return -errno;
	r = pread_full(device, sb, sizeof(sb), SUPERBLOCK_OFFSET);
	if (r < 0)
		return r;
	blocks = (uint64_t)le32(sb + 0x150) << 32 | le32(sb + 4);
	log = le32(sb + 24);
	if (log > 6)
		return -EINVAL;
	wanted = bytes >> (10 + log);
	if (wanted <= blocks || (wanted - blocks) << (10 + log) < GROW_FROM_BYTES)
		return 0;
	dir = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || ioctl(dir, EXT4_IOC_RESIZE_FS, &wanted) < 0)
		return -errno;
	return 0;
}

/* The upper directory is the root that everybody sees: as the image's root is, from the moment it is there. */
static int make_upper(const char *path)
{
	_cleanup_free_ char *young = xasprintf("%s.new", path);
	struct timespec times[2];
	struct stat st;

	if (access(path, F_OK) == 0)
		return 0;
	if (stat("/lower", &st) < 0 || (mkdir(young, 0700) < 0 && errno != EEXIST))
		return -errno;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	if (chown(young, st.st_uid, st.st_gid) < 0 || chmod(young, st.st_mode & 07777) < 0 ||
	    utimensat(AT_FDCWD, young, times, 0) < 0 || rename(young, path) < 0)
		return -errno;
	return 0;
}

/* A disk's file system stays within reach: /run goes along to the new root, as other initrds do it too. */
static int mount_delta(const Skerry__Agent__V1__Disk *d, uint64_t deadline_ns, struct buf *errors, struct error *err)
{
	_cleanup_free_ char *node = NULL;
	int r = disk_find(d->upper, deadline_ns, &node, err);

	if (r < 0)
		return r;
	(void)mkdir("/run", 0755);
	if (mount("tmpfs", "/run", "tmpfs", MS_NODEV | MS_NOSUID, "mode=0755") < 0 ||
	    mkdir("/run/initramfs", 0755) < 0 || mkdir("/run/initramfs/skerry", 0700) < 0 ||
	    mkdir(DISK_DELTA, 0700) < 0)
		return error_set_errno(err, errno, "cannot make %s", DISK_DELTA);
	if (mount(node, DISK_DELTA, "ext4", 0, NULL) < 0)
		return error_set_errno(err, errno, "disk '%s': cannot mount %s as ext4", d->upper, node);
	r = d->grow ? grow(node, DISK_DELTA) : 0;
	if (r < 0)
		buf_addf(errors, "disk '%s': cannot grow: %s\n", d->upper, strerror(-r));
	return 0;
}

/* A root that cannot be written to gets a layer above it: /etc must take the machine's name, keys and addresses. What a directory was called
 * before it was renamed, or whose content a file without any is, stays unsaid: whoever reads the layer alone needs all of it. */
static int add_layer(const Skerry__Agent__V1__Disk *d, const char *target, uint64_t deadline_ns, struct buf *errors,
		     struct error *err)
{
	const char *disk_options = "lowerdir=/lower,upperdir=" DISK_DELTA "/upper,workdir=" DISK_DELTA
				   "/work,redirect_dir=off,metacopy=off,index=off";
	const char *memory_options = "lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work";
	bool on_disk = d->upper[0];
	int r = 0;

	if (on_disk)
		r = mount_delta(d, deadline_ns, errors, err);
	else if (mount("tmpfs", "/layer", "tmpfs", MS_NODEV | MS_NOSUID, "mode=0755") < 0)
		r = error_set_errno(err, errno, "cannot make the writable layer");
	if (r < 0)
		return r;
	r = make_upper(on_disk ? DISK_DELTA "/upper" : "/layer/upper");
	if (r == 0 && mkdir(on_disk ? DISK_DELTA "/work" : "/layer/work", 0755) < 0 && errno != EEXIST)
		r = -errno;
	if (r < 0)
		return error_set_errno(err, -r, "cannot make the writable layer");
	if (mount("overlay", target, "overlay", 0, on_disk ? disk_options : memory_options) < 0)
		return error_set_errno(err, errno, "cannot mount the writable layer");
	return 0;
}

int disk_mount(const Skerry__Agent__V1__Disk *d, const char *target, uint64_t deadline_ns, struct buf *errors,
	       struct error *err)
{
	bool read_only = d->read_only || streq(d->fstype, "erofs");
	bool layered = read_only && streq(d->mount, "/");
	_cleanup_free_ char *node = NULL;
	int r = disk_find(d->serial, deadline_ns, &node, err);

	if (r < 0)
		return r;
	if (layered) {
		(void)mkdir("/lower", 0755);
		(void)mkdir("/layer", 0755);
	}
	if (mount(node, layered ? "/lower" : target, d->fstype, read_only ? MS_RDONLY : 0, NULL) < 0)
		return error_set_errno(err, errno, "disk '%s': cannot mount %s as %s", d->serial, node, d->fstype);
	if (layered)
		return add_layer(d, target, deadline_ns, errors, err);
	if (d->grow && !read_only && streq(d->fstype, "ext4")) {
		r = grow(node, target);
		if (r < 0)
			buf_addf(errors, "disk '%s': cannot grow: %s\n", d->serial, strerror(-r));
	}
	return 0;
}
