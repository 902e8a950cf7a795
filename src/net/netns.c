#include "net/netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/nsfs.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/fault.h"
#include "net/rtnetlink.h"

enum { LOOPBACK_INDEX = 1 };

static bool is_netns(int fd)
{
	return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET;
}

int netns_open(const char *path, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return error_set_errno(err, errno, "network namespace '%s'", path);
	if (!is_netns(fd))
		return error_set_kind(err, ERROR_CONFIG, EINVAL, "'%s' is no network namespace", path);
	return TAKE_FD(fd);
}

bool netns_is_own(const char *path)
{
	struct stat theirs, own;

	return stat(path, &theirs) == 0 && stat("/proc/self/ns/net", &own) == 0 && theirs.st_dev == own.st_dev &&
	       theirs.st_ino == own.st_ino;
}

/* In a child: the namespace is the child's own, and stays by the mount alone. */
static int mount_new(const char *path)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid == 0) {
		if (unshare(CLONE_NEWNET) < 0 || mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL) < 0)
			_exit(errno < 255 ? errno : EIO);
		_exit(0);
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return !WIFEXITED(status) ? -EIO : -WEXITSTATUS(status);
}

static int bring_up_loopback(const char *path, struct error *err)
{
	const struct ifinfomsg link = { .ifi_index = LOOPBACK_INDEX, .ifi_flags = IFF_UP, .ifi_change = IFF_UP };
	_cleanup_rtnetlink_ struct rtnetlink n = { .fd = -EBADF };
	_cleanup_close_ int ns = netns_open(path, err);
	struct netlink_request q;
	int r = ns < 0 ? ns : rtnetlink_open(ns, &n, NULL, err);

	if (r < 0)
		return r;
	netlink_begin(&q, RTM_NEWLINK, 0, &link, sizeof(link));
	r = rtnetlink_do(&n, &q);
	return r < 0 ? rtnetlink_refused(&n, err, -r, "cannot bring up the loopback of '%s'", path) : 0;
}

int netns_make(const char *path, struct error *err)
{
	_cleanup_close_ int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0444);
	struct stat st;
	int r;

	if (fd < 0)
		return error_set_errno(err, errno, "cannot make network namespace '%s'", path);
	if (!is_netns(fd)) {
		if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) || st.st_size > 0)
			return error_set(err, EEXIST, "'%s' exists and is no network namespace", path);
		r = fault_point("netns.file");
		if (r == 0)
			r = mount_new(path);
		if (r == 0)
			r = fault_point("netns.mounted");
		if (r < 0) {
			(void)netns_remove(path, NULL);
			return error_set_errno(err, -r, "cannot make network namespace '%s'", path);
		}
	}
	return bring_up_loopback(path, err);
}

int netns_remove(const char *path, struct error *err)
{
	int r = fault_point("netns.remove");

	if (r < 0)
		return error_set_errno(err, -r, "cannot remove network namespace '%s'", path);
	/* Twice, where two makers met. EINVAL: nothing is mounted there. */
	while (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) == 0)
		;
	if (errno != EINVAL && errno != ENOENT)
		return error_set_errno(err, errno, "cannot remove network namespace '%s'", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return error_set_errno(err, errno, "cannot remove '%s'", path);
	return 0;
}
