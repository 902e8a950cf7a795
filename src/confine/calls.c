#include "confine/calls.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "base/memory.h"

/* What a C library, an allocator and a sanitizer need to compute, read and write. */
static const int plain[] = {
	SCMP_SYS(read),        SCMP_SYS(write),        SCMP_SYS(writev),       SCMP_SYS(close),
	SCMP_SYS(fstat),       SCMP_SYS(lseek),        SCMP_SYS(munmap),       SCMP_SYS(mremap),
	SCMP_SYS(brk),         SCMP_SYS(madvise),      SCMP_SYS(futex),        SCMP_SYS(exit),
	SCMP_SYS(exit_group),  SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(sigaltstack), SCMP_SYS(getrandom),    SCMP_SYS(gettimeofday), SCMP_SYS(clock_gettime),
	SCMP_SYS(getpid),      SCMP_SYS(gettid),       SCMP_SYS(sched_yield),  SCMP_SYS(restart_syscall),
};

static int allow(scmp_filter_ctx ctx, const int *calls, size_t n)
{
	int r = 0;

	for (size_t i = 0; r >= 0 && i < n; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, calls[i], 0);
	return r;
}

int confine_calls(const int *more, size_t n)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = ctx ? allow(ctx, plain, ARRAY_SIZE(plain)) : -ENOMEM;

	if (r >= 0)
		r = allow(ctx, more, n);
	if (r >= 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1, SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	if (r >= 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				     SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
	/* fstat(3) of today's C library. */
	if (r >= 0)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(newfstatat), 1,
				     SCMP_A3(SCMP_CMP_MASKED_EQ, AT_EMPTY_PATH, AT_EMPTY_PATH));
	if (r >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		r = -errno;
	if (r >= 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}
