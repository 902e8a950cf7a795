#include "base/memory.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <sys/wait.h>

#include "test.h"

/* Under AddressSanitizer, too large is NULL, as it is without. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "allocator_may_return_null=1";
}

/* Runs @fn in a child whose standard error is closed; returns the signal that ended it. */
static int dies_by(void (*fn)(void))
{
	pid_t pid = fork();
	int status;

	ASSERT(pid >= 0);
	if (pid == 0) {
		close(STDERR_FILENO);
		fn();
		_exit(0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void overflow(void)
{
	(void)xrealloc_array(NULL, SIZE_MAX / 2, 3);
}

TEST(an_overflowing_size_aborts)
{
	ASSERT_EQ(dies_by(overflow), SIGABRT);
}

TEST(memory_is_zeroed_and_never_null)
{
	_cleanup_free_ char *p = xcalloc(16, 4), *none = xcalloc(0, 8);

	for (int i = 0; i < 64; i++)
		ASSERT_EQ(p[i], 0);
	ASSERT(none);
}

TEST(strings_are_copied)
{
	_cleanup_free_ char *a = xstrdup("abc"), *b = xstrndup("abcdef", 3), *c = xstrndup("ab", 10),
			    *d = xasprintf("%d-%s", 7, "x");
	_cleanup_free_ char *m = xmemdup("a\0b", 3);

	ASSERT_STREQ(a, "abc");
	ASSERT_STREQ(b, "abc");
	ASSERT_STREQ(c, "ab");
	ASSERT_STREQ(d, "7-x");
	ASSERT_MEMEQ(m, "a\0b", 3);
	ASSERT(!xstrdup(NULL));
}

TEST(try_alloc_keeps_to_the_limit)
{
	void *p = NULL;

	ASSERT_EQ(try_alloc(101, 100, &p), -E2BIG);
	ASSERT(!p);
	ASSERT_OK(try_alloc(100, 100, &p));
	ASSERT_EQ(((char *)p)[99], 0);
	free(p);
	p = NULL;
	ASSERT_OK(try_alloc(0, 100, &p));
	ASSERT(p);
	free(p);
	ASSERT_EQ(try_alloc(SIZE_MAX / 2, SIZE_MAX, &p), -ENOMEM);
}

TEST(a_vector_grows_and_stays_terminated)
{
	_cleanup_strv_ struct strv v = {};

	for (int i = 0; i < 1000; i++) {
		strv_addf(&v, "%d", i);
		ASSERT_EQ(v.n, i + 1);
		ASSERT(!v.items[v.n]);
	}
	ASSERT_STREQ(v.items[0], "0");
	ASSERT_STREQ(v.items[999], "999");
	ASSERT(strv_has(&v, "512"));
	ASSERT(!strv_has(&v, "1000"));
	strv_done(&v);
	ASSERT(!v.items && !v.n);
}

TEST(a_vector_can_be_appended_to_itself)
{
	_cleanup_strv_ struct strv v = {};

	strv_add(&v, "a");
	strv_take(&v, xstrdup("b"));
	strv_copy(&v, &v);
	ASSERT_EQ(v.n, 4);
	ASSERT_STREQ(v.items[2], "a");
	ASSERT_STREQ(v.items[3], "b");
}

TEST(after_prefix_gives_the_rest)
{
	ASSERT_STREQ(after_prefix("net=user", "net="), "user");
	ASSERT(!after_prefix("ne", "net="));
	ASSERT_STREQ(after_prefix("abc", ""), "abc");
}

TEST(take_leaves_nothing_behind)
{
	char *p = xstrdup("x");
	_cleanup_free_ char *q = TAKE_PTR(p);
	int fd = 42, other = TAKE_FD(fd);

	ASSERT(!p && q);
	ASSERT_EQ(fd, -EBADF);
	ASSERT_EQ(other, 42);
}

TEST(safe_close_keeps_errno)
{
	errno = ENOSPC;
	ASSERT_EQ(safe_close(9999), -EBADF);
	ASSERT_EQ(errno, ENOSPC);
	ASSERT_EQ(safe_close(-1), -EBADF);
}
