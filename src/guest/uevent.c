#include "guest/uevent.h"

#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/cleanup.h"

int uevent_open(void)
{
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	_cleanup_close_ int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);

	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		return -errno;
	return TAKE_FD(fd);
}

int uevent_drain(int fd, const char *part)
{
	char message[4096];
	bool found = false;
	ssize_t n;

	/* The first string of a message is "ACTION@/devices/…". */
	while ((n = recv(fd, message, sizeof(message) - 1, MSG_DONTWAIT)) > 0) {
		message[n] = '\0';
		found |= strstr(message, part) != NULL;
	}
	return found || (n < 0 && errno == ENOBUFS);
}

int uevent_wait(int fd, const char *part, uint64_t deadline_ns)
{
	while (!uevent_drain(fd, part)) {
		struct pollfd p = { .fd = fd, .events = POLLIN };

		if (poll(&p, 1, clock_poll_timeout(deadline_ns)) == 0)
			return -ETIMEDOUT;
	}
	return 0;
}
