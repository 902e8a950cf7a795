#include "disk/qcow2.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "test.h"

static int open_dir(void)
{
	int fd = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT_OK(fd);
	return fd;
}

/* Runs qemu-img in the test's directory; its output, owned by the caller. */
static char *qemu_img(int *ret_status, const char *a, const char *b, const char *c, const char *d)
{
	const char *argv[] = { "qemu-img", a, b, c, d, NULL };
	struct spawn s = SPAWN_INIT;
	struct buf out = {};
	_cleanup_error_ struct error e = {};
	_cleanup_free_ char *program = program_find("qemu-img");

	if (!program)
		test_skip("no qemu-img");
	s.argv = argv;
	s.cwd = test_tmpdir();
	ASSERT_OK(spawn_run(&s, NULL, &out, NULL, 1 << 20, 0, ret_status, &e));
	return buf_take(&out);
}

TEST(an_empty_image_passes_the_check_of_qemu)
{
	_cleanup_close_ int dir = open_dir();
	_cleanup_free_ char *out = NULL, *info = NULL;
	int status;

	ASSERT_OK(qcow2_create(dir, "a.qcow2", UINT64_C(16) << 30, NULL, NULL, true, NULL));
	out = qemu_img(&status, "check", "a.qcow2", NULL, NULL);
	ASSERT_EQ(status, 0);
	ASSERT_CONTAINS(out, "No errors were found");
	info = qemu_img(&status, "info", "--output=json", "a.qcow2", NULL);
	ASSERT_CONTAINS(info, "\"virtual-size\": 17179869184");
	ASSERT_CONTAINS(info, "\"corrupt\": false");
}

TEST(it_is_private_and_takes_next_to_no_space)
{
	_cleanup_close_ int dir = open_dir();
	struct stat st;

	ASSERT_OK(qcow2_create(dir, "a.qcow2", UINT64_C(16) << 30, NULL, NULL, false, NULL));
	ASSERT_OK(fstatat(dir, "a.qcow2", &st, 0));
	ASSERT_EQ(st.st_mode & 0777, 0600);
	ASSERT_EQ(st.st_nlink, 1);
	ASSERT(st.st_blocks * 512 <= 64 * 1024);
}

TEST(sizes_at_the_edges_pass_the_check_of_qemu)
{
	static const uint64_t sizes[] = { 1,
					  65536,
					  65537,
					  UINT64_C(512) << 20,
					  (UINT64_C(512) << 20) + 1,
					  UINT64_C(1) << 42,
					  (UINT64_C(1) << 42) + 1,
					  UINT64_C(1) << 48 };

	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		_cleanup_close_ int dir = open_dir();
		_cleanup_free_ char *name = xasprintf("%zu.qcow2", i), *out = NULL;
		_cleanup_close_ int fd = -EBADF;
		struct qcow2_info info = {};
		int status;

		ASSERT_OK(qcow2_create(dir, name, sizes[i], NULL, NULL, false, NULL));
		fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
		ASSERT_OK(qcow2_read_info(fd, name, &info, NULL));
		ASSERT_EQ(info.virtual_bytes, (sizes[i] + 65535) / 65536 * 65536);
		ASSERT(!info.backing_path);
		out = qemu_img(&status, "check", name, NULL, NULL);
		ASSERT_EQ(status, 0);
	}
}

TEST(it_never_replaces_and_refuses_nonsense)
{
	_cleanup_close_ int dir = open_dir();
	_cleanup_free_ char *longest = xcalloc(1, 1025);

	ASSERT_OK(qcow2_create(dir, "a", 65536, NULL, NULL, false, NULL));
	ASSERT_EQ(qcow2_create(dir, "a", 65536, NULL, NULL, false, NULL), -EEXIST);
	ASSERT_EQ(qcow2_create(dir, "b", 0, NULL, NULL, false, NULL), -EINVAL);
	ASSERT_EQ(qcow2_create(dir, "b", UINT64_MAX, NULL, NULL, false, NULL), -EINVAL);
	memset(longest, 'x', 1024);
	ASSERT_EQ(qcow2_create(dir, "b", 65536, longest, "raw", false, NULL), -ENAMETOOLONG);
	ASSERT_EQ(faccessat(dir, "b", F_OK, 0), -1);
}

TEST(a_delta_reads_as_its_backing_file)
{
	_cleanup_close_ int dir = open_dir();
	_cleanup_free_ char *out = NULL, *path = xasprintf("%s/base.raw", test_tmpdir());
	_cleanup_close_ int raw = openat(dir, "base.raw", O_RDWR | O_CREAT | O_CLOEXEC, 0600), fd = -EBADF;
	struct qcow2_info info = {};
	int status;

	ASSERT_OK(ftruncate(raw, 1 << 20));
	ASSERT_OK(pwrite_full(raw, "hello", 5, 70000));
	ASSERT_OK(qcow2_create(dir, "d.qcow2", 1 << 20, path, "raw", false, NULL));
	out = qemu_img(&status, "compare", "d.qcow2", "base.raw", NULL);
	ASSERT_EQ(status, 0);
	ASSERT_CONTAINS(out, "Images are identical");
	fd = openat(dir, "d.qcow2", O_RDONLY | O_CLOEXEC);
	ASSERT_OK(qcow2_read_info(fd, "d", &info, NULL));
	ASSERT_STREQ(info.backing_path, path);
	ASSERT_STREQ(info.backing_format, "raw");
	qcow2_info_done(&info);
}

