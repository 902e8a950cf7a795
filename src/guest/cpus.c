#include "guest/cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/memory.h"

enum { CPUS_MAX = 4096 };

/* 1 on, 0 off, <0 there is none. */
static int state(int root_fd, uint32_t n, int *ret_fd)
{
	_cleanup_free_ char *directory = xasprintf("cpu%u", n), *path = xasprintf("cpu%u/online", n);
	char c;

	*ret_fd = openat(root_fd, path, O_RDWR | O_CLOEXEC);
	if (*ret_fd < 0 && errno == ENOENT)
		return faccessat(root_fd, directory, F_OK, 0) < 0 ? -errno : 1;
	if (*ret_fd < 0)
		return -errno;
	return pread(*ret_fd, &c, 1, 0) == 1 && c == '1';
}

int cpus_set_online(int root_fd, uint32_t want, uint32_t *ret_online)
{
	uint32_t online = 0, wanted = 0;
	int first = 0;

	for (uint32_t n = 0; n < CPUS_MAX; n++) {
		_cleanup_close_ int fd = -EBADF;
		int now = state(root_fd, n, &fd);
		bool on = wanted < want || n == 0;

		if (now == -ENOENT)
			break;
		if (fd >= 0 && now >= 0 && now != on) {
			if (pwrite(fd, on ? "1" : "0", 1, 0) == 1)
				now = on;
			else if (first == 0)
				first = -errno;
		} else if (now < 0 && first == 0) {
			first = now;
		}
		online += now == 1;
		wanted += now == 1;
	}
	*ret_online = online;
	return first;
}
