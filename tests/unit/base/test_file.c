#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "test.h"

static int dir(void)
{
	int fd = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ASSERT(fd >= 0);
	return fd;
}

static unsigned entries(int dirfd)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fdopendir(fd);
	unsigned n = 0;

	ASSERT(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n - 2;
}

TEST(a_file_is_read_whole)
{
	_cleanup_close_ int d = dir();
	_cleanup_buf_ struct buf b = {};
	_cleanup_free_ char *data = xcalloc(300000, 1);

	for (int i = 0; i < 300000; i++)
		data[i] = (char)(i * 7);
	ASSERT_OK(file_write_at(d, "f", data, 300000, 0600, 0));
	buf_adds(&b, "before");
	ASSERT_OK(file_read_at(d, "f", 300000, &b));
	ASSERT_EQ(b.len, 300006);
	ASSERT_MEMEQ(b.p + 6, data, 300000);
}

TEST(the_limit_is_exact)
{
	_cleanup_close_ int d = dir();
	_cleanup_buf_ struct buf b = {};

	ASSERT_OK(file_write_at(d, "f", "12345", 5, 0600, 0));
	ASSERT_OK(file_read_at(d, "f", 5, &b));
	ASSERT_STREQ(b.p, "12345");
	ASSERT_EQ(file_read_at(d, "f", 4, &b), -EFBIG);
	ASSERT_STREQ(b.p, "12345");
	ASSERT_EQ(file_read_at(AT_FDCWD, "/dev/zero", 1 << 20, &b), -EFBIG);
	ASSERT_EQ(file_read_at(d, "none", 4, &b), -ENOENT);
	ASSERT_OK(file_write_at(d, "empty", "", 0, 0600, 0));
	ASSERT_OK(file_read_at(d, "empty", 0, &b));
	ASSERT_STREQ(b.p, "12345");
}

TEST(a_fifo_in_the_place_of_a_file_does_not_hang)
{
	_cleanup_close_ int d = dir();
	_cleanup_buf_ struct buf b = {};

	ASSERT_OK(mkfifoat(d, "f", 0600));
	ASSERT_OK(file_read_at(d, "f", 100, &b));
	ASSERT_EQ(b.len, 0);
}

TEST(writing_replaces_and_leaves_no_temporary)
{
	_cleanup_close_ int d = dir();
	_cleanup_buf_ struct buf b = {};
	struct stat st;

	ASSERT_OK(file_write_at(d, "f", "a long first text", 17, 0600, 0));
	/* The mode is the one that is given. */
	umask(077);
	ASSERT_OK(file_write_at(d, "f", "short", 5, 0640, FILE_DURABLE));
	umask(022);
	ASSERT_OK(file_read_at(d, "f", 100, &b));
	ASSERT_STREQ(b.p, "short");
	ASSERT_OK(fstatat(d, "f", &st, 0));
	ASSERT_EQ(st.st_mode & 0777, 0640);
	ASSERT_EQ(entries(d), 1);
}

TEST(exclusive_writing_never_replaces)
{
	_cleanup_close_ int d = dir();
	_cleanup_buf_ struct buf b = {};

	ASSERT_OK(file_write_at(d, "f", "one", 3, 0600, FILE_EXCLUSIVE | FILE_DURABLE));
	ASSERT_EQ(file_write_at(d, "f", "two", 3, 0600, FILE_EXCLUSIVE), -EEXIST);
	ASSERT_OK(file_read_at(d, "f", 100, &b));
	ASSERT_STREQ(b.p, "one");
	ASSERT_EQ(entries(d), 1);
}

TEST(a_failed_write_leaves_nothing)
{
	_cleanup_close_ int d = dir();

	ASSERT_OK(mkdirat(d, "taken", 0700));
	ASSERT_EQ(file_write_at(d, "taken", "x", 1, 0600, 0), -EISDIR);
	ASSERT_EQ(entries(d), 1);
	ASSERT_EQ(file_write_at(d, "no/such/dir", "x", 1, 0600, 0), -ENOENT);
	ASSERT_EQ(entries(d), 1);
}

TEST(short_ends_are_told_from_whole_reads)
{
	_cleanup_close_ int d = dir(), fd = -EBADF;
	char got[8] = "";

	ASSERT_OK(file_write_at(d, "f", "abcdef", 6, 0600, 0));
	fd = openat(d, "f", O_RDWR | O_CLOEXEC);
	ASSERT_OK(read_full(fd, got, 4));
	ASSERT_MEMEQ(got, "abcd", 4);
	ASSERT_EQ(read_full(fd, got, 4), -ENODATA);
	ASSERT_OK(pread_full(fd, got, 3, 3));
	ASSERT_MEMEQ(got, "def", 3);
	ASSERT_EQ(pread_full(fd, got, 4, 3), -ENODATA);
	ASSERT_OK(pwrite_full(fd, "XY", 2, 5));
	ASSERT_OK(pread_full(fd, got, 2, 5));
	ASSERT_MEMEQ(got, "XY", 2);
	ASSERT_EQ(write_full(9999, "x", 1), -EBADF);
	ASSERT_EQ(read_full(9999, got, 1), -EBADF);
}

