/* Preloaded into a program of ours: makes its Nth system call that can fail do so, once.
 *
 * SKERRY_FAILCALL="PROGRAM:N" counts, in processes whose executable is named PROGRAM, the calls of the functions below and fails the Nth with an
 * errno that is usual for it. SKERRY_FAILCALL_LOG=PATH: the call that was failed is appended there ("N function errno"), so that whoever
 * drives this sees when N has passed the last one. Programs that are run by ours are let alone (the name differs). */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static long fail_at = -1, counted;
static int log_fd = -1;

__attribute__((constructor)) static void setup(void)
{
	const char *spec = getenv("SKERRY_FAILCALL"), *log = getenv("SKERRY_FAILCALL_LOG"), *colon;
	char exe[512];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
	const char *base;

	if (!spec || n <= 0 || !(colon = strrchr(spec, ':')))
		return;
	exe[n] = '\0';
	base = strrchr(exe, '/');
	base = base ? base + 1 : exe;
	if (strlen(base) != (size_t)(colon - spec) || strncmp(base, spec, (size_t)(colon - spec)) != 0)
		return;
	if (log) {
		log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		/* Out of the way of descriptors that are passed by number. */
		if (log_fd >= 0)
			log_fd = fcntl(log_fd, F_DUPFD_CLOEXEC, 900);
	}
	fail_at = strtol(colon + 1, NULL, 10); /* lint: a digit string of ours */
}

static int should_fail(const char *function, int num)
{
	char line[96];
	int n;

	if (fail_at < 0 || ++counted != fail_at)
		return 0;
	n = snprintf(line, sizeof(line), "%ld %s %s\n", counted, function, strerrorname_np(num));
	if (log_fd >= 0)
		syscall(SYS_write, log_fd, line, (size_t)n);
	errno = num;
	return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(type, name, params, args, num)                            \
	__attribute__((visibility("default"))) type name params        \
	{                                                              \
		static __typeof__(&name) real;                         \
		if (!real)                                             \
			real = REAL(name);                             \
		return should_fail(#name, num) ? (type)-1 : real args; \
	}

static int mode_needed(int flags)
{
	return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
}

#define OPEN_BODY(name, ...)               \
	static __typeof__(&name) real;     \
	mode_t mode = 0;                   \
	va_list ap;                        \
	if (!real)                         \
		real = REAL(name);         \
	va_start(ap, flags);               \
	if (mode_needed(flags))            \
		mode = va_arg(ap, mode_t); \
	va_end(ap);                        \
	return should_fail(#name, EMFILE) ? -1 : real(__VA_ARGS__, flags, mode);

__attribute__((visibility("default"))) int open(const char *path, int flags, ...)
{
	OPEN_BODY(open, path)
}
__attribute__((visibility("default"))) int openat(int dir, const char *path, int flags, ...){
	OPEN_BODY(openat, dir, path)
} WRAP(ssize_t, write, (int fd, const void *p, size_t n), (fd, p, n),
       ENOSPC) WRAP(ssize_t, pwrite, (int fd, const void *p, size_t n, off_t o), (fd, p, n, o),
		    ENOSPC) WRAP(ssize_t, pread, (int fd, void *p, size_t n, off_t o), (fd, p, n, o), EIO)
	WRAP(int, fsync, (int fd), (fd), EIO) WRAP(int, ftruncate, (int fd, off_t n), (fd, n), ENOSPC)
		WRAP(int, mkdirat, (int d, const char *p, mode_t m), (d, p, m),
		     ENOSPC) WRAP(int, renameat, (int a, const char *b, int c, const char *d), (a, b, c, d),
				  EIO) WRAP(int, linkat, (int a, const char *b, int c, const char *d, int e),
					    (a, b, c, d, e),
					    EIO) WRAP(int, unlinkat, (int d, const char *p, int f), (d, p, f),
						      EIO) WRAP(int, fchmod, (int fd, mode_t m), (fd, m), EPERM)
			WRAP(int, fchmodat, (int d, const char *p, mode_t m, int f), (d, p, m, f),
			     EPERM) WRAP(int, socket, (int a, int b, int c), (a, b, c), EMFILE)
				WRAP(int, socketpair, (int a, int b, int c, int d[2]), (a, b, c, d),
				     EMFILE) WRAP(int, bind, (int s, const struct sockaddr *a, socklen_t n), (s, a, n),
						  EADDRINUSE) WRAP(int, listen, (int s, int n), (s, n), EADDRINUSE)
					WRAP(int, connect, (int s, const struct sockaddr *a, socklen_t n), (s, a, n),
					     ECONNREFUSED) WRAP(int, accept4,
								(int s, struct sockaddr *a, socklen_t *n, int f),
								(s, a, n, f), EMFILE)
						WRAP(int, pipe2, (int p[2], int f), (p, f), EMFILE)
							WRAP(int, flock, (int fd, int op), (fd, op),
							     ENOLCK) extern int memfd_create(const char *, unsigned);
WRAP(int, memfd_create, (const char *n, unsigned f), (n, f), EMFILE)
extern int epoll_create1(int);
WRAP(int, epoll_create1, (int f), (f), EMFILE)
struct epoll_event;
extern int epoll_ctl(int, int, int, struct epoll_event *);
WRAP(int, epoll_ctl, (int e, int o, int f, struct epoll_event *v), (e, o, f, v), ENOSPC)
extern int timerfd_create(int, int);
WRAP(int, timerfd_create, (int c, int f), (c, f), EMFILE)
extern ssize_t getrandom(void *, size_t, unsigned);

/* clone3, renameat2, openat2, pidfd_open and their like come through here. */
__attribute__((visibility("default"))) long syscall(long number, ...)
{
	static long (*real)(long, ...);
	long a[6];
	va_list ap;

	if (!real)
		real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
	va_start(ap, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_clone3 && should_fail("clone3", EAGAIN))
		return -1;
	if (number == SYS_renameat2 && should_fail("renameat2", EIO))
		return -1;
	if (number == SYS_openat2 && should_fail("openat2", EMFILE))
		return -1;
	if (number == SYS_pidfd_open && should_fail("pidfd_open", EMFILE))
		return -1;
	return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
