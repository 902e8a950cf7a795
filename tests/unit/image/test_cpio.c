#include "image/cpio.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "test.h"

static void make(struct buf *out)
{
	struct cpio c;

	cpio_begin(&c, out);
	ASSERT_OK(cpio_add(&c, "dev", S_IFDIR | 0755, NULL, 0));
	ASSERT_OK(cpio_add_device(&c, "dev/console", S_IFCHR | 0600, 5, 1));
	ASSERT_OK(cpio_add(&c, "init", S_IFREG | 0755, "#!\n12", 5));
	ASSERT_OK(cpio_add(&c, "link", S_IFLNK | 0777, "init", 4));
	ASSERT_OK(cpio_add(&c, "empty", S_IFREG | 0644, NULL, 0));
	cpio_end(&c);
}

TEST(equal_input_gives_equal_bytes_in_whole_blocks)
{
	_cleanup_buf_ struct buf a = {}, b = {};

	make(&a);
	make(&b);
	ASSERT_EQ(a.len, b.len);
	ASSERT_MEMEQ(a.p, b.p, a.len);
	ASSERT_EQ(a.len % 512, 0);
	ASSERT_MEMEQ(a.p, "070701", 6);
}

TEST(cpio_reads_what_was_written)
{
	_cleanup_buf_ struct buf archive = {}, list = {};
	const char *argv[] = { "cpio", "-itv", "--quiet", NULL };
	_cleanup_free_ char *program = program_find("cpio");
	struct spawn s = SPAWN_INIT;
	int status;

	if (!program)
		test_skip("no cpio");
	/* It lists times as they are here. */
	setenv("TZ", "UTC", 1);
	make(&archive);
	s.argv = argv;
	ASSERT_OK(spawn_run(&s, &archive, &list, NULL, 65536, 0, &status, NULL));
	ASSERT_EQ(status, 0);
	ASSERT_CONTAINS(list.p, "crw-------   1 root     root       5,   1 Jan  1  1970 dev/console");
	ASSERT_CONTAINS(list.p, "-rwxr-xr-x   1 root     root            5 Jan  1  1970 init");
	ASSERT_CONTAINS(list.p, "link -> init");
}

TEST(names_and_types_that_do_not_fit_are_refused)
{
	_cleanup_buf_ struct buf out = {};
	_cleanup_free_ char *long_name = xcalloc(1, 5000);
	struct cpio c;

	memset(long_name, 'n', 4999);
	cpio_begin(&c, &out);
	ASSERT_EQ(cpio_add(&c, "", S_IFREG | 0644, NULL, 0), -EINVAL);
	ASSERT_EQ(cpio_add(&c, "/init", S_IFREG | 0644, NULL, 0), -EINVAL);
	ASSERT_EQ(cpio_add(&c, long_name, S_IFREG | 0644, NULL, 0), -EINVAL);
	ASSERT_EQ(cpio_add(&c, "d", S_IFDIR | 0755, "x", 1), -EINVAL);
	ASSERT_EQ(cpio_add_device(&c, "f", S_IFREG | 0644, 1, 1), -EINVAL);
	ASSERT_EQ(out.len, 0);
}