TEST(temporaries_are_removed_and_nothing_else)
{
	_cleanup_close_ int d = dir();

	ASSERT_OK(file_write_at(d, ".tmp-12345678", "x", 1, 0600, 0));
	ASSERT_OK(mkdir_parents_at(d, ".tmp-dir/a/b", 0700));
	ASSERT_OK(file_write_at(d, "machine.json", "x", 1, 0600, 0));
	ASSERT_OK(file_write_at(d, ".lock", "x", 1, 0600, 0));
	ASSERT_OK(file_remove_temporaries(d));
	ASSERT_EQ(entries(d), 2);
	ASSERT_OK(faccessat(d, "machine.json", F_OK, 0));
	ASSERT_OK(faccessat(d, ".lock", F_OK, 0));
}

TEST(parents_are_made_and_may_exist)
{
	_cleanup_close_ int d = dir(), fd = -EBADF;
	_cleanup_free_ char *path = xasprintf("%s/x/y/z", test_tmpdir());
	struct stat st;

	ASSERT_OK(mkdir_parents_at(d, "a/b/c", 0700));
	ASSERT_OK(mkdir_parents_at(d, "a/b/c", 0700));
	ASSERT_OK(mkdir_parents_at(d, "a/b/d/", 0700));
	ASSERT_OK(fstatat(d, "a/b/c", &st, 0));
	ASSERT(S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
	ASSERT_OK(file_write_at(d, "f", "x", 1, 0600, 0));
	ASSERT_EQ(mkdir_parents_at(d, "f", 0700), -ENOTDIR);
	ASSERT_EQ(mkdir_parents_at(d, "f/g", 0700), -ENOTDIR);
	ASSERT_EQ(mkdir_parents_at(d, "", 0700), -ENOENT);
	fd = dir_open_create(path, 0700);
	ASSERT_OK(fd);
	safe_close(fd);
	fd = dir_open_create(path, 0700);
	ASSERT_OK(fd);
}

TEST(a_copy_keeps_bytes_and_holes)
{
	_cleanup_close_ int d = dir(), from = -EBADF, to = -EBADF;
	_cleanup_free_ char *data = xcalloc(100000, 1), *got = xcalloc(100000, 1);
	uint64_t allocated;
	struct stat st;

	memset(data, 'x', 100000);
	from = openat(d, "from", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	to = openat(d, "to", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_OK(ftruncate(from, 64 << 20));
	ASSERT_OK(pwrite_full(from, data, 100000, 32 << 20));
	ASSERT_OK(pwrite_full(to, data, 1000, 5000));
	ASSERT_OK(file_copy_fd(from, to));
	ASSERT_OK(fstat(to, &st));
	ASSERT_EQ(st.st_size, 64 << 20);
	ASSERT_OK(pread_full(to, got, 100000, 32 << 20));
	ASSERT_MEMEQ(got, data, 100000);
	ASSERT_OK(pread_full(to, got, 1000, 5000));
	for (int i = 0; i < 1000; i++)
		ASSERT_EQ(got[i], 0);
	ASSERT_OK(file_allocated_fd(to, &allocated));
	ASSERT(allocated < 1 << 20);
}

TEST(a_copy_across_file_systems_works_too)
{
	_cleanup_close_ int d = dir(), from = -EBADF, to = -EBADF;
	char got[5];

	from = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (from < 0)
		test_skip("no /dev/shm");
	to = openat(d, "to", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_OK(pwrite_full(from, "hello", 5, 70000));
	ASSERT_OK(file_copy_fd(from, to));
	ASSERT_OK(pread_full(to, got, 5, 70000));
	ASSERT_MEMEQ(got, "hello", 5);
	ASSERT_EQ(pread_full(to, got, 1, 70005), -ENODATA);
}

TEST(only_regular_files_are_copied)
{
	_cleanup_close_ int d = dir(), from = open("/dev/zero", O_RDONLY | O_CLOEXEC), to = -EBADF;

	to = openat(d, "to", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_EQ(file_copy_fd(from, to), -EINVAL);
}

TEST(untrusted_paths_stay_beneath)
{
	_cleanup_close_ int d = dir(), fd = -EBADF;

	ASSERT_OK(mkdir_parents_at(d, "a/b", 0700));
	ASSERT_OK(symlinkat("/etc", d, "a/out"));
	ASSERT_OK(symlinkat("../../..", d, "a/up"));
	ASSERT_OK(symlinkat("b", d, "a/in"));
	ASSERT_EQ(open_beneath(d, "../x", O_RDONLY, 0), -EXDEV);
	ASSERT_EQ(open_beneath(d, "a/../../x", O_RDONLY, 0), -EXDEV);
	ASSERT_EQ(open_beneath(d, "/etc/passwd", O_RDONLY, 0), -EXDEV);
	ASSERT_EQ(open_beneath(d, "a/out/passwd", O_RDONLY, 0), -EXDEV);
	ASSERT_EQ(open_beneath(d, "a/up", O_RDONLY, 0), -EXDEV);
	ASSERT_EQ(open_beneath(d, "a/none", O_RDONLY, 0), -ENOENT);
	fd = open_beneath(d, "a/in/new", O_WRONLY | O_CREAT | O_EXCL, 0600);
	ASSERT_OK(fd);
	ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	ASSERT_OK(faccessat(d, "a/b/new", F_OK, 0));
}

TEST(paths_in_a_root_stay_in_it_and_links_can_be_refused)
{
	_cleanup_close_ int d = dir(), in = -EBADF, up = -EBADF, plain = -EBADF;

	ASSERT_OK(mkdir_parents_at(d, "a/etc", 0700));
	ASSERT_OK(symlinkat("/etc", d, "a/link"));
	ASSERT_EQ(open_in_root(d, "a/link", O_PATH), -ENOENT);
	ASSERT_EQ(open_no_symlinks(d, "a/link", O_PATH), -ELOOP);
	ASSERT_EQ(open_no_symlinks(d, "a/link/passwd", O_PATH), -ELOOP);
	ASSERT_OK(mkdirat(d, "etc", 0700));
	in = open_in_root(d, "a/link", O_RDONLY | O_DIRECTORY);
	ASSERT_OK(in);
	ASSERT(faccessat(in, "passwd", F_OK, 0) < 0);
	up = open_in_root(d, "/../../a/../../etc", O_PATH);
	ASSERT_OK(up);
	plain = open_no_symlinks(d, "a/etc", O_PATH);
	ASSERT_OK(plain);
	ASSERT(fcntl(plain, F_GETFD) & FD_CLOEXEC);
}

TEST(sockets_work_however_long_the_path_is)
{
	_cleanup_close_ int d = dir(), deep = -EBADF, listener = -EBADF, client = -EBADF, server = -EBADF;
	_cleanup_buf_ struct buf path = {};
	struct stat st;
	char c;

	for (int i = 0; i < 20; i++)
		buf_addf(&path, "%sa-rather-long-part", i ? "/" : "");
	ASSERT_OK(mkdir_parents_at(d, path.p, 0700));
	deep = openat(d, path.p, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	listener = unix_listen_at(deep, "control.sock", 5);
	ASSERT_OK(listener);
	ASSERT_OK(fstatat(deep, "control.sock", &st, 0));
	ASSERT_EQ(st.st_mode & 0777, 0600);
	client = unix_connect_at(deep, "control.sock");
	ASSERT_OK(client);
	ASSERT(fcntl(client, F_GETFD) & FD_CLOEXEC);
	ASSERT(fcntl(listener, F_GETFD) & FD_CLOEXEC);
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	ASSERT_OK(server);
	ASSERT_OK(write_full(client, "x", 1));
	ASSERT_OK(read_full(server, &c, 1));
	ASSERT_EQ(c, 'x');
}

TEST(a_stale_socket_is_replaced_and_a_file_is_not)
{
	_cleanup_close_ int d = dir(), fd = -EBADF;
	_cleanup_free_ char *name = xcalloc(101, 1);

	fd = unix_listen_at(d, "s", 5);
	ASSERT_OK(fd);
	fd = safe_close(fd);
	ASSERT_EQ(unix_connect_at(d, "s"), -ECONNREFUSED);
	fd = unix_listen_at(d, "s", 5);
	ASSERT_OK(fd);
	ASSERT_OK(file_write_at(d, "f", "x", 1, 0600, 0));
	ASSERT_EQ(unix_listen_at(d, "f", 5), -EADDRINUSE);
	ASSERT_EQ(unix_connect_at(d, "none"), -ENOENT);
	ASSERT_EQ(unix_listen_at(d, "../x", 5), -EINVAL);
	memset(name, 'x', 100);
	ASSERT_EQ(unix_listen_at(d, name, 5), -ENAMETOOLONG);
}

TEST(who_listens_and_does_not_accept_is_not_waited_for)
{
	_cleanup_close_ int d = dir(), fd = unix_listen_at(d, "s", 0);
	_cleanup_close_ int first = -EBADF;

	ASSERT_OK(fd);
	first = unix_connect_now_at(d, "s");
	ASSERT_OK(first);
	ASSERT(fcntl(first, F_GETFL) & O_NONBLOCK);
	ASSERT_EQ(unix_connect_now_at(d, "s"), -EAGAIN);
	ASSERT_EQ(unix_connect_now_at(d, "none"), -ENOENT);
}
