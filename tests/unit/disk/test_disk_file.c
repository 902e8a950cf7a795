#include "disk/disk_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "disk/qcow2.h"
#include "test.h"

enum { DISK_BYTES = 4 << 20 };

static int directory(void)
{
	int fd = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(fd);
	return fd;
}

static void run(const char *const *argv)
{
	_cleanup_free_ char *program = program_find(argv[0]);
	_cleanup_error_ struct error e = {};
	struct spawn sp = SPAWN_INIT;

	if (!program)
		test_skip("no %s", argv[0]);
	sp.argv = argv;
	sp.cwd = test_tmpdir();
	if (spawn_check(&sp, NULL, NULL, 4096, 0, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
}

#define RUN(...) run((const char *const[]){ __VA_ARGS__, NULL })

/* A raw disk with a boot sector's mark and something in its middle. */
static void make_raw(int dir)
{
	_cleanup_close_ int fd = openat(dir, "raw", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	ASSERT_OK(ftruncate(fd, DISK_BYTES));
	ASSERT_OK(pwrite_full(fd, "\x55\xaa", 2, 510));
	ASSERT_OK(pwrite_full(fd, "content", 7, DISK_BYTES / 2));
}

static enum disk_file_kind kind_of(int dir, const char *name, int *ret_fd)
{
	char head[DISK_FILE_HEAD] = {};
	ssize_t n;

	*ret_fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
	ASSERT_OK(*ret_fd);
	n = pread(*ret_fd, head, sizeof(head), 0);
	ASSERT_OK(n);
	return disk_file_recognise(head, (size_t)n);
}

static int convert(int dir, const char *name, uint64_t *ret_bytes, struct error *err)
{
	_cleanup_close_ int fd = -EBADF;
	enum disk_file_kind kind = kind_of(dir, name, &fd);

	(void)unlinkat(dir, "out.qcow2", 0);
	return disk_file_convert(fd, kind, name, dir, "out.qcow2", test_tmpdir(), ret_bytes, err);
}

TEST(every_format_becomes_the_same_disk)
{
	static const char *const formats[][3] = {
		{ "qcow2", "qcow2", "-c" },
		{ "vmdk", "vmdk", "-osubformat=streamOptimized" },
		{ "vmdk", "vmdk", "-osubformat=monolithicSparse" },
		{ "vhdx", "vhdx", "-osubformat=dynamic" },
		{ "vdi", "vdi", "-ostatic=off" },
		{ "qcow2", "qcow2", "-ocompat=0.10" },
	};
	_cleanup_close_ int dir = directory();
	uint64_t bytes = 0;

	make_raw(dir);
	ASSERT_OK(convert(dir, "raw", &bytes, NULL));
	ASSERT_EQ(bytes, DISK_BYTES);
	RUN("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "raw", "out.qcow2");
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		_cleanup_close_ int fd = -EBADF;
		struct stat st;

		RUN("qemu-img", "convert", "-f", "raw", "-O", formats[i][0], formats[i][2], "raw", "other");
		ASSERT_STREQ(disk_file_name(kind_of(dir, "other", &fd)), formats[i][1]);
		ASSERT_OK(convert(dir, "other", &bytes, NULL));
		ASSERT_EQ(bytes, DISK_BYTES);
		RUN("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "raw", "out.qcow2");
		ASSERT_OK(fstatat(dir, "out.qcow2", &st, 0));
		ASSERT_EQ(st.st_uid, geteuid());
		ASSERT_EQ(st.st_mode & 0777, 0600);
		ASSERT_OK(unlinkat(dir, "other", 0));
	}
}

TEST(a_private_file_is_read_all_the_same)
{
	_cleanup_close_ int dir = directory();
	uint64_t bytes = 0;

	make_raw(dir);
	ASSERT_OK(fchmodat(dir, "raw", 0600, 0));
	ASSERT_OK(convert(dir, "raw", &bytes, NULL));
	RUN("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "raw", "out.qcow2");
	ASSERT(faccessat(dir, "input", F_OK, 0) < 0);
}

static void refused(int dir, const char *part)
{
	_cleanup_error_ struct error e = {};
	uint64_t bytes;

	ASSERT_EQ(convert(dir, "x", &bytes, &e), -EBADMSG);
	ASSERT_CONTAINS(e.msg, part);
	ASSERT_EQ(error_exit_status(&e), 65);
	(void)unlinkat(dir, "x", 0);
}

TEST(what_refers_to_another_file_is_refused)
{
	_cleanup_close_ int dir = directory();

	make_raw(dir);
	RUN("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", "-u", "x", "4M");
	refused(dir, "the backing file '/etc/shadow'");
	RUN("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=raw,data_file_raw=on", "x", "4M");
	refused(dir, "an external data file");
	RUN("qemu-img", "create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", "x", "4M");
	refused(dir, "files beside it");
	RUN("qemu-img", "create", "-q", "-f", "vmdk", "x", "4M");
	RUN("mv", "x", "base.vmdk");
	RUN("qemu-img", "create", "-q", "-f", "vmdk", "-F", "vmdk", "-b", "base.vmdk", "x");
	refused(dir, "the backing file");
}

TEST(a_header_inside_a_raw_disk_is_content)
{
	_cleanup_close_ int dir = directory(), fd = -EBADF;
	uint64_t bytes = 0;

	/* What a guest that is root can write to its own disk. */
	RUN("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "/etc/shadow", "-u", "raw", "4M");
	fd = openat(dir, "raw", O_RDWR | O_CLOEXEC);
	ASSERT_OK(ftruncate(fd, DISK_BYTES));
	ASSERT_OK(disk_file_convert(fd, DISK_FILE_RAW, "raw", dir, "out.qcow2", test_tmpdir(), &bytes, NULL));
	ASSERT_EQ(bytes, DISK_BYTES);
	RUN("qemu-img", "compare", "-f", "raw", "-F", "qcow2", "raw", "out.qcow2");
}

TEST(damage_is_bad_data)
{
	_cleanup_close_ int dir = directory();

	ASSERT_OK(file_write_at(dir, "x", "QFI\xfb\0\0\0\3", 8, 0644, 0));
	refused(dir, "x: ");
	ASSERT_OK(file_write_at(dir, "x", "vhdxfilexxxxxxxxxxxxxx", 20, 0644, 0));
	refused(dir, "x: ");
	ASSERT_OK(file_write_at(dir, "x", "KDMVxxxxxxxx", 12, 0644, 0));
	refused(dir, "x: ");
	ASSERT_OK(file_write_at(dir, "x", "just text", 9, 0644, 0));
	refused(dir, "no disk image that is known here");
	ASSERT_OK(file_write_at(dir, "x", "", 0, 0644, 0));
	refused(dir, "no disk image that is known here");
	/* A length that ends within a table. */
	make_raw(dir);
	RUN("qemu-img", "convert", "-f", "raw", "-O", "qcow2", "raw", "x");
	RUN("truncate", "-s", "100K", "x");
	refused(dir, "x: ");
}

TEST(a_download_that_was_cut_is_told)
{
	static const char *const formats[] = { "qcow2", "vmdk", "vhdx", "vdi", "raw" };
	_cleanup_close_ int dir = directory();

	RUN("dd", "if=/dev/urandom", "of=source", "bs=1M", "count=4", "status=none");
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		_cleanup_error_ struct error e = {};
		_cleanup_close_ int fd = -EBADF;
		uint64_t bytes;
		struct stat st;

		/* The end of the last block need not be in the file. */
		RUN("qemu-img", "convert", "-f", "raw", "-O", formats[i],
		    streq(formats[i], "vhdx") ? "-oblock_size=1048576" : "-q", "source", "x");
		if (streq(formats[i], "raw")) {
			/* The table of a disk of 4 MiB. */
			fd = openat(dir, "x", O_RDWR | O_CLOEXEC);
			ASSERT_OK(pwrite_full(fd, "EFI PART", 8, 512));
			ASSERT_OK(pwrite_full(fd, "\xff\x1f\0\0\0\0\0\0", 8, 512 + 32));
			fd = safe_close(fd);
		}
		ASSERT_OK(convert(dir, "x", &bytes, &e));
		fd = openat(dir, "x", O_RDWR | O_CLOEXEC);
		ASSERT_OK(fstat(fd, &st));
		ASSERT_OK(ftruncate(fd, st.st_size * 3 / 4));
		if (convert(dir, "x", &bytes, &e) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "%s: not told", formats[i]);
		ASSERT_EQ(error_exit_status(&e), 65);
		(void)unlinkat(dir, "x", 0);
	}
}

TEST(a_size_that_no_disk_has_is_refused)
{
	_cleanup_close_ int dir = directory(), fd = -EBADF;

	RUN("qemu-img", "create", "-q", "-f", "qcow2", "x", "4M");
	fd = openat(dir, "x", O_RDWR | O_CLOEXEC);
	ASSERT_OK(pwrite_full(fd, "\x00\xff\xff\xff\xff\xff\xff\xff", 8, 24));
	refused(dir, "x: ");
}

TEST(an_installer_is_told_from_a_disk)
{
	char head[DISK_FILE_HEAD] = {};

	memcpy(head + 32769, "CD001", 5);
	memcpy(head + 510, "\x55\xaa", 2);
	ASSERT_EQ(disk_file_recognise(head, sizeof(head)), DISK_FILE_ISO);
	ASSERT_EQ(disk_file_recognise(head, 512), DISK_FILE_RAW);
	ASSERT_EQ(disk_file_recognise(head, 511), DISK_FILE_NONE);
	ASSERT_EQ(disk_file_recognise(head, 0), DISK_FILE_NONE);
}

/* libarchive knows programs that unpack such files, and would run what it finds in PATH. */
TEST(no_program_is_run_to_unpack)
{
	static const char packed[64] = "LRZI\0\6", script[] = "#!/bin/sh\ntouch \"$0.ran\"\ncat\n";
	_cleanup_close_ int dir = directory(), to = openat(dir, "plain", O_RDWR | O_CREAT | O_CLOEXEC, 0600),
			    fd = -EBADF;
	_cleanup_free_ char *path = xasprintf("%s:%s", test_tmpdir(), getenv("PATH"));

	ASSERT_OK(file_write_at(dir, "lrzip", script, strlen(script), 0755, 0));
	ASSERT_OK(file_write_at(dir, "x", packed, sizeof(packed), 0644, 0));
	ASSERT_EQ(setenv("PATH", path, 1), 0);
	fd = openat(dir, "x", O_RDONLY | O_CLOEXEC);
	ASSERT_EQ(disk_file_recognise_packed(fd), DISK_FILE_NONE);
	ASSERT_OK(disk_file_unpack(fd, "x", to, DISK_BYTES, NULL));
	ASSERT_EQ(faccessat(dir, "lrzip.ran", F_OK, 0), -1);
	RUN("cmp", "x", "plain");
}

TEST(what_is_packed_is_unpacked_with_its_holes)
{
	_cleanup_close_ int dir = directory(), to = openat(dir, "plain", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	_cleanup_error_ struct error e = {};
	int fd = -EBADF;
	struct stat st;

	make_raw(dir);
	RUN("gzip", "-k", "raw");
	ASSERT_EQ(kind_of(dir, "raw.gz", &fd), DISK_FILE_PACKED);
	ASSERT_EQ(disk_file_unpack(fd, "raw.gz", to, DISK_BYTES - 1, &e), -EFBIG);
	ASSERT_EQ(error_exit_status(&e), 65);
	ASSERT_OK(lseek(fd, 0, SEEK_SET));
	ASSERT_OK(ftruncate(to, 0));
	ASSERT_OK(disk_file_unpack(fd, "raw.gz", to, DISK_BYTES, NULL));
	RUN("cmp", "raw", "plain");
	ASSERT_OK(fstat(to, &st));
	ASSERT(st.st_blocks * 512 < 64 << 10);
	close(fd);
	RUN("truncate", "-s", "100", "raw.gz");
	ASSERT_EQ(kind_of(dir, "raw.gz", &fd), DISK_FILE_PACKED);
	ASSERT_EQ(disk_file_unpack(fd, "raw.gz", to, DISK_BYTES, NULL), -EBADMSG);
	close(fd);
}
