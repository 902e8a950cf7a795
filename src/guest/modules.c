#include "guest/modules.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/file.h"
#include "base/memory.h"

enum { LIST_BYTES_MAX = 64 << 10, CMDLINE_BYTES_MAX = 64 << 10 };
static const char device_word[] = "virtio_mmio.device=";

/* "device=SIZE@ADDR:IRQ device=…" out of the command line's "virtio_mmio.device=SIZE@ADDR:IRQ". */
static void add_mmio_devices(struct buf *params)
{
	_cleanup_buf_ struct buf b = { 0 };

	if (file_read_at(AT_FDCWD, "/proc/cmdline", CMDLINE_BYTES_MAX, &b) < 0 || !b.p)
		return;
	for (const char *p = b.p; *p;) {
		const char *value;
		size_t n;

		p += strspn(p, " \n");
		n = strcspn(p, " \n");
		value = after_prefix(p, device_word);
		if (value)
			buf_addf(params, "%sdevice=%.*s", params->len ? " " : "", (int)(n - strlen(device_word)),
				 value);
		p += n;
	}
}

static int load(const char *path, const char *params)
{
	_cleanup_close_ int dir = open("/modules", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = -EBADF;

	if (dir < 0)
		return -errno;
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return syscall(SYS_finit_module, fd, params, 0) < 0 ? -errno : 0;
}

void modules_load(struct buf *errors)
{
	_cleanup_buf_ struct buf list = { 0 };

	if (file_read_at(AT_FDCWD, "/modules/load", LIST_BYTES_MAX, &list) < 0 || !list.p)
		return;
	for (char *line = list.p, *next; line && *line; line = next) {
		_cleanup_buf_ struct buf params = { 0 };
		char *end = strchr(line, '\n'), *space, *name;
		int r;

		next = end ? end + 1 : NULL;
		if (end)
			*end = '\0';
		if (!line[0] || line[0] == '#')
			continue;
		space = strchr(line, ' ');
		if (space) {
			*space = '\0';
			buf_adds(&params, space + 1);
		}
		name = strrchr(line, '/');
		name = name ? name + 1 : line;
		if (after_prefix(name, "virtio_mmio.ko") || after_prefix(name, "virtio-mmio.ko"))
			add_mmio_devices(&params);
		r = load(line, params.p ? params.p : "");
		/* Built in or loaded already; or this processor has no use for it. */
		if (r < 0 && r != -EEXIST && r != -ENODEV)
			buf_addf(errors, "module %s: %s\n", name, strerror(-r));
	}
}
