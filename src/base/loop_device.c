#include "base/loop_device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include "base/fault.h"
#include "base/file.h"
#include "base/memory.h"

enum { TRIES_MAX = 16 };

/* The device that the kernel proposes may be somebody else's by the time it is asked for. */
static int attach_one(int control, const struct loop_config *config, bool read_only, char **ret_node)
{
	int number = ioctl(control, LOOP_CTL_GET_FREE);
	_cleanup_free_ char *node = number < 0 ? NULL : xasprintf("/dev/loop%d", number);
	_cleanup_close_ int fd = -EBADF;

	if (!node)
		return -errno;
	fd = open(node, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, LOOP_CONFIGURE, config) < 0)
		return -errno;
	*ret_node = TAKE_PTR(node);
	return TAKE_FD(fd);
}

int loop_device_attach(const char *file, unsigned flags, char **ret_node, struct error *err)
{
	bool read_only = flags & LOOP_READ_ONLY;
	_cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC),
			    backing = open(file, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct loop_config config = { .info = { .lo_flags = LO_FLAGS_AUTOCLEAR } };
	int r = fault_point("loop-device");

	if (r < 0)
		return error_set_errno(err, -r, "%s: cannot make a loop device", file);
	if (backing < 0)
		return error_set_errno(err, errno, "%s: cannot open", file);
	if (control < 0)
		return error_set_errno(err, errno, "/dev/loop-control: cannot open");
	config.fd = (uint32_t)backing;
	if (read_only)
		config.info.lo_flags |= LO_FLAGS_READ_ONLY;
	if (flags & LOOP_DIRECT)
		config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
	for (int i = 0; i < TRIES_MAX; i++) {
		r = attach_one(control, &config, read_only, ret_node);
		if (r != -EBUSY)
			break;
	}
	return r < 0 ? error_set_errno(err, -r, "%s: cannot make a loop device", file) : r;
}
