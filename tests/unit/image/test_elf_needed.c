#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "image/elf_needed.h"
#include "test.h"

static char *write_file(const char *name, const void *p, size_t n)
{
	char *path = xasprintf("%s/%s", test_tmpdir(), name);
	_cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ASSERT_OK(write_full(fd, p, n));
	return path;
}

TEST(a_programs_loader_and_libraries_are_found)
{
	_cleanup_strv_ struct strv files = {};
	bool libc = false, loader = false;

	ASSERT_OK(elf_needed("/proc/self/exe", &files, NULL));
	for (size_t i = 0; i < files.n; i++) {
		ASSERT_EQ(files.items[i][0], '/');
		ASSERT_OK(access(files.items[i], R_OK));
		libc = libc || strstr(files.items[i], "/libc.so.6");
		loader = loader || strstr(files.items[i], "/ld-linux-x86-64.so.2");
	}
	ASSERT(libc && loader);
}

TEST(what_is_no_program_is_refused)
{
	_cleanup_strv_ struct strv files = {};
	_cleanup_free_ char *text = write_file("text", "#!/bin/sh\n", 10), *empty = write_file("empty", "", 0);
	_cleanup_error_ struct error e = {};

	ASSERT_EQ(elf_needed(text, &files, &e), -EINVAL);
	ASSERT_CONTAINS(e.msg, "text");
	ASSERT(elf_needed(empty, &files, NULL) < 0);
	ASSERT_EQ(elf_needed("/nonexistent", &files, NULL), -ENOENT);
}

/* Every byte of the headers is turned over once, and the file is cut at many places: an answer or an error, nothing else. */
TEST(damaged_programs_are_refused_or_read)
{
	_cleanup_buf_ struct buf program = {};
	/* In memory: a thousand files cost a busy disk half a minute. */
	_cleanup_close_ int fd = memfd_create("damaged", MFD_CLOEXEC);
	_cleanup_free_ char *path = xasprintf("/proc/self/fd/%d", fd);
	unsigned read = 0;

	ASSERT_OK(fd);
	ASSERT_OK(file_read_at(AT_FDCWD, "/proc/self/exe", 64 << 20, &program));
	for (size_t i = 0; i < 1024; i++) {
		_cleanup_buf_ struct buf head = {};
		_cleanup_strv_ struct strv files = {};

		buf_add(&head, program.p, program.len < 65536 ? program.len : 65536);
		head.p[i] = (char)~head.p[i];
		ASSERT_OK(ftruncate(fd, 0));
		ASSERT_OK(pwrite_full(fd, head.p, i % 2 ? head.len : i + 1, 0));
		read += elf_needed(path, &files, NULL) >= 0;
	}
	ASSERT(read > 0);
}
