#include <fcntl.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "shim/console_tail.h"
#include "test.h"

static char *tail_of(const void *text, size_t n)
{
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(file_write_at(dir, "console.log", text, n, 0600, 0));
	return console_tail_read(dir);
}

TEST(a_panic_is_told_in_the_kernels_words)
{
	static const char text[] = "[    1.6] general protection fault: 0000 [#1] SMP NOPTI\r\n"
				   "[    1.7] Kernel panic - not syncing: Fatal exception in interrupt\r\n"
				   "[    1.8] Kernel Offset: disabled\r\n";
	_cleanup_free_ char *tail = tail_of(text, sizeof(text) - 1), *panic = console_tail_panic(tail);

	ASSERT_STREQ(panic, "Fatal exception in interrupt");
	console_tail_log(tail, "c1");
}

TEST(a_console_without_a_panic_has_none)
{
	_cleanup_free_ char *tail = tail_of("login: \n\n", 9);
	_cleanup_close_ int dir = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT(tail && !console_tail_panic(tail));
	ASSERT_OK(unlinkat(dir, "console.log", 0) < 0 ? -errno : 0);
	ASSERT(!console_tail_read(dir));
	free(TAKE_PTR(tail));
	tail = tail_of("", 0);
	ASSERT(!tail);
}

TEST(what_a_guest_writes_is_bounded_and_printable)
{
	_cleanup_buf_ struct buf b = {};
	_cleanup_free_ char *tail = NULL, *panic = NULL;

	for (int i = 0; i < 100000; i++)
		buf_addc(&b, 'x');
	buf_adds(&b, "\nKernel panic - not syncing: \033[2J");
	buf_add(&b, "\0\377", 2);
	for (int i = 0; i < 1000; i++)
		buf_addc(&b, 'y');
	tail = tail_of(b.p, b.len);
	ASSERT_EQ(strlen(tail), 8192);
	panic = console_tail_panic(tail);
	ASSERT_EQ(strlen(panic), 120);
	for (const char *p = panic; *p; p++)
		ASSERT(*p >= ' ' && *p <= '~');
	console_tail_log(tail, "c1");
}
