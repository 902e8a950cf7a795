#include "machine/vsock.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "test.h"

enum { AGENTS_PORT = 700, ANYBODYS_PORT = 70000, LISTEN_PORT = 0x51657 };

TEST(candidates_are_steady_far_from_what_is_reserved_and_not_all_the_same)
{
	char id[33];

	for (unsigned i = 0; i < 1000; i++) {
		snprintf(id, sizeof(id), "%032x", i * 2654435761u);
		for (unsigned n = 0; n < 64; n++) {
			uint32_t cid = vsock_candidate(id, n);

			ASSERT(cid >= 0x10000 && cid < 0x80000000u);
			ASSERT_EQ(cid, vsock_candidate(id, n));
			for (unsigned k = 0; k < n; k++)
				ASSERT(vsock_candidate(id, k) != cid);
		}
	}
}

TEST(the_agent_has_the_machines_address_and_a_privileged_port)
{
	struct sockaddr_vm a = { .svm_family = AF_VSOCK, .svm_cid = 77777, .svm_port = 1023 };

	ASSERT(vsock_is_agent(&a, 77777));
	ASSERT(!vsock_is_agent(&a, 77778));
	a.svm_port = 1024;
	ASSERT(!vsock_is_agent(&a, 77777));
	a.svm_port = VMADDR_PORT_ANY;
	ASSERT(!vsock_is_agent(&a, 77777));
	a.svm_port = 5;
	a.svm_family = AF_UNIX;
	ASSERT(!vsock_is_agent(&a, 77777));
}

static void need_vsock(void)
{
	const char *why;

	if (!vsock_usable(&why))
		test_skip("%s", why);
}

TEST(an_address_belongs_to_one_machine_until_its_engine_ends)
{
	int first, second;

	need_vsock();
	first = vsock_take(0x12345);
	ASSERT_OK(first);
	ASSERT_EQ(vsock_take(0x12345), -EADDRINUSE);
	second = vsock_take(0x12346);
	ASSERT_OK(second);
	close(first);
	first = vsock_take(0x12345);
	ASSERT_OK(first);
	/* The host's own is nobody's. */
	ASSERT(vsock_take(VMADDR_CID_HOST) < 0);
	close(first);
	close(second);
}

TEST(a_port_has_one_listener)
{
	int first;

	need_vsock();
	first = vsock_listen(LISTEN_PORT);
	ASSERT_OK(first);
	ASSERT_EQ(vsock_listen(LISTEN_PORT), -EADDRINUSE);
	close(first);
	first = vsock_listen(LISTEN_PORT);
	ASSERT_OK(first);
	close(first);
}

static void on_connected(int fd, void *data)
{
	int *last = data;

	if (*last >= 0)
		close(*last);
	*last = fd;
}

/* Calls the listener from @port over the loopback, as a guest would; lets it look. */
static int call(struct loop *l, uint32_t port)
{
	struct sockaddr_vm from = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port };
	struct sockaddr_vm to = { .svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_HOST, .svm_port = LISTEN_PORT };
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ASSERT_OK(fd);
	if (bind(fd, (struct sockaddr *)&from, sizeof(from)) < 0)
		test_skip("port %u: %s", port, strerror(errno));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		test_skip("this host cannot call itself over vsock: %s", strerror(errno));
	ASSERT_OK(loop_step(l, clock_monotonic_ns() + 100 * NS_PER_SEC));
	return fd;
}

static bool closed(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char c;

	return poll(&p, 1, 100000) == 1 && recv(fd, &c, 1, 0) <= 0;
}

TEST(only_the_agent_is_let_in)
{
	struct vsock_listener *v, *strict;
	int connected = -1, fd, first;
	struct loop *l;
	char c = 0;

	need_vsock();
	ASSERT_OK(loop_new(&l));
	fd = vsock_listen(LISTEN_PORT);
	ASSERT_OK(fd);
	ASSERT_OK(vsock_listener_new(l, fd, VMADDR_CID_LOCAL, on_connected, &connected, &v));
	fd = call(l, ANYBODYS_PORT);
	ASSERT(closed(fd));
	ASSERT_EQ(connected, -1);
	close(fd);
	first = call(l, AGENTS_PORT);
	ASSERT(connected >= 0);
	ASSERT_EQ(send(first, "x", 1, MSG_NOSIGNAL), 1);
	ASSERT_EQ(poll(&(struct pollfd){ .fd = connected, .events = POLLIN }, 1, 100000), 1);
	ASSERT_EQ(recv(connected, &c, 1, 0), 1);
	ASSERT_EQ(c, 'x');
	close(first);
	close(connected);
	connected = -1;
	v = vsock_listener_free(v);

	/* The same caller where another machine's agent is waited for. */
	fd = vsock_listen(LISTEN_PORT);
	ASSERT_OK(fd);
	ASSERT_OK(vsock_listener_new(l, fd, 0x12345, on_connected, &connected, &strict));
	fd = call(l, AGENTS_PORT + 1);
	ASSERT(closed(fd));
	ASSERT_EQ(connected, -1);
	close(fd);
	vsock_listener_free(strict);
	loop_free(l);
}
