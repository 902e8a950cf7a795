#include "shim/root.h"

#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

/* EROFS's superblock (Linux, fs/erofs/erofs_fs.h), as far as it tells what its reader must know. */
enum {
	SUPERBLOCK_OFFSET = 1024,
	MAGIC_AT = 0,
	BLOCK_BITS_AT = 12,
	INCOMPATIBLE_AT = 80,
	ALGORITHMS_AT = 84,
	SUPERBLOCK_READ = 86,
	COMPRESSION_CONFIGURED = 0x2,
	FURTHER_DEVICES = 0x8,
	/* Of Linux 6.1: padded LZ4, big clusters and their configuration, chunks, packed tails, fragments and deduplication; blocks of a page. */
	KNOWN_FEATURES = 0x1 | 0x2 | 0x4 | 0x10 | 0x20,
	PAGE_BITS = 12,
	LZ4 = 0x1,
	DEVICES_MAX = 256,
};
#define EROFS_MAGIC 0xe0f5e1e2u

struct root *root_free(struct root *r)
{
	if (!r)
		return NULL;
	for (size_t i = 0; i < r->n_files; i++)
		free(r->files[i].path);
	for (size_t i = 0; i < r->n_mounts; i++) {
		free(r->mounts[i].type);
		strv_done(&r->mounts[i].options);
	}
	for (size_t i = 0; i < r->n_directories; i++)
		free(r->directories[i].path);
	strv_done(&r->options);
	free(r->files);
	free(r->mounts);
	free(r->directories);
	free(r->top);
	free(r->source);
	free(r->upper_parent);
	free(r->upper);
	free(r->work);
	free(r);
	return NULL;
}

char *root_serial(size_t file)
{
	return xasprintf("root%zu", file);
}

static uint32_t le32(const uint8_t *p)
{
	return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

/* Our own kernel reads what LZ4 packed, and no more. */
static bool erofs_readable(int fd, bool with_devices)
{
	uint32_t known = KNOWN_FEATURES | (with_devices ? FURTHER_DEVICES : 0), features, algorithms;
	uint8_t sb[SUPERBLOCK_READ];

	if (pread(fd, sb, sizeof(sb), SUPERBLOCK_OFFSET) != (ssize_t)sizeof(sb) || le32(sb + MAGIC_AT) != EROFS_MAGIC ||
	    sb[BLOCK_BITS_AT] != PAGE_BITS)
		return false;
	features = le32(sb + INCOMPATIBLE_AT);
	algorithms = features & COMPRESSION_CONFIGURED
			     ? (uint32_t)sb[ALGORITHMS_AT] | (uint32_t)sb[ALGORITHMS_AT + 1] << 8
			     : LZ4;
	return !(features & ~known) && !(algorithms & ~(uint32_t)LZ4);
}

/* Its descriptor, too. */
static int add_file(struct root *r, const char *path, bool read_only, struct error *err)
{
	_cleanup_close_ int fd = -EBADF;
	struct root_file *f;
	struct stat st;
	uint64_t bytes;

	if (path[0] != '/')
		return error_set(err, EINVAL, "root file system: '%.200s' is not absolute", path);
	fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "root file system: %.200s", path);
	if (!S_ISBLK(st.st_mode) && !S_ISREG(st.st_mode))
		return error_set(err, ENOTBLK, "root file system: %.200s is neither a block device nor a file", path);
	bytes = (uint64_t)st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &bytes) < 0)
		bytes = 0;
	r->files = xrealloc_array(r->files, r->n_files + 1, sizeof(*r->files));
	f = &r->files[r->n_files++];
	*f = (struct root_file){
		.path = xstrdup(path), .block_device = S_ISBLK(st.st_mode), .read_only = read_only, .bytes = bytes
	};
	return TAKE_FD(fd);
}

/* What names something on the host, or is containerd's own, does not. */
static bool option_travels(const char *option)
{
	return !after_prefix(option, "device=") && !after_prefix(option, "journal_") &&
	       !after_prefix(option, "offset=") && !after_prefix(option, "X-") && !strchr(option, ',') &&
	       !strstr(option, "{{") && !streq(option, "bind") && !streq(option, "rbind") && !streq(option, "remount");
}

