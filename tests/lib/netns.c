#include "netns.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/spawn.h"
#include "test.h"

#define PATIENCE_NS (120 * NS_PER_SEC)

int netns_enter(int ns)
{
	int before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);

	if (before < 0 || setns(ns, CLONE_NEWNET) < 0)
		test_fail(__FILE__, __LINE__, "cannot enter a network namespace: %s", strerror(errno));
	return before;
}

void netns_leave(int before)
{
	if (setns(before, CLONE_NEWNET) < 0)
		test_fail(__FILE__, __LINE__, "cannot go back: %s", strerror(errno));
	close(before);
}

int netns_new(void)
{
	_cleanup_free_ char *ip = program_find("ip"), *tc = program_find("tc");
	int before, ns;

	if (geteuid() != 0)
		test_skip("needs root");
	if (!ip || !tc)
		test_skip("needs iproute2");
	before = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	ASSERT_OK(before);
	if (unshare(CLONE_NEWNET) < 0)
		test_skip("no network namespaces: %s", strerror(errno));
	ns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	netns_leave(before);
	ASSERT_OK(ns);
	netns_run(ns, "ip link set lo up");
	return ns;
}

static int run(int ns, const char *command, struct buf *out, struct buf *errout)
{
	_cleanup_strv_ struct strv words = {};
	struct spawn s = SPAWN_INIT;
	struct error e = {};
	int status = -1, before;

	for (const char *p = command; *p;) {
		size_t n = strcspn(p, " ");

		strv_take(&words, xstrndup(p, n));
		p += n + (p[n] == ' ');
	}
	s.argv = (const char *const *)words.items;
	before = netns_enter(ns);
	if (spawn_run(&s, NULL, out, errout, 1 << 20, PATIENCE_NS, &status, &e) < 0)
		test_fail(__FILE__, __LINE__, "%s: %s", command, e.msg);
	netns_leave(before);
	return status;
}

void netns_run(int ns, const char *command, ...)
{
	_cleanup_buf_ struct buf errout = {};
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, command);
	text = xvasprintf(command, ap);
	va_end(ap);
	if (run(ns, text, NULL, &errout) != 0)
		test_fail(__FILE__, __LINE__, "%s: %s", text, errout.p ? errout.p : "");
}

int netns_try(int ns, const char *command, ...)
{
	_cleanup_free_ char *text = NULL;
	va_list ap;

	va_start(ap, command);
	text = xvasprintf(command, ap);
	va_end(ap);
	return run(ns, text, NULL, NULL);
}

char *netns_output(int ns, const char *command)
{
	_cleanup_buf_ struct buf out = {};

	(void)run(ns, command, &out, NULL);
	return buf_take(&out);
}

char *netns_picture(int ns, const char *interface)
{
	static const char *const commands[] = { "ip -d link",
						"ip address",
						"ip route show table all",
						"ip -6 route show table all",
						"ip neighbour show nud permanent",
						"tc qdisc" };
	_cleanup_free_ char *filters = xasprintf("tc filter show dev %s ingress", interface);
	_cleanup_buf_ struct buf all = {};

	for (size_t i = 0; i <= ARRAY_SIZE(commands); i++) {
		const char *command = i < ARRAY_SIZE(commands) ? commands[i] : filters;
		_cleanup_free_ char *out = netns_output(ns, command);

		buf_addf(&all, "== %s\n%s", command, out);
	}
	return buf_take(&all);
}

int netns_listen(int ns, unsigned groups)
{
	const struct sockaddr_nl changes = { .nl_family = AF_NETLINK, .nl_groups = groups };
	int before = netns_enter(ns), fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	ASSERT_OK(fd);
	ASSERT_EQ(bind(fd, (const struct sockaddr *)&changes, sizeof(changes)), 0);
	netns_leave(before);
	return fd;
}

bool netns_heard(int fd, uint64_t deadline_ns)
{
	struct pollfd p = { fd, POLLIN, 0 };
	char event[4096];

	if (poll(&p, 1, clock_poll_timeout(deadline_ns)) <= 0)
		return false;
	/* That there were more than there is room for is as good. */
	ASSERT(read(fd, event, sizeof(event)) > 0 || errno == ENOBUFS);
	return true;
}

/* The kernel looks at the carrier in the background: until it has, whatever is sent there is dropped, and there is no link-local address. */
static void carries(int ns, const char *name)
{
	uint64_t deadline = clock_monotonic_ns() + PATIENCE_NS;
	_cleanup_free_ char *command = xasprintf("ip -o link show dev %s", name);
	_cleanup_close_ int changes = netns_listen(ns, RTMGRP_LINK);

	for (;;) {
		_cleanup_free_ char *now = netns_output(ns, command);

		if (strstr(now, " state UP "))
			return;
		if (!netns_heard(changes, deadline))
			test_fail(__FILE__, __LINE__, "no carrier: %s", now);
	}
}

void netns_pair(int inside, const char *name, int outside, const char *peer)
{
	netns_run(outside, "ip link add %s type veth peer name %s", peer, name);
	netns_run(outside, "ip link set %s netns /proc/%d/fd/%d", name, getpid(), inside);
	netns_run(outside, "ip link set %s up", peer);
	netns_run(inside, "ip link set %s up", name);
	carries(outside, peer);
	carries(inside, name);
}
