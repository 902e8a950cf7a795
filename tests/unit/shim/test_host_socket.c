/* Sockets of the host by paths on which somebody else may be root. */
#include "shim/host_socket.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "test.h"

static char *at(const char *name)
{
	return xasprintf("%s/%s", test_tmpdir(), name);
}

static int serve(const char *dir, const char *name)
{
	_cleanup_free_ char *path = at(dir);
	_cleanup_close_ int d = dir_open_create(path, 0755);
	int fd = unix_listen_at(d, name, 4);

	ASSERT_OK(fd);
	ASSERT_OK(fcntl(fd, F_SETFL, O_NONBLOCK));
	return fd;
}

static int connect_to(const char *path)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	return host_socket_connect(fd, path);
}

static bool was_called(int server)
{
	_cleanup_close_ int fd = accept4(server, NULL, NULL, SOCK_CLOEXEC);

	return fd >= 0;
}

TEST(what_takes_its_place_is_not_connected_to)
{
	_cleanup_close_ int server = serve("data/dir", "app.sock"), secret = serve("secret", "app.sock");
	_cleanup_free_ char *source = at("data/dir/app.sock"), *dir = at("data/dir"), *away = at("data/away"),
			    *theirs = at("secret/app.sock"), *their_dir = at("secret"),
			    *path = host_socket_find(source);
	struct stat st;

	ASSERT_EQ(connect_to(path), 0);
	ASSERT(was_called(server));
	ASSERT_OK(unlink(source));
	ASSERT_EQ(connect_to(path), -ENOENT);
	ASSERT_OK(symlink(theirs, source));
	ASSERT_EQ(connect_to(path), -ELOOP);
	ASSERT_EQ(host_socket_open(path, &st), -ELOOP);
	/* The directory that it is in. */
	ASSERT_OK(rename(dir, away));
	ASSERT_OK(symlink(their_dir, dir));
	ASSERT_EQ(connect_to(path), -ELOOP);
	ASSERT_OK(unlink(dir));
	ASSERT_OK(mkdir(dir, 0755));
	ASSERT_OK(file_write_at(AT_FDCWD, source, "", 0, 0777, 0));
	ASSERT_EQ(connect_to(path), -ENOTSOCK);
	ASSERT(!was_called(secret));
}

TEST(a_server_may_be_restarted)
{
	_cleanup_close_ int first = serve("data", "app.sock"), second = -EBADF;
	_cleanup_free_ char *source = at("data/app.sock"), *path = host_socket_find(source);

	ASSERT_EQ(connect_to(path), 0);
	first = safe_close(first);
	ASSERT_EQ(connect_to(path), -ECONNREFUSED);
	ASSERT_OK(unlink(source));
	second = serve("data", "app.sock");
	ASSERT_EQ(connect_to(path), 0);
	ASSERT(was_called(second));
}

TEST(links_are_followed_once)
{
	_cleanup_close_ int server = serve("run/service", "app.sock");
	_cleanup_free_ char *real = at("run/service/app.sock"), *dir = at("var"), *run = at("run"),
			    *link = at("run/app.sock"), *source = at("var/app.sock"), *path = NULL;
	struct stat st;

	ASSERT_OK(symlink(run, dir));
	ASSERT_OK(symlink("service/app.sock", link));
	path = host_socket_find(source);
	ASSERT_STREQ(path, real);
	ASSERT_OK(unlink(dir));
	ASSERT_EQ(connect_to(path), 0);
	ASSERT(was_called(server));
	ASSERT_OK(chmod(real, 0640));
	{
		_cleanup_close_ int fd = host_socket_open(path, &st);

		ASSERT_OK(fd);
		ASSERT_EQ(st.st_mode & 0777, 0640);
	}
}

TEST(what_is_no_socket_is_not_found)
{
	_cleanup_free_ char *file = at("file"), *missing = at("missing"), *loop = at("loop");

	ASSERT_OK(file_write_at(AT_FDCWD, file, "", 0, 0644, 0));
	ASSERT_OK(symlink(loop, loop));
	ASSERT(!host_socket_find(file));
	ASSERT(!host_socket_find(missing));
	ASSERT(!host_socket_find(loop));
	ASSERT(!host_socket_find(test_tmpdir()));
}

TEST(paths_may_be_long)
{
	_cleanup_buf_ struct buf dir = {};
	_cleanup_close_ int server = -EBADF;
	_cleanup_free_ char *source = NULL, *path = NULL;

	for (int i = 0; i < 20; i++)
		buf_addf(&dir, "%sa-rather-long-part", i ? "/" : "");
	server = serve(dir.p, "app.sock");
	source = xasprintf("%s/%s/app.sock", test_tmpdir(), dir.p);
	path = host_socket_find(source);
	ASSERT_EQ(connect_to(path), 0);
	ASSERT(was_called(server));
}

TEST(a_full_queue_is_told)
{
	_cleanup_free_ char *dir = at("data"), *source = at("data/app.sock"), *path = NULL;
	_cleanup_close_ int d = dir_open_create(dir, 0755), server = unix_listen_at(d, "app.sock", 0);
	_cleanup_close_ int waits = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ASSERT_OK(server);
	path = host_socket_find(source);
	ASSERT_EQ(host_socket_connect(waits, path), 0);
	ASSERT_EQ(connect_to(path), -EAGAIN);
}
