/* The loopback of a network namespace, led elsewhere: whatever port is connected to there, it comes to us, and nothing else does. */
#include "net/loopback.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/memory.h"
#include "netns.h"
#include "test.h"

enum { TIMEOUT_MS = 60000 };

union address {
	struct sockaddr a;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

static union address loopback(int family, uint16_t port)
{
	union address u = {};

	if (family == AF_INET)
		u.v4 = (struct sockaddr_in){ AF_INET, htons(port), { htonl(INADDR_LOOPBACK) }, {} };
	else
		u.v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6,
					      .sin6_port = htons(port),
					      .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	return u;
}

static socklen_t length(const union address *u)
{
	return u->a.sa_family == AF_INET ? sizeof(u->v4) : sizeof(u->v6);
}

/* A socket in the namespace, connected; -errno. */
static int dial(int ns, const union address *u)
{
	int before = netns_enter(ns), fd = socket(u->a.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0), r;

	netns_leave(before);
	ASSERT_OK(fd);
	r = connect(fd, &u->a, length(u)) < 0 ? -errno : 0;
	if (r == 0)
		return fd;
	close(fd);
	return r;
}

static void check_led(const struct net_loopback *l, int ns, int family, uint16_t port)
{
	union address to = loopback(family, port), was = {};
	struct pollfd p = { .fd = l->listeners[family == AF_INET6], .events = POLLIN };
	_cleanup_close_ int client = dial(ns, &to), server = -EBADF;
	socklen_t n = sizeof(was);
	char c = 0;

	ASSERT_OK(client);
	ASSERT_EQ(poll(&p, 1, TIMEOUT_MS), 1);
	server = accept4(p.fd, NULL, NULL, SOCK_CLOEXEC);
	ASSERT_OK(server);
	ASSERT_EQ(getsockname(server, &was.a, &n), 0);
	ASSERT_EQ(ntohs(family == AF_INET ? was.v4.sin_port : was.v6.sin6_port), port);
	ASSERT_EQ(send(client, "x", 1, 0), 1);
	ASSERT_EQ(recv(server, &c, 1, 0), 1);
	ASSERT_EQ(c, 'x');
	ASSERT_EQ(send(server, "y", 1, 0), 1);
	ASSERT_EQ(recv(client, &c, 1, 0), 1);
	ASSERT_EQ(c, 'y');
}

static struct net_loopback open_or_skip(int ns)
{
	_cleanup_error_ struct error e = {};
	struct net_loopback l;
	int r = net_loopback_open(ns, &l, &e);

	if (r == -EPERM || r == -EINVAL || r == -ENOSYS)
		test_skip("no programs for sockets here: %s", e.msg);
	if (r < 0)
		test_fail(__FILE__, __LINE__, "%s", e.msg);
	return l;
}

TEST(every_port_of_both_families_is_led)
{
	static const uint16_t ports[] = { 1, 80, 8080, 65535 };
	int ns = netns_new();
	struct net_loopback l = open_or_skip(ns);

	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		check_led(&l, ns, AF_INET, ports[i]);
		check_led(&l, ns, AF_INET6, ports[i]);
	}
	net_loopback_close(&l);
}

TEST(other_addresses_and_other_namespaces_are_left_alone)
{
	int ns = netns_new(), other = netns_new();
	struct net_loopback l = open_or_skip(ns);
	union address to = loopback(AF_INET, 80);

	ASSERT_EQ(dial(other, &to), -ECONNREFUSED);
	netns_run(ns, "ip address add 10.9.8.7/32 dev lo");
	to.v4.sin_addr.s_addr = htonl(0x0a090807);
	ASSERT_EQ(dial(ns, &to), -ECONNREFUSED);
	netns_run(ns, "ip address add fd00::7/128 dev lo nodad");
	to = loopback(AF_INET6, 80);
	to.v6.sin6_addr.s6_addr[0] = 0xfd;
	to.v6.sin6_addr.s6_addr[15] = 7;
	ASSERT_EQ(dial(ns, &to), -ECONNREFUSED);
	net_loopback_close(&l);
}

TEST(nothing_is_left_once_it_is_closed)
{
	int ns = netns_new();
	struct net_loopback l = open_or_skip(ns);
	union address to = loopback(AF_INET, 80);

	net_loopback_close(&l);
	net_loopback_close(&l);
	ASSERT_EQ(dial(ns, &to), -ECONNREFUSED);
	/* And again. */
	l = open_or_skip(ns);
	check_led(&l, ns, AF_INET, 80);
	net_loopback_close(&l);
}
