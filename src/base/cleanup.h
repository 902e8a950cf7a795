/* Scope-bound ownership: a variable marked with one of these releases what it holds when it goes out of scope. */
#pragma once

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(fn)       __attribute__((cleanup(fn)))
#define _printf_(fmt, args) __attribute__((format(printf, fmt, args)))
#define _unused_            __attribute__((unused))
#define _noreturn_          __attribute__((noreturn))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Moves a pointer or a descriptor out of @x, leaving nothing behind. */
#define TAKE_PTR(x)                               \
	({                                        \
		__typeof__(&(x)) _take_p = &(x);  \
		__typeof__(x) _take_v = *_take_p; \
		*_take_p = NULL;                  \
		_take_v;                          \
	})
#define TAKE_FD(x)                      \
	({                              \
		int *_take_p = &(x);    \
		int _take_v = *_take_p; \
		*_take_p = -EBADF;      \
		_take_v;                \
	})

static inline void cleanup_free(void *p)
{
	free(*(void **)p);
}

/* Closes @fd when it is one; keeps errno. Returns -EBADF, for `fd = safe_close(fd)`. close(2) is never retried on EINTR:
 * on Linux the descriptor is gone by then. */
static inline int safe_close(int fd)
{
	if (fd >= 0) {
		int saved = errno;

		(void)close(fd);
		errno = saved;
	}
	return -EBADF;
}

static inline void cleanup_close(int *fd)
{
	*fd = safe_close(*fd);
}

#define _cleanup_free_  _cleanup_(cleanup_free)
#define _cleanup_close_ _cleanup_(cleanup_close)

/* Defines FUNCp(), usable in _cleanup_(), for a destructor that takes the pointer and accepts NULL. */
#define DEFINE_CLEANUP(type, func)          \
	static inline void func##p(type *p) \
	{                                   \
		func(*p);                   \
		*p = NULL;                  \
	}                                   \
	struct cleanup_needs_semicolon
