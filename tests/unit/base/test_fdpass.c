#include "base/fdpass.h"

#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "test.h"

static void pair(int fds[2])
{
	ASSERT_OK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds));
}

static unsigned open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

TEST(bytes_and_descriptors_arrive)
{
	int s[2], p[2], got[4] = { -1, -1, -1, -1 };
	char text[16] = "";
	size_t n;

	pair(s);
	ASSERT_OK(pipe2(p, O_CLOEXEC));
	ASSERT_EQ(fdpass_send(s[0], "hello", 5, p, 2), 5);
	ASSERT_EQ(fdpass_recv(s[1], text, sizeof(text), got, 4, &n), 5);
	ASSERT_STREQ(text, "hello");
	ASSERT_EQ(n, 2);
	ASSERT(fcntl(got[0], F_GETFD) & FD_CLOEXEC);
	ASSERT(fcntl(got[1], F_GETFD) & FD_CLOEXEC);
	ASSERT_EQ(write(got[1], "x", 1), 1);
	ASSERT_EQ(read(p[0], text, 1), 1);
}

TEST(plain_messages_carry_none)
{
	int s[2], got[1];
	char text[16];
	size_t n = 9;

	pair(s);
	ASSERT_EQ(fdpass_send(s[0], "abc", 3, NULL, 0), 3);
	ASSERT_EQ(fdpass_recv(s[1], text, 2, got, 1, &n), 2);
	ASSERT_EQ(n, 0);
	ASSERT_EQ(fdpass_recv(s[1], text, 2, got, 1, &n), 1);
	close(s[0]);
	ASSERT_EQ(fdpass_recv(s[1], text, 2, got, 1, &n), 0);
	ASSERT_EQ(fdpass_send(s[1], "x", 1, NULL, 0), -EPIPE);
}

TEST(more_than_asked_for_are_closed)
{
	int s[2], many[FDPASS_MAX], got[FDPASS_MAX];
	unsigned before;
	char c;
	size_t n;

	pair(s);
	for (int i = 0; i < FDPASS_MAX; i++)
		many[i] = s[0];
	before = open_fds();
	ASSERT_EQ(fdpass_send(s[0], "x", 1, many, FDPASS_MAX), 1);
	ASSERT_EQ(fdpass_recv(s[1], &c, 1, got, FDPASS_MAX - 1, &n), -EMSGSIZE);
	ASSERT_EQ(n, 0);
	ASSERT_EQ(open_fds(), before);
	ASSERT_EQ(fdpass_send(s[0], "x", 1, many, FDPASS_MAX), 1);
	ASSERT_EQ(fdpass_recv(s[1], &c, 1, got, FDPASS_MAX, &n), 1);
	ASSERT_EQ(n, FDPASS_MAX);
}

TEST(more_than_we_know_of_are_closed)
{
	enum { MANY = FDPASS_MAX + 5 };
	char control[CMSG_SPACE(sizeof(int) * MANY)] = "", byte = 'x';
	struct iovec iov = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int s[2], got[FDPASS_MAX];
	unsigned before;
	size_t n;

	pair(s);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * MANY);
	for (int i = 0; i < MANY; i++)
		memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &s[0], sizeof(int));
	before = open_fds();
	ASSERT_EQ(sendmsg(s[0], &m, 0), 1);
	ASSERT_EQ(fdpass_recv(s[1], &byte, 1, got, FDPASS_MAX, &n), -EMSGSIZE);
	ASSERT_EQ(open_fds(), before);
}

TEST(descriptors_need_a_byte_to_travel_with)
{
	int s[2], fds[FDPASS_MAX + 1] = {};

	pair(s);
	ASSERT_EQ(fdpass_send(s[0], "", 0, s, 1), -EINVAL);
	ASSERT_EQ(fdpass_send(s[0], "x", 1, fds, FDPASS_MAX + 1), -EINVAL);
	ASSERT_EQ(fdpass_send(s[0], "x", 1, (int[]){ 9999 }, 1), -EBADF);
}
