#include "shim/host_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/file.h"
#include "base/memory.h"

int host_socket_open(const char *path, struct stat *ret)
{
	_cleanup_close_ int fd = open_no_symlinks(AT_FDCWD, path, O_PATH);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISSOCK(st.st_mode))
		return -ENOTSOCK;
	if (ret)
		*ret = st;
	return TAKE_FD(fd);
}

char *host_socket_find(const char *source)
{
	_cleanup_free_ char *path = realpath(source, NULL);
	_cleanup_close_ int fd = path ? host_socket_open(path, NULL) : -EBADF;

	return fd < 0 ? NULL : TAKE_PTR(path);
}

int host_socket_connect(int fd, const char *path)
{
	_cleanup_close_ int there = host_socket_open(path, NULL);
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (there < 0)
		return there;
	/* What was looked at, and not what its name is by now. */
	(void)snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d", there);
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -errno : 0;
}