TEST(it_grows_within_its_table_and_beyond_and_keeps_its_content)
{
	static const uint64_t sizes[] = { UINT64_C(1) << 30, UINT64_C(64) << 30, (UINT64_C(4) << 40) + 65536,
					  UINT64_C(64) << 40 };
	_cleanup_close_ int dir = open_dir();
	_cleanup_close_ int fd = -EBADF;
	int status;

	ASSERT_OK(qcow2_create(dir, "g.qcow2", 1 << 20, NULL, NULL, false, NULL));
	{
		const char *argv[] = { "qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 65536 131072", "g.qcow2", NULL };
		struct spawn s = SPAWN_INIT;
		_cleanup_free_ char *program = program_find("qemu-io");

		if (!program)
			test_skip("no qemu-io");
		s.argv = argv;
		s.cwd = test_tmpdir();
		ASSERT_OK(spawn_run(&s, NULL, NULL, NULL, 0, 0, &status, NULL));
		ASSERT_EQ(status, 0);
	}
	fd = openat(dir, "g.qcow2", O_RDWR | O_CLOEXEC);
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		const char *argv[] = { "qemu-io", "-f", "qcow2", "-c", "read -P 0x5a 65536 131072", "g.qcow2", NULL };
		_cleanup_free_ char *out = NULL;
		_cleanup_buf_ struct buf read = {};
		struct qcow2_info info = {};
		struct spawn s = SPAWN_INIT;

		ASSERT_OK(qcow2_grow(fd, "g", sizes[i], NULL));
		ASSERT_OK(qcow2_read_info(fd, "g", &info, NULL));
		ASSERT_EQ(info.virtual_bytes, sizes[i]);
		out = qemu_img(&status, "check", "g.qcow2", NULL, NULL);
		ASSERT_EQ(status, 0);
		ASSERT_CONTAINS(out, "No errors were found");
		s.argv = argv;
		s.cwd = test_tmpdir();
		ASSERT_OK(spawn_run(&s, NULL, &read, NULL, 4096, 0, &status, NULL));
		ASSERT_EQ(status, 0);
		ASSERT(!strstr(read.p, "verification failed"));
	}
	ASSERT_EQ(qcow2_grow(fd, "g", 1 << 20, NULL), -EINVAL);
}

TEST(damaged_headers_are_data_errors)
{
	/* offset, width, value: each alone makes the header unusable */
	static const struct {
		size_t at;
		uint8_t bytes[8];
		size_t n;
	} damages[] = {
		{ 0, { 0 }, 1 },
		{ 4, { 0, 0, 0, 9 }, 4 },
		{ 8, { 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0 }, 8 },
		{ 16, { 0, 0, 0x40, 0 }, 4 },
		{ 20, { 0, 0, 0, 40 }, 4 },
		{ 20, { 0, 0, 0, 0 }, 4 },
		{ 24, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, 8 },
		{ 32, { 0, 0, 0, 1 }, 4 },
		{ 36, { 0, 0, 0, 0 }, 4 },
		{ 36, { 0xff, 0xff, 0xff, 0xff }, 4 },
		{ 40, { 0, 0, 0, 0, 0, 0, 0, 1 }, 8 },
		{ 48, { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0 }, 8 },
		{ 56, { 0xff, 0xff, 0xff, 0xff }, 4 },
		{ 72, { 0, 0, 0, 0, 0, 0, 0, 2 }, 8 },
		{ 72, { 0x80, 0, 0, 0, 0, 0, 0, 0 }, 8 },
		{ 96, { 0, 0, 0, 99 }, 4 },
		{ 100, { 0xff, 0, 0, 0 }, 4 },
		{ 100, { 0, 0, 0, 8 }, 4 },
		{ 108, { 0, 0, 0xff, 0xff }, 4 },
		{ 112, { '\n' }, 1 },
	};
	_cleanup_close_ int dir = open_dir();

	for (size_t i = 0; i < ARRAY_SIZE(damages); i++) {
		_cleanup_free_ char *name = xasprintf("%zu", i);
		_cleanup_(error_done) struct error e = {};
		_cleanup_close_ int fd = -EBADF;
		struct qcow2_info info = {};

		ASSERT_OK(qcow2_create(dir, name, UINT64_C(1) << 30, "/base", "raw", false, NULL));
		fd = openat(dir, name, O_RDWR | O_CLOEXEC);
		ASSERT_OK(pwrite_full(fd, damages[i].bytes, damages[i].n, damages[i].at));
		if (qcow2_read_info(fd, name, &info, &e) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "damage %zu was not seen", i);
		ASSERT_EQ(e.kind, ERROR_DATA);
		/* Growing does not look at the backing name and the extensions. */
		ASSERT(qcow2_grow(fd, name, UINT64_C(8) << 40, NULL) < 0 || i == 2 || i == 3 || i >= 18);
	}
}

TEST(short_files_are_data_errors)
{
	_cleanup_close_ int dir = open_dir();
	_cleanup_close_ int fd = -EBADF;
	struct qcow2_info info = {};

	ASSERT_OK(qcow2_create(dir, "a", UINT64_C(1) << 30, "/some/base", "raw", false, NULL));
	fd = openat(dir, "a", O_RDWR | O_CLOEXEC);
	for (off_t n = 130; n >= 0; n--) {
		ASSERT_OK(ftruncate(fd, n));
		ASSERT_EQ(qcow2_read_info(fd, "a", &info, NULL), -EBADMSG);
	}
}
