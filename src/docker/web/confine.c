#include "docker/web/confine.h"

#include <errno.h>
#include <grp.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/memory.h"
#include "confine/calls.h"

int confine_descriptors(unsigned keep, unsigned fds_max, struct error *err)
{
	static const struct rlimit none = {};
	const struct rlimit fds = { fds_max, fds_max };

	if (syscall(SYS_close_range, STDERR_FILENO + 1 + keep, ~0U, 0U) < 0 || setrlimit(RLIMIT_NOFILE, &fds) < 0 ||
	    setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_NPROC, &none) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return error_set_errno(err, errno, "cannot confine this process");
	return 0;
}

int confine_user(uid_t uid, struct error *err)
{
	if (geteuid() != 0)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0 ||
	    /* Which the change of user has cleared. */
	    prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0)
		return error_set_errno(err, errno, "cannot become another user");
	return 0;
}

int confine_to_sockets(struct error *err)
{
	static const int more[] = {
		SCMP_SYS(readv),      SCMP_SYS(recvfrom),    SCMP_SYS(recvmsg),     SCMP_SYS(sendto),
		SCMP_SYS(sendmsg),    SCMP_SYS(accept4),     SCMP_SYS(shutdown),    SCMP_SYS(poll),
		SCMP_SYS(ppoll),      SCMP_SYS(fcntl),       SCMP_SYS(ioctl),       SCMP_SYS(setsockopt),
		SCMP_SYS(getsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername), SCMP_SYS(time),
	};
	int r = confine_calls(more, ARRAY_SIZE(more));

	return r < 0 ? error_set_errno(err, r, "cannot confine this process") : 0;
}
