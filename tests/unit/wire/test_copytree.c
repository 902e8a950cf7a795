#include "wire/copytree.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "test.h"
#include "wire/copystream.h"

/* A stream in a file: writer and reader one after the other, no process needed. */
static int stream_fd(void)
{
	int fd = open(test_tmpdir(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	ASSERT_OK(fd);
	return fd;
}

static int new_dir(const char *name)
{
	int top = open(test_tmpdir(), O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;

	ASSERT_OK(top);
	ASSERT_OK(mkdirat(top, name, 0755));
	fd = openat(top, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(fd);
	close(top);
	return fd;
}

static void put(int dir, const char *name, const char *text, mode_t mode)
{
	ASSERT_OK(file_write_at(dir, name, text, strlen(text), mode, 0));
	ASSERT_OK(fchmodat(dir, name, mode, 0));
}

static void assert_content(int dir, const char *name, const char *text)
{
	_cleanup_buf_ struct buf b = { 0 };

	ASSERT_OK(file_read_at(dir, name, 1 << 20, &b));
	ASSERT_STREQ(b.p ? b.p : "", text);
}

static bool keep_owner;

static int receive_records(int dir, const char *rename, uint64_t limit, bool with_end,
			   const struct copystream_record *r, size_t n)
{
	_cleanup_buf_ struct buf b = { 0 };
	_cleanup_close_ int fd = stream_fd();
	int rc;

	for (size_t i = 0; i < n; i++)
		ASSERT_OK(copystream_encode(&b, &r[i]));
	if (with_end)
		ASSERT_OK(copystream_encode(&b, &(struct copystream_record){ .type = COPYSTREAM_END }));
	ASSERT_OK(pwrite_full(fd, b.p, b.len, 0));
	rc = copytree_receive(fd, dir, rename, limit, keep_owner, NULL);
	return rc;
}

TEST(a_tree_arrives_as_it_was)
{
	_cleanup_close_ int src = new_dir("src"), dst = new_dir("dst"), s = stream_fd(), sub = -1;
	struct timespec times[2] = { { .tv_sec = 1000, .tv_nsec = 5 }, { .tv_sec = 2000, .tv_nsec = 7 } };
	char link[16] = { 0 };
	struct stat st;

	put(src, "one", "first\n", 0640);
	put(src, "empty", "", 0600);
	ASSERT_OK(futimens(src, times));
	ASSERT_OK(mkdirat(src, "sub", 0755));
	sub = openat(src, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put(sub, "run", "#!/bin/sh\n", 0755);
	ASSERT_OK(symlinkat("../one", sub, "up"));
	ASSERT_OK(mkfifoat(sub, "fifo", 0622));
	ASSERT_OK(fchmod(sub, 0555));
	ASSERT_OK(utimensat(src, "one", times, 0));
	ASSERT_OK(copytree_send(s, src, "../src/sub/.."));
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(copytree_receive(s, dst, NULL, 0, false, NULL));

	assert_content(dst, "src/one", "first\n");
	assert_content(dst, "src/empty", "");
	assert_content(dst, "src/sub/run", "#!/bin/sh\n");
	ASSERT_OK(fstatat(dst, "src/one", &st, 0));
	ASSERT_EQ(st.st_mode, S_IFREG | 0640);
	ASSERT_EQ(st.st_mtim.tv_sec, 2000);
	ASSERT_EQ(st.st_mtim.tv_nsec, 7);
	ASSERT_OK(fstatat(dst, "src/sub", &st, 0));
	ASSERT_EQ(st.st_mode, S_IFDIR | 0555);
	ASSERT_OK(fstatat(dst, "src/sub/fifo", &st, 0));
	ASSERT(S_ISFIFO(st.st_mode));
	ASSERT_OK(readlinkat(dst, "src/sub/up", link, sizeof(link) - 1));
	ASSERT_STREQ(link, "../one");
	ASSERT_OK(fchmodat(dst, "src/sub", 0755, 0)); /* so that it can be removed */
	ASSERT_OK(fchmod(sub, 0755));
}

TEST(a_file_arrives_under_another_name_and_over_an_old_one)
{
	_cleanup_close_ int src = new_dir("src"), dst = new_dir("dst"), s = stream_fd();

	put(src, "one", "new\n", 0600);
	put(dst, "two", "old and longer\n", 0644);
	ASSERT_OK(copytree_send(s, src, "one"));
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(copytree_receive(s, dst, "two", 0, false, NULL));
	assert_content(dst, "two", "new\n");
	ASSERT_EQ(copytree_receive(s, dst, "a/b", 0, false, NULL), -EINVAL);
	ASSERT_EQ(copytree_receive(s, dst, "..", 0, false, NULL), -EINVAL);
}

TEST(holes_stay_holes)
{
	_cleanup_close_ int src = new_dir("src"), dst = new_dir("dst"), s = stream_fd(), f = -1;
	uint64_t source_bytes, bytes;
	struct stat st;
	char tail[4];

	f = openat(src, "sparse", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_OK(pwrite_full(f, "head", 4, 0));
	ASSERT_OK(pwrite_full(f, "mid", 3, 600 << 20));
	ASSERT_OK(ftruncate(f, (off_t)1 << 30));
	ASSERT_OK(file_allocated_fd(f, &source_bytes));
	f = safe_close(f);
	ASSERT_OK(copytree_send(s, src, "sparse"));
	ASSERT_OK(fstat(s, &st));
	if (source_bytes < 1 << 20)
		ASSERT(st.st_size < 1 << 20);
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(copytree_receive(s, dst, NULL, 0, false, NULL));
	f = openat(dst, "sparse", O_RDONLY | O_CLOEXEC);
	ASSERT_OK(fstat(f, &st));
	ASSERT_EQ(st.st_size, 1 << 30);
	ASSERT_OK(pread_full(f, tail, 3, 600 << 20));
	ASSERT_MEMEQ(tail, "mid", 3);
	ASSERT_OK(file_allocated_fd(f, &bytes));
	if (source_bytes < 1 << 20)
		ASSERT(bytes < 1 << 20);
}

TEST(a_big_file_arrives_whole)
{
	_cleanup_close_ int src = new_dir("src"), dst = new_dir("dst"), s = stream_fd();
	_cleanup_buf_ struct buf back = { 0 };
	const size_t n = 3 * COPYSTREAM_DATA_MAX + 17;
	_cleanup_free_ char *big = malloc(n);

	for (size_t i = 0; i < n; i++)
		big[i] = (char)(i * 31 >> 3);
	ASSERT_OK(file_write_at(src, "big", big, n, 0600, 0));
	ASSERT_OK(copytree_send(s, src, "big"));
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_EQ(copytree_receive(s, dst, NULL, n - 1, false, NULL), -EFBIG);
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(copytree_receive(s, dst, NULL, n, false, NULL));
	ASSERT_OK(file_read_at(dst, "big", n + 1, &back));
	ASSERT_EQ(back.len, n);
	ASSERT_MEMEQ(back.p, big, n);
}

TEST(what_cannot_be_sent_is_told_and_the_rest_arrives)
{
	_cleanup_close_ int src = new_dir("src"), dst = new_dir("dst"), s = stream_fd(), sock = -1;
	_cleanup_free_ char *path = NULL;
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	put(src, "z", "here\n", 0600);
	sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT(snprintf(a.sun_path, sizeof(a.sun_path), "%s/src/a", test_tmpdir()) < (int)sizeof(a.sun_path));
	ASSERT_OK(bind(sock, (struct sockaddr *)&a, sizeof(a)));
	ASSERT_EQ(copytree_send(s, src, "../src"), -EOPNOTSUPP);
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_EQ(copytree_receive(s, dst, NULL, 0, false, &path), -EOPNOTSUPP);
	ASSERT_STREQ(path, "src/a");
	assert_content(dst, "src/z", "here\n");
}

TEST(a_missing_source_is_an_error_at_both_ends)
{
	_cleanup_close_ int dst = new_dir("dst"), s = stream_fd();
	_cleanup_free_ char *path = NULL;

	ASSERT_EQ(copytree_send(s, dst, "nothing"), -ENOENT);
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_EQ(copytree_receive(s, dst, NULL, 0, false, &path), -ENOENT);
	ASSERT_STREQ(path, "nothing");
	ASSERT_EQ(copytree_send(s, dst, ""), -ENOENT);
}

TEST(a_stream_that_ends_early_is_an_error)
{
	_cleanup_close_ int dst = new_dir("dst");
	struct copystream_record r = { .type = COPYSTREAM_ENTRY, .path = "a", .mode = S_IFREG | 0600 };

	ASSERT_EQ(receive_records(dst, NULL, 0, false, &r, 1), -ENODATA);
	ASSERT_EQ(receive_records(dst, NULL, 0, false, NULL, 0), -ENODATA);
}

TEST(nothing_is_written_through_a_link)
{
	_cleanup_close_ int dst = new_dir("dst"), out = new_dir("out");
	struct copystream_record through[] = {
		{ .type = COPYSTREAM_ENTRY, .path = "d", .mode = S_IFDIR | 0755 },
		{ .type = COPYSTREAM_ENTRY, .path = "d/l", .mode = S_IFLNK | 0777, .link = "../../out" },
		{ .type = COPYSTREAM_ENTRY, .path = "d/l/f", .mode = S_IFREG | 0600 },
	};
	struct copystream_record over = { .type = COPYSTREAM_ENTRY, .path = "link", .mode = S_IFREG | 0600 };
	struct copystream_record below[] = {
		{ .type = COPYSTREAM_ENTRY, .path = "d", .mode = S_IFDIR | 0755 },
		{ .type = COPYSTREAM_ENTRY, .path = "d/f", .mode = S_IFREG | 0600 },
	};
	struct stat st;
	struct copystream_record into = { .type = COPYSTREAM_ENTRY, .path = "link", .mode = S_IFDIR | 0755 };

	ASSERT_EQ(receive_records(dst, NULL, 0, true, through, 3), -EBADMSG);
	ASSERT(faccessat(out, "f", F_OK, 0) < 0);
	ASSERT_OK(symlinkat("../out/g", dst, "link"));
	ASSERT_EQ(receive_records(dst, NULL, 0, true, &into, 1), -ENOTDIR);
	ASSERT_OK(symlinkat("../out", dst, "down"));
	ASSERT_EQ(receive_records(dst, "down", 0, true, below, 2), -ENOTDIR);
	ASSERT(faccessat(out, "f", F_OK, 0) < 0);
	/* A file takes the place of a link. */
	ASSERT_OK(receive_records(dst, NULL, 0, true, &over, 1));
	ASSERT(faccessat(out, "g", F_OK, 0) < 0);
	ASSERT_OK(fstatat(dst, "link", &st, AT_SYMLINK_NOFOLLOW));
	ASSERT(S_ISREG(st.st_mode));
}

TEST(entries_beside_the_first_one_are_refused)
{
	_cleanup_close_ int dst = new_dir("dst");
	struct copystream_record two[] = {
		{ .type = COPYSTREAM_ENTRY, .path = "a", .mode = S_IFDIR | 0755 },
		{ .type = COPYSTREAM_ENTRY, .path = "ab", .mode = S_IFREG | 0600 },
	};
	struct copystream_record deep = { .type = COPYSTREAM_ENTRY, .path = "a/b", .mode = S_IFREG | 0600 };

	ASSERT_EQ(receive_records(dst, NULL, 0, true, two, 2), -EBADMSG);
	ASSERT_EQ(receive_records(dst, "x", 0, true, &deep, 1), -EBADMSG);
}

TEST(data_out_of_place_is_refused)
{
	_cleanup_close_ int dst = new_dir("dst");
	struct copystream_record r[] = {
		{ .type = COPYSTREAM_ENTRY, .path = "a", .mode = S_IFREG | 0600, .size = 4 },
		{ .type = COPYSTREAM_DATA, .offset = 1, .data = (const uint8_t *)"long", .data_len = 4 },
	};
	struct copystream_record device = { .type = COPYSTREAM_ENTRY, .path = "a", .mode = S_IFBLK | 0600 };

	ASSERT_EQ(receive_records(dst, NULL, 0, true, r, 2), -EBADMSG);
	ASSERT_EQ(receive_records(dst, NULL, 0, true, r + 1, 1), -EBADMSG);
	ASSERT_EQ(receive_records(dst, NULL, 0, true, &device, 1), -EBADMSG);
}

TEST(set_id_bits_are_dropped)
{
	_cleanup_close_ int dst = new_dir("dst");
	struct copystream_record r = { .type = COPYSTREAM_ENTRY, .path = "su", .mode = S_IFREG | 06755 };
	struct stat st;

	ASSERT_OK(receive_records(dst, NULL, 0, true, &r, 1));
	ASSERT_OK(fstatat(dst, "su", &st, 0));
	ASSERT_EQ(st.st_mode, S_IFREG | 0755);
}

TEST(set_id_bits_are_dropped_where_owners_are_kept_too)
{
	_cleanup_close_ int dst = new_dir("dst");
	struct copystream_record r[] = {
		{ .type = COPYSTREAM_ENTRY, .path = "d", .mode = S_IFDIR | 07755, .uid = geteuid(), .gid = getegid() },
		{ .type = COPYSTREAM_ENTRY,
		  .path = "d/su",
		  .mode = S_IFREG | 06755,
		  .uid = geteuid(),
		  .gid = getegid() },
	};
	struct stat st;

	keep_owner = true;
	ASSERT_OK(receive_records(dst, NULL, 0, true, r, 2));
	ASSERT_OK(fstatat(dst, "d/su", &st, 0));
	ASSERT_EQ(st.st_mode, S_IFREG | 0755);
	ASSERT_OK(fstatat(dst, "d", &st, 0));
	ASSERT_EQ(st.st_mode, S_IFDIR | 01755);
}

TEST(a_fifo_in_the_way_is_not_waited_for)
{
	_cleanup_close_ int dst = new_dir("dst");
	struct copystream_record r = { .type = COPYSTREAM_ENTRY, .path = "p", .mode = S_IFREG | 0600 };

	ASSERT_OK(mkfifoat(dst, "p", 0600));
	ASSERT_EQ(receive_records(dst, NULL, 0, true, &r, 1), -EEXIST);
}

TEST(a_program_that_runs_is_replaced)
{
	_cleanup_close_ int dst = new_dir("dst");
	_cleanup_free_ char *path = xasprintf("%s/dst/run", test_tmpdir());
	struct copystream_record r = { .type = COPYSTREAM_ENTRY, .path = "run", .mode = S_IFREG | 0755 };
	_cleanup_buf_ struct buf program = { 0 };
	int out[2], status;
	pid_t pid;
	char line[8];

	ASSERT_OK(file_read_at(AT_FDCWD, "/bin/cat", 8 << 20, &program));
	ASSERT_OK(file_write_at(dst, "run", program.p, program.len, 0755, 0));
	ASSERT_OK(fchmodat(dst, "run", 0755, 0));
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, out));
	pid = fork();
	ASSERT_OK(pid);
	if (pid == 0) {
		dup2(out[1], 0);
		dup2(out[1], 1);
		execl(path, path, NULL);
		_exit(127);
	}
	close(out[1]);
	/* It runs when it answers. */
	ASSERT_EQ(write(out[0], "hello\n", 6), 6);
	ASSERT_EQ(read(out[0], line, sizeof(line)), 6);
	ASSERT_EQ(openat(dst, "run", O_WRONLY | O_CLOEXEC), -1);
	ASSERT_EQ(errno, ETXTBSY);
	ASSERT_OK(receive_records(dst, NULL, 0, true, &r, 1));
	assert_content(dst, "run", "");
	close(out[0]);
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
}

TEST(a_file_that_may_not_be_written_to_is_replaced)
{
	_cleanup_close_ int dst = new_dir("dst");
	struct copystream_record r = { .type = COPYSTREAM_ENTRY, .path = "ro", .mode = S_IFREG | 0444 };
	int status;
	pid_t pid;

	ASSERT_OK(fchmod(dst, 0777));
	put(dst, "ro", "old\n", 0444);
	pid = fork();
	ASSERT_OK(pid);
	if (pid == 0) {
		_cleanup_close_ int fd = stream_fd();
		_cleanup_buf_ struct buf b = { 0 };

		ASSERT_OK(copystream_encode(&b, &r));
		ASSERT_OK(copystream_encode(&b, &(struct copystream_record){ .type = COPYSTREAM_END }));
		ASSERT_OK(pwrite_full(fd, b.p, b.len, 0));
		/* Root may write to anything. */
		if (geteuid() == 0 && setresuid(65534, 65534, 65534) < 0)
			_exit(2);
		_exit(copytree_receive(fd, dst, NULL, 0, false, NULL) < 0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_EQ(status, 0);
	assert_content(dst, "ro", "");
}

TEST(files_that_do_not_say_how_large_they_are_arrive_whole)
{
	_cleanup_close_ int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), dst = new_dir("dst"),
			    s = stream_fd();
	_cleanup_buf_ struct buf is = { 0 }, came = { 0 };

	/* No read gives more than a page of it. Symbols come and go: the first ones are the kernel's own. */
	ASSERT_OK(file_read_at(proc, "kallsyms", 64 << 20, &is));
	ASSERT(is.len > 8192);
	ASSERT_OK(copytree_send(s, proc, "kallsyms"));
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(copytree_receive(s, dst, NULL, 0, false, NULL));
	ASSERT_OK(file_read_at(dst, "kallsyms", 64 << 20, &came));
	ASSERT(came.len > is.len / 2);
	ASSERT_MEMEQ(came.p, is.p, 8192);
}

TEST(files_that_say_a_page_and_have_a_line_arrive_as_a_line)
{
	_cleanup_close_ int net = open("/sys/class/net/lo", O_RDONLY | O_DIRECTORY | O_CLOEXEC), dst = new_dir("dst"),
			    s = stream_fd();

	ASSERT_OK(copytree_send(s, net, "mtu"));
	ASSERT_OK(lseek(s, 0, SEEK_SET));
	ASSERT_OK(copytree_receive(s, dst, NULL, 0, false, NULL));
	assert_content(dst, "mtu", "65536\n");
}

/* The sender is held up by a pipe that nobody reads until the file is shorter. */
TEST(a_file_that_shrinks_meanwhile_is_an_error)
{
	enum { LARGE = 8 << 20 };

	for (int sparse = 0; sparse < 2; sparse++) {
		_cleanup_free_ char *src_name = xasprintf("src%d", sparse), *dst_name = xasprintf("dst%d", sparse);
		_cleanup_close_ int src = new_dir(src_name), dst = new_dir(dst_name), f = -1;
		_cleanup_free_ char *data = xcalloc(1, LARGE), *path = NULL;
		int pipe_fds[2], status, r;
		uint8_t first[4096];
		pid_t pid;

		memset(data, 'x', LARGE);
		f = openat(src, "log", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		ASSERT_OK(pwrite_full(f, data, sparse ? LARGE / 2 : LARGE, 0));
		ASSERT_OK(ftruncate(f, LARGE));
		ASSERT_OK(pipe2(pipe_fds, O_CLOEXEC));
		pid = fork();
		ASSERT_OK(pid);
		if (pid == 0) {
			close(pipe_fds[0]);
			_exit(copytree_send(pipe_fds[1], src, "log") == -EAGAIN ? 0 : 1);
		}
		close(pipe_fds[1]);
		{
			/* What it said first goes before the rest. */
			_cleanup_close_ int all = stream_fd();
			ssize_t n = read(pipe_fds[0], first, sizeof(first));
			off_t at = 0;

			ASSERT(n > 0);
			ASSERT_OK(ftruncate(f, sparse ? LARGE / 2 : LARGE / 4));
			do {
				ASSERT_OK(pwrite_full(all, first, (size_t)n, (uint64_t)at));
				at += n;
				n = read(pipe_fds[0], first, sizeof(first));
				ASSERT(n >= 0);
			} while (n > 0);
			r = copytree_receive(all, dst, NULL, 0, false, &path);
		}
		close(pipe_fds[0]);
		ASSERT_EQ(r, -EAGAIN);
		ASSERT_STREQ(path, "log");
		ASSERT_EQ(waitpid(pid, &status, 0), pid);
		ASSERT_EQ(status, 0);
	}
}

TEST(what_is_too_deep_to_be_told_is_left_out_alone)
{
	enum { LEVELS = 18, NAME = 250 };
	_cleanup_close_ int src = new_dir("src"), dst = new_dir("dst"), stream = stream_fd(), at = -EBADF;
	_cleanup_free_ char *path = NULL;
	char name[NAME + 1] = "";

	memset(name, 'n', NAME);
	ASSERT_OK(mkdirat(src, "tree", 0755));
	at = openat(src, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	put(at, "beside", "arrives", 0644);
	for (int i = 0; i < LEVELS; i++) {
		int below;

		ASSERT_OK(mkdirat(at, name, 0755));
		below = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ASSERT_OK(below);
		close(at);
		at = below;
	}
	put(at, "deep", "does not", 0644);
	ASSERT_EQ(copytree_send(stream, src, "tree"), -ENAMETOOLONG);
	ASSERT_OK(lseek(stream, 0, SEEK_SET));
	ASSERT_EQ(copytree_receive(stream, dst, NULL, 0, false, &path), -ENAMETOOLONG);
	assert_content(dst, "tree/beside", "arrives");
}