static int add_devices(struct root *r, const struct share_mount *m, size_t *ret_n, struct error *err)
{
	for (size_t i = 0; i < m->n_options; i++) {
		const char *device = after_prefix(m->options[i], "device=");
		int fd;

		if (!device)
			continue;
		if (++*ret_n > DEVICES_MAX)
			return error_set(err, E2BIG, "root file system: %s: more than %d devices", m->source,
					 DEVICES_MAX);
		fd = add_file(r, device, true, err);
		if (fd < 0)
			return fd;
		safe_close(fd);
	}
	return 0;
}

int root_add_mount(struct root *r, const struct share_mount *m, const char *type, struct error *err)
{
	bool erofs = streq(type, "erofs"), read_only = false;
	_cleanup_close_ int fd = -EBADF;
	struct root_mount *t;
	int k;

	if (m->target && *m->target && !streq(m->target, "/"))
		return error_set(err, EINVAL, "root file system: %.200s: a mount below the root is not understood",
				 m->source);
	if (!erofs && !streq(type, "ext4"))
		return error_set(err, EINVAL, "root file system: %.200s: a layer of type '%.40s' is not understood",
				 m->source, m->type);
	r->mounts = xrealloc_array(r->mounts, r->n_mounts + 1, sizeof(*r->mounts));
	t = &r->mounts[r->n_mounts++];
	*t = (struct root_mount){ .type = xstrdup(type), .file = r->n_files };
	for (size_t i = 0; i < m->n_options; i++) {
		const char *o = m->options[i];

		/* The last word counts, as with mount(8). */
		if (streq(o, "ro") || streq(o, "rw"))
			read_only = streq(o, "ro");
		else if (streq(o, "loop") || (erofs && after_prefix(o, "device=")))
			continue;
		else if (option_travels(o))
			strv_add(&t->options, o);
		else
			return error_set(err, EINVAL, "root file system: %.200s: option '%.200s' is not understood",
					 m->source, o);
	}
	read_only = read_only || erofs;
	strv_add(&t->options, read_only ? "ro" : "rw");
	fd = add_file(r, m->source, read_only, err);
	if (fd < 0)
		return fd;
	k = erofs ? add_devices(r, m, &t->n_devices, err) : 0;
	if (k == 0 && erofs && !erofs_readable(fd, t->n_devices > 0))
		k = error_set(err, ENOTSUP,
			      "root file system: %.200s is no EROFS that the guest's kernel reads (blocks of 4096 "
			      "bytes, LZ4 or nothing packed)",
			      m->source);
	return k;
}

/* What cannot be shared comes first, then what is written to, then what is large. */
static bool more_urgent(const struct root_file *a, const struct root_file *b)
{
	if (a->block_device != b->block_device)
		return a->block_device;
	if (a->read_only != b->read_only)
		return b->read_only;
	return a->bytes > b->bytes;
}

/* False: more block devices than there is room for. */
static bool choose_disks(struct root *r, size_t max)
{
	for (size_t n = 0; n < max && n < r->n_files; n++) {
		struct root_file *best = NULL;

		for (size_t i = 0; i < r->n_files; i++)
			if (!r->files[i].disk && (!best || more_urgent(&r->files[i], best)))
				best = &r->files[i];
		if (!best)
			break;
		best->disk = true;
	}
	for (size_t i = 0; i < r->n_files; i++)
		if (r->files[i].block_device && !r->files[i].disk)
			return false;
	return true;
}

int root_find(const struct share_mount *mounts, size_t n, size_t disks_max, struct root **ret, struct error *err)
{
	_cleanup_root_ struct root *r = xnew(struct root);
	bool layered = root_is_layered(mounts, n);
	int k;

	*ret = NULL;
	if (layered) {
		k = root_read_layers(mounts, n, r, err);
		if (k < 0)
			return k;
	} else if (n != 1 || root_add_mount(r, mounts, mounts->type, NULL) < 0) {
		return 0;
	}
	if (!choose_disks(r, disks_max))
		return layered ? error_set(err, ENOTSUP,
					   "root file system: more block devices among its layers than the machine can "
					   "get: %zu",
					   disks_max)
			       : 0;
	*ret = TAKE_PTR(r);
	return 0;
}
