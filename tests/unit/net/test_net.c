#include "net/net.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/process.h"
#include "base/spawn.h"
#include "test.h"

TEST(the_table_knows_user_and_none)
{
	ASSERT(net_mode_find("user") && net_mode_find("none"));
	ASSERT(!net_mode_find("") && !net_mode_find("users"));
	for (size_t i = 0; net_mode_at(i); i++)
		ASSERT(net_mode_find(net_mode_at(i)->name) == net_mode_at(i));
}

TEST(a_mac_is_stable_local_and_its_own)
{
	char a[18], b[18];

	net_mac_from_id("0123456789abcdef0123456789abcdef", 0, a);
	ASSERT_STREQ(a, "02:71:8d:47:0c:86");
	net_mac_from_id("0123456789abcdef0123456789abcdef", 1, b);
	ASSERT(strcmp(a, b) != 0);
	for (int i = 0; i < 2000; i++) {
		char id[33];

		snprintf(id, sizeof(id), "%032x", i);
		net_mac_from_id(id, 0, b);
		ASSERT_EQ(strlen(b), 17);
		ASSERT(strncmp(b, "02:", 3) == 0);
		ASSERT(strcmp(a, b) != 0);
	}
}

TEST(mode_none_attaches_nothing_and_publishes_nothing)
{
	const struct net_mode *m = net_mode_find("none");
	struct net_publish p = { .ip = "127.0.0.1", .guest_port = 80 };
	struct net_request req = { .machine_id = "x", .log_fd = -1 };
	struct net_plan plan = {};
	struct error e = {};
	pid_t pid;
	int fd, pidfd;

	ASSERT_OK(m->plan(&req, &plan, &e));
	ASSERT_EQ(plan.kind, NET_ATTACH_NONE);
	ASSERT_OK(m->prepare(&req, &plan, &fd, &pid, &pidfd, &e));
	ASSERT_EQ(fd, -1);
	m->release(&req);
	net_plan_done(&plan);
	req.publish = &p;
	req.n_publish = 1;
	ASSERT_EQ(m->plan(&req, &plan, &e), -EINVAL);
	ASSERT_EQ(e.kind, ERROR_CONFIG);
	error_done(&e);
}

static struct net_plan user_plan(const struct net_publish *p, size_t n)
{
	struct net_request req = { .machine_id = "0123456789abcdef0123456789abcdef", .publish = p, .n_publish = n };
	struct net_plan plan = {};

	ASSERT_OK(net_mode_find("user")->plan(&req, &plan, NULL));
	ASSERT_EQ(plan.addresses.n, 1);
	ASSERT_STREQ(plan.addresses.items[0], "10.0.2.15/24");
	ASSERT_STREQ(plan.gateway, "10.0.2.2");
	ASSERT_STREQ(plan.mac, "02:71:8d:47:0c:86");
	return plan;
}

TEST(without_passt_the_plan_is_qemus_networking_with_the_same_addresses)
{
	struct net_publish p[] = { { .ip = "127.0.0.1", .host_port = 8080, .guest_port = 80 },
				   { .ip = "0.0.0.0", .host_port = 53, .guest_port = 5353, .udp = true } };
	struct net_plan plan;
	int root;

	/* No directory has the program: the search goes beyond PATH, so only an empty root would hide it for certain. */
	if (access("/usr/bin/passt", X_OK) == 0 && geteuid() != 0)
		test_skip("passt is installed and cannot be hidden without root");
	root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	ASSERT_OK(root);
	if (access("/usr/bin/passt", X_OK) == 0 && (chroot(test_tmpdir()) < 0 || chdir("/") < 0))
		test_skip("cannot change the root");
	plan = user_plan(p, 2);
	if (geteuid() == 0) {
		ASSERT_OK(fchdir(root));
		ASSERT_OK(chroot("."));
	}
	close(root);
	ASSERT_EQ(plan.kind, NET_ATTACH_USER);
	ASSERT_EQ(plan.host_forwards.n, 2);
	ASSERT_STREQ(plan.host_forwards.items[0], "tcp:127.0.0.1:8080-:80");
	ASSERT_STREQ(plan.host_forwards.items[1], "udp:0.0.0.0:53-:5353");
	ASSERT_EQ(plan.helper_argv.n, 0);
	net_plan_done(&plan);
}

TEST(an_ipv6_port_is_refused_in_mode_user)
{
	struct net_publish p = { .ip = "::1", .host_port = 1, .guest_port = 1 };
	struct net_request req = { .machine_id = "x", .publish = &p, .n_publish = 1 };
	struct net_plan plan = {};
	struct error e = {};

	ASSERT(net_mode_find("user")->plan(&req, &plan, &e) < 0);
	ASSERT_EQ(e.kind, ERROR_CONFIG);
	ASSERT_CONTAINS(e.msg, "::1");
	error_done(&e);
}

