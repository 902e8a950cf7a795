/* A guest's disk: a few changes to a sound file system, as the input says (pairs of a place and bytes), walked against the sound one. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "disk/ext4.h"
#include "disk/ext4_diff.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DISK_BYTES = 16 << 20, CHANGE = 6 };

static void add(struct ext4 *x, const char *path, mode_t mode, const char *text)
{
	const struct fs_xattr xattr = { "user.name", "value", 5 };
	struct fs_entry e = { .path = path, .mode = mode, .xattrs = &xattr, .n_xattrs = 1 };

	if (S_ISREG(mode))
		e.size = strlen(text);
	else
		e.link = text;
	if (ext4_add(x, &e, NULL) < 0 ||
	    (S_ISREG(mode) && (ext4_write(x, 0, text, strlen(text), NULL) < 0 || ext4_end_file(x, NULL) < 0)))
		abort();
}

static int make_sound(void)
{
	static const uint8_t id[16];
	char name[32], target[200];
	int fd = memfd_create("sound", MFD_CLOEXEC);
	struct ext4 *x = NULL;

	memset(target, 'x', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	if (fd < 0 || ext4_create(fd, DISK_BYTES, "t", id, id, 1, false, &x, NULL) < 0)
		abort();
	add(x, "d", S_IFDIR | 0755, NULL);
	for (int i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof(name), "d/file%d", i);
		add(x, name, S_IFREG | 0644, "content");
	}
	add(x, "d/link", S_IFLNK | 0777, target);
	add(x, "upper/gone", S_IFCHR, NULL);
	add(x, "upper/d/f", S_IFREG | 0644, "content");
	if (ext4_link(x, "other", "d/file1", NULL) < 0 || ext4_finish(x, NULL) < 0)
		abort();
	ext4_free(x);
	return fd;
}

static int on_entry(const struct fs_entry *e, const struct fs_segment *s, size_t n, void *data, struct error *err)
{
	(void)e, (void)s, (void)n, (void)data, (void)err;
	return 0;
}
static int on_content(uint64_t offset, const void *p, size_t n, void *data, struct error *err)
{
	(void)offset, (void)p, (void)n, (void)data, (void)err;
	return 0;
}
static int on_end(void *data, struct error *err)
{
	(void)data, (void)err;
	return 0;
}
static int on_link(const char *path, const char *target, void *data, struct error *err)
{
	(void)path, (void)target, (void)data, (void)err;
	return 0;
}
static int on_path(const char *path, void *data, struct error *err)
{
	(void)path, (void)data, (void)err;
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct ext4_diff_ops ops = { on_entry, on_content, on_end, on_link, on_path, on_path, NULL };
	_cleanup_close_ int sound = make_sound(), fd = memfd_create("fuzz", MFD_CLOEXEC);
	_cleanup_(disk_reader_freep) struct disk_reader *base = NULL, *disk = NULL;
	_cleanup_error_ struct error err = {};
	struct ext4_diff_request req = { .what = "fuzz", .ops = &ops };

	if (fd < 0 || file_copy_fd(sound, fd) < 0)
		abort();
	/* Three bytes of place within the first 4 MiB, where all that matters is, then three bytes that go there. */
	for (; size >= CHANGE; data += CHANGE, size -= CHANGE) {
		uint32_t at = ((uint32_t)data[0] << 16 | (uint32_t)data[1] << 8 | data[2]) & 0x3fffff;

		if (pwrite_full(fd, data + 3, 3, at) < 0)
			abort();
	}
	if (disk_reader_raw(sound, "sound", &base, NULL) < 0 || disk_reader_raw(fd, "fuzz", &disk, NULL) < 0)
		abort();
	req.disk = disk;
	req.base = base;
	(void)ext4_diff(&req, NULL, &err);
	error_done(&err);
	req.base = NULL;
	req.overlay = true;
	(void)ext4_diff(&req, NULL, &err);
	return 0;
}
