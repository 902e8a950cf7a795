/* A disk that stays where it is becomes an image: for whoever has it on a mount that others share, and no room for a copy. The image is a link to
 * it; its digest says what it held, so that a machine above it is not started above something else. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/image_verbs.h"
#include "disk/disk_file.h"
#include "disk/qcow2.h"
#include "image/blob.h"
#include "image/digest.h"
#include "image/index.h"
#include "image/reference.h"
#include "image/workshop.h"

enum { PEEK = 2048, EXT_MAGIC_AT = 1080, CHUNK = 1 << 20 };

struct adoption {
	const char *path;
	char *what; /* owned */
	int fd;     /* owned */
	struct stat st;
	enum disk_file_kind kind;
	struct image_meta meta; /* owned */
};

static void adoption_done(struct adoption *a)
{
	image_meta_done(&a->meta);
	safe_close(a->fd);
	free(a->what);
}

static int open_disk(struct adoption *a, struct error *err)
{
	_cleanup_free_ char *head = xcalloc(1, DISK_FILE_HEAD);

	a->fd = open(a->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (a->fd < 0 || fstat(a->fd, &a->st) < 0)
		return error_set_errno(err, errno, "%s: cannot open it", a->what);
	if (!S_ISREG(a->st.st_mode))
		return error_set_kind(err, ERROR_DATA, EBADMSG, "%s: it is no regular file", a->what);
	if (pread(a->fd, head, DISK_FILE_HEAD, 0) < 0)
		return error_set_errno(err, errno, "%s: cannot read it", a->what);
	a->kind = disk_file_recognise(head, DISK_FILE_HEAD);
	return 0;
}

static bool is_file_system(const unsigned char *head)
{
	return head[EXT_MAGIC_AT] == 0x53 && head[EXT_MAGIC_AT + 1] == 0xef;
}

/* A file system without a partition table is booted by a kernel of ours, everything else by firmware. */
static int look_inside(struct adoption *a, const char *scratch_path, bool *ret_file_system, struct error *err)
{
	unsigned char head[PEEK] = {};
	int r;

	if (a->kind == DISK_FILE_QCOW2) {
		_cleanup_(qcow2_info_done) struct qcow2_info info = {};

		r = qcow2_read_info(a->fd, a->what, &info, err);
		if (r >= 0)
			r = disk_file_peek(a->fd, a->kind, a->what, scratch_path, head, sizeof(head), err);
		a->meta.virtual_bytes = info.virtual_bytes;
	} else {
		r = pread(a->fd, head, sizeof(head), 0) < 0 ? error_set_errno(err, errno, "%s", a->what) : 0;
		a->meta.virtual_bytes = (uint64_t)a->st.st_size;
	}
	*ret_file_system = is_file_system(head);
	if (r < 0 || a->kind == DISK_FILE_RAW || a->kind == DISK_FILE_QCOW2 || *ret_file_system)
		return r;
	error_set_kind(err, ERROR_DATA, EBADMSG, "%s: no disk that can be used where it is%s%s", a->what,
		       a->kind == DISK_FILE_NONE ? "" : ": it is ",
		       a->kind == DISK_FILE_NONE ? "" : disk_file_name(a->kind));
	return error_hint(
		err, "qcow2 and raw disks are, whole ones and single ext4 file systems; `qemu-img convert -O qcow2` "
		     "makes one of most others");
}

static int file_digest(struct adoption *a, struct error *err)
{
	_cleanup_(digest_freep) struct digest *d = digest_new();
	_cleanup_free_ char *p = xcalloc(1, CHUNK);
	uint64_t at = 0;

	if (a->kind != DISK_FILE_QCOW2)
		return digest_disk(a->fd, a->what, &a->meta.digest, err);
	for (;;) {
		ssize_t n = pread(a->fd, p, CHUNK, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return error_set_errno(err, errno, "%s: cannot read it", a->what);
		if (n == 0)
			break;
		digest_add(d, p, (size_t)n);
		at += (uint64_t)n;
	}
	a->meta.digest = digest_text(d);
	return 0;
}

/* Built aside and renamed; one of the same digest that is there already is only pointed to this path. */
static int seal(const struct store *s, struct adoption *a, struct workshop *w, struct error *err)
{
	const char *file = image_disk_file(&a->meta), *hex = digest_hex(a->meta.digest);
	_cleanup_free_ char *old = xasprintf("%s/%s", hex, file), *tmp = xasprintf("%s/.tmp-%s", hex, file);
	_cleanup_close_ int lock = images_lock(s, err);
	int r;

	if (lock < 0)
		return lock;
	r = fault_point("adopt-seal");
	if (r < 0)
		return error_set_errno(err, r, "%s: cannot keep it", a->what);
	if (faccessat(w->disks_fd, hex, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
		(void)unlinkat(w->disks_fd, tmp, 0);
		if (symlinkat(a->path, w->disks_fd, tmp) < 0 || renameat(w->disks_fd, tmp, w->disks_fd, old) < 0)
			return error_set_errno(err, errno, "%s: cannot keep it", a->what);
		return 0;
	}
	if (rmdir(w->scratch_path) < 0 || symlinkat(a->path, w->dir_fd, file) < 0)
		return error_set_errno(err, errno, "%s: cannot keep it", a->what);
	r = image_record_write(w->dir_fd, &a->meta, err);
	if (r < 0)
		return r;
	return renameat(w->disks_fd, w->name, w->disks_fd, hex) < 0 || fsync_dir(w->disks_fd) < 0
		       ? error_set_errno(err, errno, "%s: cannot keep it", a->what)
		       : 0;
}

static void print_result(const struct adoption *a, bool file_system)
{
	_cleanup_json_ struct json *o = json_object();
	_cleanup_buf_ struct buf text = {};

	json_set_string(o, "digest", a->meta.digest);
	json_set_u64(o, "virtual_bytes", a->meta.virtual_bytes);
	json_set_bool(o, "file_system", file_system);
	json_render(o, false, &text);
	printf("%s\n", text.p);
}

static int adopt_disk(const struct store *s, int argc, char **argv, struct error *err)
{
	_cleanup_workshop_ struct workshop w = WORKSHOP_INIT;
	_cleanup_(adoption_done) struct adoption a = { .fd = -EBADF };
	_cleanup_close_ int lock = -EBADF;
	bool file_system = false;
	int r;

	if (argc != 2 || argv[1][0] != '/')
		return verb_usage(err, "adopt-disk wants an absolute path");
	a.path = argv[1];
	a.what = xasprintf("'%s'", a.path);
	r = open_disk(&a, err);
	if (r >= 0)
		r = lock = blob_lock(s, false, err);
	if (r >= 0)
		r = workshop_open(s, &w, err);
	if (r >= 0)
		r = look_inside(&a, w.scratch_path, &file_system, err);
	if (r >= 0)
		r = file_digest(&a, err);
	if (r < 0)
		return r;
	a.meta.format = xstrdup(a.kind == DISK_FILE_QCOW2 ? "qcow2" : "raw");
	a.meta.fstype = file_system ? xstrdup("ext4") : NULL;
	a.meta.boot = file_system ? IMAGE_BOOT_KERNEL : IMAGE_BOOT_FIRMWARE;
	a.meta.init = IMAGE_INIT_SYSTEM;
	a.meta.ssh = true;
	a.meta.created_ns = clock_realtime_ns();
	a.meta.source = xasprintf("disk %s, in its place", a.path);
	r = seal(s, &a, &w, err);
	if (r >= 0)
		print_result(&a, file_system);
	return r;
}

const struct verb image_adopt_verbs[] = {
	{ "adopt-disk", "PATH", .run = adopt_disk },
	{},
};