TEST(a_published_tcp_port_never_meets_a_passt_that_leaves_handshakes_open)
{
	struct net_publish p = { .ip = "127.0.0.1", .host_port = 8080, .guest_port = 80 };
	_cleanup_free_ char *passt = program_find("passt");
	_cleanup_buf_ struct buf program = {};
	struct net_plan plan;

	if (!passt)
		test_skip("passt is not installed");
	ASSERT_OK(file_read_at(AT_FDCWD, passt, 8 << 20, &program));
	plan = user_plan(&p, 1);
	if (!memmem(program.p, program.len, "map-host-loopback", 17))
		ASSERT_EQ(plan.kind, NET_ATTACH_USER);
	net_plan_done(&plan);
}

static void send_frame(int fd, const unsigned char *p, size_t n)
{
	unsigned char head[4] = { 0, 0, (unsigned char)(n >> 8), (unsigned char)n };

	ASSERT_EQ(write(fd, head, 4), 4);
	ASSERT_EQ(write(fd, p, n), (long long)n);
}

/* Reads @n bytes, in as many pieces as they come. */
static bool arrives(int fd, unsigned char *p, size_t n, uint64_t deadline_ns)
{
	while (n > 0) {
		struct pollfd pfd = { .fd = fd, .events = POLLIN };
		ssize_t got;

		if (poll(&pfd, 1, clock_poll_timeout(deadline_ns)) <= 0)
			return false;
		got = read(fd, p, n);
		if (got <= 0)
			return false;
		p += got;
		n -= (size_t)got;
	}
	return true;
}

/* Reads framed packets until one is an ARP reply from the gateway. */
static bool answers_arp(int fd, uint64_t deadline_ns)
{
	static const unsigned char who_has[42] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0,  0, 0, 0,  1, 8, 6, 0, 1, 8, 0,  6, 4, 0,
		1,    2,    0,    0,    0,    0,    1, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2,
	};
	unsigned char head[4], in[70000];

	send_frame(fd, who_has, sizeof(who_has));
	while (arrives(fd, head, sizeof(head), deadline_ns)) {
		size_t n = (size_t)head[2] << 8 | head[3];

		if (!arrives(fd, in, n, deadline_ns))
			return false;
		if (n >= 42 && in[12] == 8 && in[13] == 6 && in[21] == 2 && in[28] == 10 && in[31] == 2)
			return true;
	}
	return false;
}

static void passt_serves(void)
{
	/* UDP: every build of passt can do that. */
	struct net_publish p = { .ip = "127.0.0.1", .guest_port = 80, .udp = true };
	struct net_request req = { .machine_id = "0123456789abcdef0123456789abcdef", .log_fd = 2 };
	const struct net_mode *m = net_mode_find("user");
	struct net_plan plan;
	struct error e = {};
	int fd, pidfd;
	pid_t pid;

	ASSERT_OK(net_publish_resolve(&p, NULL));
	plan = user_plan(&p, 1);
	if (plan.kind != NET_ATTACH_STREAM)
		test_skip("passt is not usable here");
	req.publish = &p;
	req.n_publish = 1;
	ASSERT_EQ(plan.host_forwards.n, 0);
	ASSERT(strv_has(&plan.helper_argv, "--no-map-gw"));
	ASSERT_OK(m->prepare(&req, &plan, &fd, &pid, &pidfd, &e));
	ASSERT(fd >= 0 && pid > 0 && pidfd >= 0);
	ASSERT(answers_arp(fd, clock_monotonic_ns() + 100 * NS_PER_SEC));
	/* It listens for the published port by now. */
	ASSERT_EQ(net_publish_resolve(&p, NULL), -EADDRINUSE);
	/* The end of the engine is its end. */
	close(fd);
	ASSERT_OK(pidfd_wait_exit(pidfd, clock_monotonic_ns() + 100 * NS_PER_SEC));
	ASSERT_OK(pidfd_reap(pidfd, NULL));
	close(pidfd);
	m->release(&req);
	net_plan_done(&plan);
}

TEST(passt_answers_for_the_gateway_and_ends_with_the_engine)
{
	passt_serves();
}

TEST(passt_does_so_for_an_ordinary_user)
{
	if (geteuid() != 0)
		test_skip("this is the ordinary user's test already");
	ASSERT_OK(setgid(65534));
	ASSERT_OK(setuid(65534));
	passt_serves();
}
